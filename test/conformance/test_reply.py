# SPDX-License-Identifier: BSD-3-Clause
"""Who gets an answer and who does not: REPLY_ACK, need_reply, requests with a reply of their own,
requests that are not supported, and messages that arrive in pieces or together."""

import os
import socket
import struct
import time

import pytest

from vhostuser import (BackendChannel, BlkDisk, DirtyLog, EventFd, F, Frontend, GuestMemory, PF,
                       Region, Req, Wire)
from vhostuser import PATIENCE, protocol as p
from vhostuser.split import SplitRing

U64_0 = p.U64.pack(0)


@pytest.fixture
def agreed(stage, opened):
    """A session after negotiation, with guest memory but without rings."""
    disk = BlkDisk(stage.path("plain"))
    opened.later(disk)
    disk.negotiate((F.BLK_CONFIG_WCE, F.BLK_FLUSH))
    disk.set_mem_table(GuestMemory())
    return disk


def settings(disk, keep):
    """Every request without a reply of its own that a block device takes: (request, payload,
    fds)."""
    mem = disk.mem
    ring = SplitRing(mem, 64)
    desc, used, avail = ring.addresses()
    events = [EventFd() for _ in range(3)]
    slot = Region(0x80_0000_0000, 1 << 16, 0x7e50_0000_0000)
    channel = BackendChannel()
    log_event = EventFd()
    inflight = disk.get_inflight(1, 64)
    keep.extend(events + [slot, channel, log_event, inflight])
    table, fds = mem.table()
    return [
        (Req.SET_FEATURES, p.U64.pack(disk.features), ()),
        (Req.SET_PROTOCOL_FEATURES, p.U64.pack(disk.protocol), ()),
        (Req.SET_MEM_TABLE, table, fds),
        (Req.SET_LOG_FD, b"", (log_event.fd,)),
        (Req.SET_VRING_NUM, p.VRING_STATE.pack(0, 64), ()),
        (Req.SET_VRING_BASE, p.VRING_STATE.pack(0, 0), ()),
        (Req.SET_VRING_ADDR, p.VRING_ADDR.pack(0, 0, desc, used, avail, 0), ()),
        (Req.SET_INFLIGHT_FD, inflight.payload, (inflight.fd,)),
        (Req.SET_VRING_ERR, U64_0, (events[0].fd,)),
        (Req.SET_VRING_CALL, U64_0, (events[1].fd,)),
        (Req.SET_VRING_KICK, U64_0, (events[2].fd,)),
        (Req.SET_VRING_ENABLE, p.VRING_STATE.pack(0, 1), ()),
        (Req.SET_BACKEND_REQ_FD, b"", (channel.remote_fd,)),
        (Req.SET_CONFIG, p.CONFIG_HEADER.pack(32, 1, 0) + b"\1", ()),
        (Req.ADD_MEM_REG, U64_0 + slot.payload(), (slot.fd,)),
        (Req.REM_MEM_REG, U64_0 + slot.payload(), ()),
        (Req.SET_STATUS, p.U64.pack(15), ()),
        (Req.RESET_OWNER, b"", ()),
        (Req.RESET_DEVICE, b"", ()),
    ]


def queries(disk):
    """Every request with a reply of its own: (request, payload, fds)."""
    log = DirtyLog(disk.mem.max_gpa)
    return [
        (Req.GET_FEATURES, b"", ()),
        (Req.GET_PROTOCOL_FEATURES, b"", ()),
        (Req.GET_QUEUE_NUM, b"", ()),
        (Req.GET_CONFIG, p.CONFIG_HEADER.pack(0, 8, 0) + bytes(8), ()),
        (Req.GET_MAX_MEM_SLOTS, b"", ()),
        (Req.GET_STATUS, b"", ()),
        (Req.GET_INFLIGHT_FD, p.INFLIGHT.pack(0, 0, 1, 64), ()),
        (Req.GET_VRING_BASE, p.VRING_STATE.pack(0, 0), ()),
        (Req.SET_LOG_BASE, log.payload, (log.fd,)),
    ], log


def test_with_need_reply_every_setting_is_acknowledged_exactly_once(agreed):
    keep = []
    for request, payload, fds in settings(agreed, keep):
        assert agreed.ack(request, payload, fds) == 0, request.name
        # Were there a second answer, it would come before this one.
        agreed.fence()
    for each in keep:
        each.close()


def test_without_need_reply_no_setting_is_answered(agreed):
    keep = []
    for request, payload, fds in settings(agreed, keep):
        agreed.wire.send(request, payload, fds)
        agreed.fence()
    for each in keep:
        each.close()


def test_need_reply_means_nothing_before_reply_ack_is_negotiated(stage, opened):
    disk = Frontend(stage.path("plain"))
    opened.later(disk)
    disk.wire.send(Req.SET_PROTOCOL_FEATURES, p.U64.pack(0), need_reply=True)
    disk.fence()
    disk.negotiate(drop=(PF.REPLY_ACK,))
    disk.wire.send(Req.SET_FEATURES, p.U64.pack(disk.features), need_reply=True)
    disk.fence()
    disk.wire.send(Req.SET_VRING_ENABLE, p.VRING_STATE.pack(0, 1), need_reply=True)
    disk.fence()


