# SPDX-License-Identifier: BSD-3-Clause
"""Messages that no front end should send: broken headers, wrong sizes, descriptors where none
belong, half a message."""

import os
import struct
import time
from contextlib import suppress

import pytest

from scene import expect_refusal
from vhostuser import Closed, Req, Wire
from vhostuser import protocol as p


def raw(request, flags=p.VERSION, size=0, payload=b""):
    return p.HEADER.pack(request, flags, size) + payload


def files(count):
    return [os.memfd_create("fe-stray", os.MFD_CLOEXEC) for _ in range(count)]


def close_all(fds):
    for fd in fds:
        os.close(fd)


@pytest.mark.parametrize("request_", [0, 44, 255, 1000, 0x7fffffff, 0xffffffff])
def test_an_unknown_request_is_refused(scene, request_):
    disk = scene.bare()
    expect_refusal(disk, request_)
    scene.reason(r"unknown|not.*(known|supported)|no such")


def test_an_unknown_request_without_need_reply_ends_the_session_or_is_ignored(scene):
    disk = scene.bare()
    disk.wire.send(77, b"12345678")
    with suppress(Closed):
        disk.fence()
    scene.reason(r"unknown|not.*(known|supported)|no such")


@pytest.mark.parametrize("size", [257 * 4096, 1 << 20, 0x7fffffff, 0x80000000, 0xffffffff,
                                  0xfffffff4])
def test_a_payload_that_is_too_long_ends_the_session_without_being_read(scene, size):
    wire = scene.wire()
    wire.send_raw(raw(Req.SET_FEATURES, size=size))
    scene.ended(wire, r"size|long|large|bytes|payload")


@pytest.mark.parametrize("request_, size", [(Req.SET_FEATURES, 0), (Req.SET_FEATURES, 7),
                                            (Req.SET_FEATURES, 9),
                                            (Req.SET_MEM_TABLE, 4), (Req.SET_VRING_ADDR, 39),
                                            (Req.SET_VRING_NUM, 4),
                                            (Req.SET_VRING_KICK, 0), (Req.GET_CONFIG, 11),
                                            (Req.GET_FEATURES, 1),
                                            (Req.SET_OWNER, 500), (Req.GET_INFLIGHT_FD, 8),
                                            (Req.ADD_MEM_REG, 32),
                                            (Req.SET_LOG_BASE, 12)],
                         ids=lambda value: getattr(value, "name", str(value)))
def test_a_payload_of_the_wrong_size_is_refused(scene, request_, size):
    disk = scene.bare()
    fds = files(1 if request_ in (Req.ADD_MEM_REG, Req.SET_LOG_BASE) else 0)
    expect_refusal(disk, request_, bytes(size), fds)
    close_all(fds)
    scene.reason(r"size|bytes|payload|short|long")


@pytest.mark.parametrize("flags", [0, 2, 3], ids=["version 0", "version 2", "version 3"])
def test_another_version_ends_the_session(scene, flags):
    wire = scene.wire()
    wire.send_raw(raw(Req.GET_FEATURES, flags))
    scene.ended(wire, r"version")


def test_a_reply_that_nobody_asked_for_ends_the_session(scene):
    wire = scene.wire()
    wire.send_raw(raw(Req.GET_FEATURES, p.VERSION | p.FLAG_REPLY))
    scene.ended(wire, r"reply|flags")


@pytest.mark.parametrize("flags", [0x11, 0x80000001, 0xfffffff1], ids=hex)
def test_flags_without_meaning_are_refused_or_ignored(scene, flags):
    wire = scene.wire()
    wire.send_raw(raw(Req.GET_FEATURES, flags))
    try:
        assert wire.recv_reply(Req.GET_FEATURES).flags == p.VERSION | p.FLAG_REPLY
    except Closed:
        scene.reason(r"flags")


def test_a_header_without_its_payload_stalls_nobody_else(scene):
    disk = scene.bare()
    count = scene.neighbour.count
    disk.wire.send_raw(raw(Req.SET_FEATURES, size=8))
    scene.neighbour.check(count)
    time.sleep(0.3)
    scene.neighbour.check(scene.neighbour.count)
    disk.wire.send_raw(p.U64.pack(disk.features))
    disk.fence()


@pytest.mark.parametrize("count", [1, 4, 11])
def test_half_a_header_and_a_hangup(scene, count):
    wire = scene.wire()
    wire.send_raw(raw(Req.GET_FEATURES)[:count])
    time.sleep(0.02)
    wire.close()


def test_half_a_message_with_descriptors_and_a_hangup(scene):
    for _ in range(10):
        wire = Wire.connect(scene.path)
        fds = files(8)
        wire.send_raw(raw(Req.SET_MEM_TABLE, size=264, payload=bytes(100)), fds)
        close_all(fds)
        wire.close()


