# SPDX-License-Identifier: BSD-3-Clause
"""Requests out of order, repeated, for rings that do not exist, or with values that make no
sense."""

import os
from contextlib import suppress

import pytest

from scene import expect_refusal
from vhostuser import BlkDisk, Closed, EventFd, F, GuestMemory, Queue, Req, pattern
from vhostuser import blk
from vhostuser import protocol as p


def test_a_kick_before_memory_starts_nothing(scene):
    disk = scene.bare()
    event = EventFd()
    expect_refusal(disk, Req.SET_VRING_KICK, p.U64.pack(0), [event.fd])
    event.signal()
    event.close()
    scene.reason(r"memory|ring|KICK")


@pytest.mark.parametrize("missing", ["num", "addr"])
def test_a_kick_before_the_ring_is_configured_starts_nothing(scene, missing):
    disk = scene.bare()
    disk.set_mem_table(GuestMemory())
    queue = Queue(0, disk.new_ring(16))
    disk.queues[0] = queue
    if missing != "num":
        disk.set_vring_num(0, 16)
    if missing != "addr":
        disk.set_vring_addr(0, queue.ring)
    queue.kick.signal()
    expect_refusal(disk, Req.SET_VRING_KICK, p.U64.pack(0), [queue.kick.fd])
    scene.reason(r"ring|size|address|KICK")


def test_an_address_before_memory_is_refused(scene):
    disk = scene.bare()
    mem = GuestMemory()
    desc, used, avail = (mem.uva(mem.alloc(4096, 4096)) for _ in range(3))
    expect_refusal(disk, Req.SET_VRING_ADDR, p.VRING_ADDR.pack(0, 0, desc, used, avail, 0))
    mem.close()
    scene.reason(r"memory|address|ADDR")


def test_enable_without_bit_30_is_refused(scene):
    """Before SET_FEATURES it is remembered, as QEMU and virtio-user need it for network ports."""
    disk = BlkDisk(scene.path)
    scene.sessions.append(disk)
    offered = disk.ask_u64(Req.GET_PROTOCOL_FEATURES)
    disk.wire.send(Req.SET_PROTOCOL_FEATURES, p.U64.pack(offered & p.bits(3)))
    assert disk.ack(Req.SET_VRING_ENABLE, p.VRING_STATE.pack(0, 1)) == 0
    disk.wire.send(Req.SET_FEATURES, p.U64.pack(p.bits(F.VERSION_1)))
    expect_refusal(disk, Req.SET_VRING_ENABLE, p.VRING_STATE.pack(0, 1))


def test_owner_twice_is_refused_or_borne(scene):
    disk = scene.open()
    for _ in range(3):
        disk.ack(Req.SET_OWNER)
    scene.goes_on(disk)


def test_features_of_the_ring_format_do_not_change_while_rings_run(scene):
    disk = scene.open()
    scene.goes_on(disk)
    outcome = expect_refusal(disk, Req.SET_FEATURES,
                             p.U64.pack(disk.features ^ p.bits(F.RING_PACKED)))
    scene.reason(r"feature")
    if outcome == "error":
        scene.goes_on(disk)


@pytest.mark.parametrize("index", [4, 5, 127, 128, 255, 256, 0x10000, 0x80000000, 0xffffffff])
@pytest.mark.parametrize("request_", [Req.SET_VRING_NUM, Req.SET_VRING_BASE, Req.SET_VRING_ENABLE,
                                      Req.GET_VRING_BASE,
                                      Req.SET_VRING_ADDR], ids=lambda value: value.name)
def test_a_ring_index_out_of_range_is_refused_and_not_truncated(scene, request_, index):
    disk = scene.open(queues=1)
    payload = p.VRING_STATE.pack(index, 0 if request_ == Req.GET_VRING_BASE else 1)
    if request_ == Req.SET_VRING_ADDR:
        payload = p.VRING_ADDR.pack(index, 0, *disk.queues[0].ring.addresses(), 0)
    try:
        disk.wire.send(request_, payload, need_reply=True)
        reply = disk.wire.recv_reply(request_)
        if request_ != Req.GET_VRING_BASE:
            assert reply.u64 != 0
        elif reply.payload:
            assert struct_of(reply) != (index, 0)
    except Closed:
        pass
    else:
        scene.goes_on(disk)
    scene.reason(r"ring|index")