def test_need_reply_changes_nothing_for_requests_with_a_reply(agreed):
    for need_reply in (False, True):
        asked, log = queries(agreed)
        for request, payload, fds in asked:
            agreed.ask(request, payload, fds, need_reply=need_reply).close()
            agreed.fence()
        log.close()


def test_replies_have_the_size_the_specification_gives_them(agreed):
    asked, log = queries(agreed)
    sizes = {Req.GET_CONFIG: (20,), Req.GET_VRING_BASE: (8,), Req.GET_INFLIGHT_FD: (20, 24),
             Req.SET_LOG_BASE: (0, 8)}
    for request, payload, fds in asked:
        reply = agreed.ask(request, payload, fds)
        assert len(reply.payload) in sizes.get(request, (8,)), request.name
        assert len(reply.fds) == (1 if request == Req.GET_INFLIGHT_FD else 0), request.name
        reply.close()
    log.close()


def test_replies_say_reply_and_version_1_and_nothing_else(agreed):
    asked, log = queries(agreed)
    for request, payload, fds in asked:
        reply = agreed.ask(request, payload, fds)
        assert reply.flags == p.VERSION | p.FLAG_REPLY, request.name
        reply.close()
    agreed.wire.send(Req.SET_FEATURES, p.U64.pack(agreed.features), need_reply=True)
    assert agreed.wire.recv().flags == p.VERSION | p.FLAG_REPLY
    log.close()


def test_set_log_base_without_its_protocol_feature_is_answered_only_if_asked(stage, opened):
    disk = Frontend(stage.path("plain"))
    opened.later(disk)
    disk.negotiate(drop=(PF.LOG_SHMFD,))
    disk.wire.send(Req.SET_LOG_BASE, p.U64.pack(0))
    try:
        disk.fence()
    except Exception as error:      # refusing it by ending the session is the other right answer
        assert type(error).__name__ == "Closed"


#: (request, payload, descriptors): requests for other devices or for features that are not offered.
UNSUPPORTED = {
    Req.SEND_RARP: (bytes(8), 0),
    Req.NET_SET_MTU: (p.U64.pack(1500), 0),
    Req.IOTLB_MSG: (p.IOTLB.pack(0, 4096, 0, 3, 2), 0),
    Req.SET_VRING_ENDIAN: (p.VRING_STATE.pack(0, 0), 0),
    Req.CREATE_CRYPTO_SESSION: (bytes(64), 0),
    Req.CLOSE_CRYPTO_SESSION: (bytes(8), 0),
    Req.POSTCOPY_ADVISE: (b"", 0),
    Req.POSTCOPY_LISTEN: (b"", 0),
    Req.POSTCOPY_END: (b"", 0),
    Req.GPU_SET_SOCKET: (b"", 1),
    Req.GET_SHARED_OBJECT: (bytes(16), 0),
}


@pytest.mark.parametrize("request_", list(UNSUPPORTED), ids=lambda request: request.name)
def test_a_request_that_is_not_supported_is_answered_with_an_error(
        agreed, stage, refused, request_):
    payload, count = UNSUPPORTED[request_]
    before = stage.figures()
    pair = socket.socketpair()
    refused(agreed, request_, payload, [pair[0].fileno()] * count)
    for each in pair:
        each.close()
    agreed.close()
    assert stage.wait_settled(before) == ""


@pytest.mark.parametrize("request_", [Req.SEND_RARP, Req.NET_SET_MTU, Req.CLOSE_CRYPTO_SESSION,
                                      Req.GPU_SET_SOCKET],
                         ids=lambda request: request.name)
def test_the_session_outlives_a_request_that_could_be_answered_with_an_error(
        agreed, refused, request_):
    payload, count = UNSUPPORTED[request_]
    pair = socket.socketpair()
    assert refused(agreed, request_, payload, [pair[0].fileno()] * count) == "error"
    for each in pair:
        each.close()
    agreed.alive()