@pytest.mark.parametrize("request_, payload", [
    (Req.GET_FEATURES, b""), (Req.SET_FEATURES, p.U64.pack(1 << 32)), (Req.SET_OWNER, b""),
    (Req.GET_QUEUE_NUM, b""),
    (Req.SET_VRING_NUM, p.VRING_STATE.pack(0, 64)), (Req.GET_VRING_BASE, p.VRING_STATE.pack(0, 0)),
    (Req.GET_CONFIG, p.CONFIG_HEADER.pack(0, 8, 0) + bytes(8)),
    (Req.GET_INFLIGHT_FD, p.INFLIGHT.pack(0, 0, 1, 64)),
    (Req.SET_STATUS, p.U64.pack(1)), (Req.RESET_DEVICE, b""),
], ids=lambda value: getattr(value, "name", ""))
@pytest.mark.parametrize("count", [1, 8])
def test_descriptors_where_none_belong_are_closed(scene, request_, payload, count):
    disk = scene.bare()
    before = scene.stage.figures()
    for _ in range(3):
        fds = files(count)
        try:
            disk.wire.send(request_, payload, fds, need_reply=True)
            disk.wire.recv().close()
        except Closed:
            break
        finally:
            close_all(fds)
    assert "stray" not in scene.stage.wait_settled(before)


@pytest.mark.parametrize("count", [9, 32, 253])
def test_more_descriptors_than_any_message_has_end_the_session(scene, count):
    wire = scene.wire()
    fds = files(count)
    try:
        wire.send_raw(raw(Req.SET_MEM_TABLE, size=8 + 32 * 8, payload=bytes(8 + 32 * 8)), fds)
    finally:
        close_all(fds)
    scene.ended(wire, r"descriptors|fds?\b")


def test_descriptors_with_every_byte_are_closed(scene):
    """One message in pieces, each piece with descriptors of its own."""
    wire = scene.wire()
    message = raw(Req.SET_MEM_TABLE, size=8 + 32, payload=bytes(40))
    with suppress(Closed):
        for i in range(len(message)):
            fds = files(8)
            try:
                wire.send_raw(message[i:i + 1], fds)
            finally:
                close_all(fds)
            time.sleep(0.001)
    scene.ended(wire, r"descriptors|fds?\b|region|memory")


@pytest.mark.parametrize("request_, payload", [
    (Req.SET_BACKEND_REQ_FD, b""), (Req.ADD_MEM_REG, bytes(40)),
    (Req.SET_INFLIGHT_FD, p.INFLIGHT.pack(4096, 0, 1, 64)),
    (Req.SET_LOG_BASE, p.LOG.pack(4096, 0)), (Req.SET_MEM_TABLE, p.MEM_HEADER.pack(1, 0)
                                              + p.REGION.pack(0, 4096, 0, 0)),
    (Req.SET_VRING_KICK, p.U64.pack(0)), (Req.SET_VRING_CALL, p.U64.pack(0)),
    (Req.SET_VRING_ERR, p.U64.pack(0)),
], ids=lambda value: getattr(value, "name", ""))
def test_a_descriptor_that_is_missing_is_refused(scene, request_, payload):
    disk = scene.bare()
    expect_refusal(disk, request_, payload)
    scene.reason(r"descriptors?|fds?\b")


@pytest.mark.parametrize("request_", [Req.SET_VRING_KICK, Req.SET_VRING_CALL, Req.SET_VRING_ERR],
                         ids=lambda value: value.name)
def test_a_descriptor_beside_the_no_fd_flag_is_not_leaked(scene, request_):
    disk = scene.open()
    before = scene.stage.figures()
    fds = files(1)
    expect_refusal_or_acceptance(disk, request_, p.U64.pack(p.NO_FD), fds)
    close_all(fds)
    assert "stray" not in scene.stage.wait_settled(before)


def expect_refusal_or_acceptance(disk, request, payload, fds):
    with suppress(Closed):
        disk.wire.send(request, payload, fds, need_reply=True)
        disk.wire.recv().close()


def test_noise_from_the_first_byte_on(scene):
    for seed in range(20):
        wire = Wire.connect(scene.path)
        noise = struct.pack("=QQQ", *(0x9e3779b97f4a7c15 * (seed + i) & (1 << 64) - 1
                                      for i in range(3))) * 40
        with suppress(Closed):
            wire.send_raw(noise)
            wire.wait_closed(0.05)
        wire.close()


def test_every_request_with_an_all_ones_payload(scene):
    for request in Req:
        disk = scene.bare()
        for size in (0, 8, 12, 16, 20, 24, 40, 264, 268):
            try:
                disk.wire.send(request, b"\xff" * size)
            except Closed:
                break
        disk.close()


def test_every_request_with_zeroes_on_a_running_session(scene):
    for request in Req:
        disk = scene.open()
        for size in (0, 8, 20, 40):
            try:
                disk.wire.send(request, bytes(size))
            except Closed:
                break
        disk.close()