def struct_of(reply):
    return p.VRING_STATE.unpack(reply.payload) if len(reply.payload) == 8 else None


@pytest.mark.parametrize("index", [4, 127, 255])
@pytest.mark.parametrize("request_", [Req.SET_VRING_KICK, Req.SET_VRING_CALL, Req.SET_VRING_ERR],
                         ids=lambda value: value.name)
def test_a_descriptor_for_a_ring_out_of_range_is_refused_and_closed(scene, request_, index):
    disk = scene.open(queues=1)
    before = scene.stage.figures()
    event = EventFd()
    outcome = expect_refusal(disk, request_, p.U64.pack(index), [event.fd])
    event.close()
    assert scene.stage.wait_settled(before) == ""
    if outcome == "error":
        scene.goes_on(disk)
    scene.reason(r"ring|index")


@pytest.mark.parametrize("request_", [Req.SET_VRING_KICK, Req.SET_VRING_CALL, Req.SET_VRING_ERR],
                         ids=lambda value: value.name)
def test_reserved_bits_beside_a_ring_index_do_not_make_another_ring(scene, request_):
    """Bits 0-7 are the index and bit 8 is the flag: 0x200 is nonsense or ring 0, never ring 512."""
    disk = scene.open(queues=1)
    event = EventFd()
    with suppress(Closed):
        disk.wire.send(request_, p.U64.pack(0x1_0000_0000), [event.fd], need_reply=True)
        disk.wire.recv_reply(request_)
    event.close()


@pytest.mark.parametrize("num", [0, 3, 100, 65535, 65536, 65536 + 64, 0x80000000, 0xffffffff])
def test_a_split_ring_size_that_cannot_be_is_refused(scene, num):
    disk = scene.bare()
    disk.set_mem_table(GuestMemory())
    queue = Queue(0, disk.new_ring(64))
    with suppress(Closed):
        if disk.ack(Req.SET_VRING_NUM, p.VRING_STATE.pack(0, num)) == 0:
            # The format may be known later: then starting it is refused.
            disk.tell(Req.SET_VRING_ADDR, p.VRING_ADDR.pack(0, 0, *queue.ring.addresses(), 0))
            assert num < 65536
            expect_refusal(disk, Req.SET_VRING_KICK, p.U64.pack(0), [queue.kick.fd])
    queue.close()
    scene.reason(r"size|entries|power")


def test_a_ring_size_set_again_and_again_costs_nothing(scene):
    disk = scene.bare()
    disk.set_mem_table(GuestMemory())
    before = scene.stage.figures()
    for i in range(300):
        disk.set_vring_num(0, 1 << (i % 10 + 1))
    assert scene.stage.figures().growth(before) == ""
    disk.start_queue(Queue(0, disk.new_ring(64)))
    scene.goes_on(disk)


def test_a_ring_size_on_a_running_ring_changes_nothing(scene):
    disk = scene.open()
    outcome = expect_refusal(disk, Req.SET_VRING_NUM, p.VRING_STATE.pack(0, 8))
    scene.reason(r"run|start|stop")
    if outcome == "error":
        scene.goes_on(disk)


def test_a_base_on_a_running_ring_changes_nothing(scene):
    disk = scene.open()
    disk.read(0, 512)
    outcome = expect_refusal(disk, Req.SET_VRING_BASE, p.VRING_STATE.pack(0, 0))
    scene.reason(r"run|start|stop")
    if outcome == "error":
        scene.goes_on(disk)


def test_events_set_again_and_again_leak_nothing(scene):
    disk = scene.open()
    queue = disk.queues[0]
    scene.goes_on(disk)
    before = scene.stage.figures()
    for _ in range(100):
        for request in (Req.SET_VRING_KICK, Req.SET_VRING_CALL, Req.SET_VRING_ERR):
            event = EventFd()
            assert disk.ack(request, p.U64.pack(0), [event.fd]) == 0
            event.close()
    for event, request in ((queue.kick, Req.SET_VRING_KICK), (queue.call, Req.SET_VRING_CALL),
                           (queue.err, Req.SET_VRING_ERR)):
        disk.tell(request, p.U64.pack(0), [event.fd])
    assert scene.stage.wait_settled(before) == ""
    scene.goes_on(disk)


