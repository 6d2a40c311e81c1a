# SPDX-License-Identifier: BSD-3-Clause
"""Features and protocol features: what is offered, what may be set, and when the rings are enabled
by it."""

import pytest

from vhostuser import BlkDisk, Frontend, GuestMemory, PF, Queue, Req, F
from vhostuser import blk
from vhostuser import protocol as p
from vhostuser.split import SplitRing

REQUIRED = (F.BLK_SIZE_MAX, F.BLK_SEG_MAX, F.BLK_BLK_SIZE, F.BLK_FLUSH, F.BLK_TOPOLOGY,
            F.BLK_CONFIG_WCE, F.BLK_MQ,
            F.LOG_ALL, F.INDIRECT_DESC, F.EVENT_IDX, F.PROTOCOL_FEATURES, F.VERSION_1,
            F.RING_PACKED, F.IN_ORDER)
REQUIRED_PROTOCOL = (PF.MQ, PF.LOG_SHMFD, PF.REPLY_ACK, PF.BACKEND_REQ, PF.CONFIG,
                     PF.INFLIGHT_SHMFD, PF.RESET_DEVICE,
                     PF.CONFIGURE_MEM_SLOTS, PF.STATUS)


@pytest.fixture
def bare(stage, opened):
    """A connection on which nothing was said yet."""
    session = BlkDisk(stage.path("plain"))
    opened.later(session)
    return session


def test_every_feature_of_the_device_is_offered(bare):
    offered = bare.ask_u64(Req.GET_FEATURES)
    assert p.name_bits(p.bits(*REQUIRED) & ~offered, F) == []
    assert not offered >> F.BLK_RO & 1


def test_features_that_nobody_implements_are_not_offered(bare):
    offered = bare.ask_u64(Req.GET_FEATURES)
    known = p.bits(*F)
    assert p.name_bits(offered & ~known, F) == []
    assert not offered >> F.ACCESS_PLATFORM & 1


def test_the_offer_does_not_change_by_what_was_set(bare):
    before = bare.ask_u64(Req.GET_FEATURES)
    bare.negotiate()
    assert bare.ask_u64(Req.GET_FEATURES) == before


def test_every_protocol_feature_is_offered(bare):
    offered = bare.ask_u64(Req.GET_PROTOCOL_FEATURES)
    assert p.name_bits(p.bits(*REQUIRED_PROTOCOL) & ~offered, PF) == []


def test_protocol_features_for_other_devices_and_postcopy_are_not_offered(bare):
    offered = bare.ask_u64(Req.GET_PROTOCOL_FEATURES)
    for bit in (PF.PAGEFAULT, PF.CRYPTO_SESSION, PF.RARP, PF.MTU, PF.XEN_MMAP, PF.SHARED_OBJECT,
                PF.CROSS_ENDIAN, PF.GPA_ADDRESSES, PF.SHMEM):
        assert not offered >> bit & 1, bit.name
    assert offered < 1 << 24


def test_protocol_features_may_be_asked_and_set_before_features_and_owner(bare):
    offered = bare.ask_u64(Req.GET_PROTOCOL_FEATURES)
    bare.wire.send(Req.SET_PROTOCOL_FEATURES, p.U64.pack(offered & p.bits(PF.REPLY_ACK, PF.MQ)))
    assert bare.ack(Req.SET_OWNER) == 0
    assert bare.ask_u64(Req.GET_QUEUE_NUM) == 4


def test_a_feature_that_was_not_offered_is_refused(bare, refused):
    bare.negotiate()
    refused(bare, Req.SET_FEATURES, p.U64.pack(bare.features | 1 << F.ACCESS_PLATFORM))


def test_a_protocol_feature_that_was_not_offered_is_refused(bare, refused):
    bare.negotiate()
    refused(bare, Req.SET_PROTOCOL_FEATURES, p.U64.pack(bare.protocol | 1 << PF.PAGEFAULT))


def test_reply_ack_may_be_negotiated_away_and_back(bare):
    bare.negotiate()
    assert bare.ack(Req.SET_PROTOCOL_FEATURES, p.U64.pack(bare.protocol)) == 0
    bare.wire.send(Req.SET_PROTOCOL_FEATURES, p.U64.pack(bare.protocol & ~p.bits(PF.REPLY_ACK)))
    bare.wire.send(Req.SET_VRING_ENABLE, p.VRING_STATE.pack(0, 1), need_reply=True)
    bare.fence()
    bare.wire.send(Req.SET_PROTOCOL_FEATURES, p.U64.pack(bare.protocol))
    bare.fence()
    assert bare.ack(Req.SET_VRING_ENABLE, p.VRING_STATE.pack(0, 1)) == 0