@pytest.mark.parametrize("feature, request_, payload, count", [
    (PF.MQ, Req.GET_QUEUE_NUM, b"", 0),
    (PF.CONFIG, Req.SET_CONFIG, p.CONFIG_HEADER.pack(32, 1, 0) + b"\1", 0),
    (PF.STATUS, Req.SET_STATUS, p.U64.pack(1), 0),
    (PF.RESET_DEVICE, Req.RESET_DEVICE, b"", 0),
    (PF.BACKEND_REQ, Req.SET_BACKEND_REQ_FD, b"", 1),
    (PF.CONFIGURE_MEM_SLOTS, Req.ADD_MEM_REG, U64_0 + p.REGION.pack(0, 4096, 0, 0), 1),
    (PF.INFLIGHT_SHMFD, Req.SET_INFLIGHT_FD, p.INFLIGHT.pack(4096, 0, 1, 64), 1),
], ids=lambda value: getattr(value, "name", None))
def test_a_request_whose_protocol_feature_was_not_negotiated_is_harmless(
        stage, opened, feature, request_, payload, count):
    """It is refused, or (GET_QUEUE_NUM, which old front ends ask early) answered: never obeyed in
    silence or a crash."""
    before = stage.figures()
    disk = Frontend(stage.path("plain"))
    opened.later(disk)
    disk.negotiate(drop=(feature,))
    fds = [os.memfd_create("fe-unused", os.MFD_CLOEXEC) for _ in range(count)]
    try:
        disk.wire.send(request_, payload, fds, need_reply=True)
        reply = disk.wire.recv_reply(request_)
        assert request_ == Req.GET_QUEUE_NUM or reply.u64 != 0
    except Exception as error:
        assert type(error).__name__ == "Closed", error
    for fd in fds:
        os.close(fd)
    disk.close()
    assert stage.wait_settled(before) == ""


def test_get_inflight_is_answered_alike_for_both_sizes_of_its_payload(agreed):
    """The specification's description has 20 bytes; a C structure without packing, as QEMU sends
    it, has 24."""
    for payload in (p.INFLIGHT.pack(0, 0, 2, 128), p.INFLIGHT.pack(0, 0, 2, 128) + bytes(4)):
        reply = agreed.ask(Req.GET_INFLIGHT_FD, payload)
        size, offset, queues, queue_size = p.INFLIGHT.unpack_from(reply.payload)
        assert (queues, queue_size) == (2, 128)
        assert os.fstat(reply.fds[0]).st_size >= offset + size
        assert not any(reply.payload[p.INFLIGHT.size:])
        reply.close()


def test_requests_that_arrive_together_are_answered_in_order(agreed):
    acked = p.VERSION | p.FLAG_NEED_REPLY
    message = b"".join(p.HEADER.pack(request, flags, 0) for request, flags in (
        (Req.GET_FEATURES, p.VERSION), (Req.GET_STATUS, p.VERSION), (Req.RESET_OWNER, acked),
        (Req.GET_QUEUE_NUM, p.VERSION)))
    agreed.wire.send_raw(message * 20)
    for _ in range(20):
        for request in (Req.GET_FEATURES, Req.GET_STATUS, Req.RESET_OWNER, Req.GET_QUEUE_NUM):
            agreed.wire.recv_reply(request)


def test_a_request_that_arrives_byte_by_byte_is_understood(agreed):
    message = p.HEADER.pack(Req.SET_FEATURES, p.VERSION | p.FLAG_NEED_REPLY,
                            8) + p.U64.pack(agreed.features)
    for i in range(len(message)):
        agreed.wire.send_raw(message[i:i + 1])
        time.sleep(0.002)
    assert agreed.wire.recv_reply(Req.SET_FEATURES).u64 == 0


def test_the_end_of_one_request_and_the_start_of_the_next_may_come_together(agreed):
    first = p.HEADER.pack(Req.SET_FEATURES, p.VERSION | p.FLAG_NEED_REPLY,
                          8) + p.U64.pack(agreed.features)
    second = p.HEADER.pack(Req.GET_QUEUE_NUM, p.VERSION, 0)
    agreed.wire.send_raw(first[:14])
    time.sleep(0.02)
    agreed.wire.send_raw(first[14:] + second[:5])
    time.sleep(0.02)
    agreed.wire.send_raw(second[5:])
    assert agreed.wire.recv_reply(Req.SET_FEATURES).u64 == 0
    assert agreed.wire.recv_reply(Req.GET_QUEUE_NUM).u64 == 4


def test_descriptors_that_come_with_the_first_piece_belong_to_the_request(agreed):
    payload, fds = agreed.mem.table()
    message = p.HEADER.pack(Req.SET_MEM_TABLE, p.VERSION | p.FLAG_NEED_REPLY,
                            len(payload)) + payload
    agreed.wire.send_raw(message[:12], fds)
    time.sleep(0.02)
    agreed.wire.send_raw(message[12:])
    assert agreed.wire.recv_reply(Req.SET_MEM_TABLE).u64 == 0


def test_a_front_end_that_does_not_read_its_replies_only_stops_itself(stage, opened):
    silent = Wire.connect(stage.path("plain"))
    opened.later(silent)
    silent.sock.setblocking(False)
    message = p.HEADER.pack(Req.GET_FEATURES, p.VERSION, 0) * 100
    deadline = time.monotonic() + PATIENCE
    try:
        while time.monotonic() < deadline:
            silent.sock.send(message)
    except (BlockingIOError, BrokenPipeError, ConnectionResetError):
        pass
    with BlkDisk.open(stage.path("victim0")) as other:
        other.read(0, 4096)


def test_get_vring_base_of_a_stranger_ring_leaves_nothing_of_our_memory_in_the_reply(agreed):
    for index in range(4):
        reply = agreed.ask(Req.GET_VRING_BASE, p.VRING_STATE.pack(index, 0))
        assert struct.unpack("=II", reply.payload) == (index, 0)