@pytest.mark.parametrize("packed, base", [(False, 0x10000), (False, 0xffff0000), (False, 1 << 31),
                                          (True, 16), (True, 0x7fff), (True, 0x80100000),
                                          (True, 0xffffffff),
                                          (True, 0x00100000), (True, 0x7fff0000)])
def test_a_base_beyond_the_ring_is_refused_or_contained(scene, packed, base):
    disk = scene.bare(features=(F.RING_PACKED,) if packed else ())
    disk.set_mem_table(GuestMemory())
    queue = Queue(0, disk.new_ring(16))
    disk.queues[0] = queue
    with suppress(Closed):
        disk.set_vring_num(0, 16)
        if disk.ack(Req.SET_VRING_BASE, p.VRING_STATE.pack(0, base)) != 0:
            scene.reason(r"base")
            return
        disk.set_vring_addr(0, queue.ring)
        disk.set_vring_err(0, queue.err)
        if disk.ack(Req.SET_VRING_KICK, p.U64.pack(0), [queue.kick.fd]) != 0:
            scene.reason(r"base")
            return
        disk.set_vring_enable(0)
        disk.submit([disk.prepare(blk.T_IN, in_bytes=512)])
        queue.kick.signal()
        disk.fence()


def test_packed_indexes_that_contradict_each_other_are_contained(scene):
    """More in flight than the ring has entries, or the available index behind the used one."""
    for base in (0 | 1 << 15 | 15 << 16 | 1 << 31, 15 | 1 << 15 | 0 << 16 | 0 << 31, 3 | 0 << 15
                 | 4 << 16 | 1 << 31):
        disk = scene.bare(features=(F.RING_PACKED,))
        disk.set_mem_table(GuestMemory())
        queue = Queue(0, disk.new_ring(16))
        try:
            disk.start_queue(queue, base=base)
            disk.submit([disk.prepare(blk.T_IN, in_bytes=512)])
            queue.kick.signal()
            disk.reap(timeout=0.05)
            disk.fence()
        except Exception as error:
            assert type(error).__name__ in ("Closed", "Refused", "RingError"), error
        disk.close()


def ring_addresses(mem):
    """What can be wrong with the address of a ring part of 4096 entries; the last region is at its
    end."""
    region = mem.regions[1]
    return {
        "nowhere": 0xdead_0000_0000,
        "zero": 0,
        "guest address": region.gpa,
        "just before": region.uva - 16,
        "at the end": region.uva + region.size - 64,
        "past the end": region.uva + region.size,
        "overflow": 0xffff_ffff_ffff_fff0,
    }


PLACES = ("nowhere", "zero", "guest address", "just before", "at the end", "past the end",
          "overflow")
#: Not among them: the event structures of a packed ring, whose 4 bytes fit 64 bytes before the end.
RING_PARTS = [(packed, part, what) for packed in (False, True) for part in (0, 1, 2)
              for what in PLACES
              if not (packed and part and what == "at the end")]


@pytest.mark.parametrize("packed, part, what", RING_PARTS)
def test_a_ring_address_outside_of_memory_does_not_start_a_ring(scene, packed, part, what):
    disk = scene.bare(features=(F.RING_PACKED,) if packed else ())
    disk.set_mem_table(GuestMemory())
    queue = Queue(0, disk.new_ring(1024))
    addresses = list(queue.ring.addresses())
    addresses[part] = ring_addresses(disk.mem)[what]
    with suppress(Closed):
        disk.set_vring_num(0, 1024)
        if disk.ack(Req.SET_VRING_ADDR, p.VRING_ADDR.pack(0, 0, *addresses, 0)) == 0:
            expect_refusal(disk, Req.SET_VRING_KICK, p.U64.pack(0), [queue.kick.fd])
    queue.close()
    scene.reason(r"address|ring|memory")


@pytest.mark.parametrize("packed", [False, True], ids=["split", "packed"])
@pytest.mark.parametrize("part", [0, 1, 2], ids=["descriptor", "used", "available"])
def test_a_misaligned_ring_is_refused(scene, packed, part):
    disk = scene.bare(features=(F.RING_PACKED,) if packed else ())
    disk.set_mem_table(GuestMemory())
    queue = Queue(0, disk.new_ring(64))
    addresses = list(queue.ring.addresses())
    addresses[part] += 1
    with suppress(Closed):
        disk.set_vring_num(0, 64)
        if disk.ack(Req.SET_VRING_ADDR, p.VRING_ADDR.pack(0, 0, *addresses, 0)) == 0:
            expect_refusal(disk, Req.SET_VRING_KICK, p.U64.pack(0), [queue.kick.fd])
    queue.close()
    scene.reason(r"align|address|ring")