def test_protocol_features_may_change_while_rings_run(plain):
    disk = plain()
    disk.tell(Req.SET_PROTOCOL_FEATURES, p.U64.pack(disk.protocol & ~p.bits(PF.STATUS)))
    disk.write(0, b"a" * 512)
    disk.tell(Req.SET_PROTOCOL_FEATURES, p.U64.pack(disk.protocol))
    assert disk.read(0, 512) == b"a" * 512


def test_a_front_end_without_protocol_features_has_its_rings_enabled_by_set_features(plain):
    disk = plain(protocol=())
    assert not disk.features >> F.PROTOCOL_FEATURES & 1
    disk.write(16, b"b" * 4096)
    assert disk.read(16, 4096) == b"b" * 4096


def test_set_features_without_bit_30_enables_rings_that_run_already(plain):
    disk = plain(enable=False)
    request, = disk.submit([disk.prepare(blk.T_IN, in_bytes=512)])
    assert disk.reap(timeout=0.2) == []
    disk.set_features(disk.features & ~p.bits(F.PROTOCOL_FEATURES))
    disk.wait([request])
    assert request.status == blk.S_OK


def test_set_features_without_bit_30_enables_rings_started_later(bare):
    bare.negotiate()
    bare.set_features(bare.features & ~p.bits(F.PROTOCOL_FEATURES))
    bare.set_mem_table(GuestMemory())
    for index in (0, 3):
        bare.start_queue(Queue(index, SplitRing(bare.mem, 64)), enable=False)
        bare.read(0, 512, queue=index)


def test_with_bit_30_a_ring_is_disabled_until_it_is_enabled(plain):
    disk = plain(enable=False)
    request, = disk.submit([disk.prepare(blk.T_IN, in_bytes=512)])
    assert disk.reap(timeout=0.2) == []
    # No kick comes any more: enabling is what makes the device look.
    disk.set_vring_enable(0)
    disk.wait([request])
    assert request.status == blk.S_OK


def test_a_ring_may_be_disabled_and_enabled_again(plain):
    disk = plain()
    disk.read(0, 512)
    disk.set_vring_enable(0, False)
    request, = disk.submit([disk.prepare(blk.T_IN, in_bytes=512)])
    assert disk.reap(timeout=0.2) == []
    disk.set_vring_enable(0)
    disk.wait([request])


def test_enable_is_remembered_while_the_ring_is_stopped(bare):
    bare.negotiate()
    bare.set_mem_table(GuestMemory())
    bare.set_vring_enable(0)
    bare.start_queue(Queue(0, SplitRing(bare.mem, 64)), enable=False)
    assert len(bare.read(0, 512)) == 512


def test_the_number_of_queues_is_the_configured_one(bare, stage):
    bare.negotiate()
    assert bare.ask_u64(Req.GET_QUEUE_NUM) == 4
    assert bare.config("num_queues") == 4
    with Frontend(stage.path("null")) as other:
        other.negotiate()
        assert other.ask_u64(Req.GET_QUEUE_NUM) == 2


def test_a_read_only_disk_says_so_and_cannot_be_talked_out_of_it(stage, opened):
    disk = opened(stage.path("readonly"), features=(F.BLK_RO,))
    assert disk.run(blk.T_OUT, 0, out=b"x" * 512)[0] == blk.S_IOERR
    assert disk.read(0, 512) == bytes(512)


def test_a_driver_that_ignores_read_only_still_cannot_write(stage, opened):
    disk = opened(stage.path("readonly"))
    assert disk.offered >> F.BLK_RO & 1
    assert disk.run(blk.T_OUT, 0, out=b"x" * 512)[0] == blk.S_IOERR
    assert disk.read(0, 512) == bytes(512)


def test_features_may_be_set_again_while_no_ring_runs(bare):
    bare.negotiate()
    bare.set_features(bare.features | p.bits(F.EVENT_IDX))
    bare.set_features(bare.features & ~p.bits(F.EVENT_IDX))
    bare.set_mem_table(GuestMemory())
    bare.start_queue(Queue(0, bare.new_ring(32)))
    bare.read(0, 512)