def test_taking_the_memory_of_a_running_ring_away_stops_it_alone(scene):
    """A table without the region of the ring: refused, or the ring is broken; nothing is read from
    where it was."""
    disk = scene.open(queues=1, regions=(1, 1, 1))
    scene.goes_on(disk)
    other = GuestMemory(((0x7_0000_0000, 1 << 20, 0x7f00_0000_0000, 0),))
    payload, fds = other.table()
    with suppress(Closed):
        disk.wire.send(Req.SET_MEM_TABLE, payload, fds, need_reply=True)
        disk.wire.recv_reply(Req.SET_MEM_TABLE)
        disk.queues[0].kick.signal()
        disk.fence()
    other.close()


def test_removing_the_slot_of_a_running_ring_stops_it_alone(scene):
    disk = scene.open(queues=1, regions=(1, 1, 1))
    scene.goes_on(disk)
    with suppress(Closed):
        disk.wire.send(Req.REM_MEM_REG, p.U64.pack(0) + disk.mem.regions[1].payload(),
                       need_reply=True)
        disk.wire.recv_reply(Req.REM_MEM_REG)
        disk.queues[0].kick.signal()
        disk.fence()


def test_stop_of_a_stopped_ring_is_legal_at_any_time(scene):
    disk = scene.bare()
    for _ in range(3):
        assert disk.get_vring_base(0) == 0
    disk.set_mem_table(GuestMemory())
    disk.start_queue(Queue(0, disk.new_ring(16)))
    scene.goes_on(disk)
    assert disk.get_vring_base(0) == disk.get_vring_base(0) == 2


@pytest.mark.parametrize("value", [2, 0xff, 0x80000000, 0xffffffff])
def test_enable_with_another_number_than_0_and_1_is_contained(scene, value):
    disk = scene.open()
    try:
        disk.wire.send(Req.SET_VRING_ENABLE, p.VRING_STATE.pack(0, value), need_reply=True)
        disk.wire.recv_reply(Req.SET_VRING_ENABLE)
    except Closed:
        return
    disk.set_vring_enable(0)
    scene.goes_on(disk)


@pytest.mark.parametrize("status", [0x100, 0xffff_ffff_ffff_ff00, 0xffff_ffff_ffff_ffff, 0x80])
def test_a_status_that_cannot_be_is_contained(scene, status):
    disk = scene.open()
    with suppress(Closed):
        disk.wire.send(Req.SET_STATUS, p.U64.pack(status), need_reply=True)
        disk.wire.recv_reply(Req.SET_STATUS)
        assert disk.get_status() < 256


def test_device_state_garbage_is_refused(scene):
    disk = scene.bare()
    for payload in (p.DEVICE_STATE.pack(7, 0), p.DEVICE_STATE.pack(0, 9),
                    p.DEVICE_STATE.pack(1, 0)):
        read_end, write_end = os.pipe()
        os.write(write_end, b"\xff" * 4096)
        try:
            expect_refusal_of_state(disk, payload, read_end)
        finally:
            os.close(read_end)
            os.close(write_end)


def expect_refusal_of_state(disk, payload, fd):
    """Not offered: an error. Offered: only a well-formed load is taken, whose check must fail on
    garbage."""
    with suppress(Closed):
        disk.wire.send(Req.SET_DEVICE_STATE_FD, payload, [fd], need_reply=True)
        reply = disk.wire.recv()
        reply.close()
        if reply.payload and reply.u64 & 0xff == 0:
            assert disk.ask_u64(Req.CHECK_DEVICE_STATE) != 0


def test_resets_under_load(scene):
    disk = scene.open(queues=4)
    for _ in range(10):
        for queue in range(4):
            disk.submit([disk.prepare(blk.T_OUT, 8 * i, out=pattern(i, 1024)) for i in range(4)],
                        queue=queue)
        disk.tell(Req.RESET_DEVICE)
        disk.set_features(disk.features)
        for queue in range(4):
            disk.queues[queue].ring = disk.new_ring(64)
            disk.start_queue(disk.queues[queue])
    scene.goes_on(disk)
