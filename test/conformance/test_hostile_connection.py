# SPDX-License-Identifier: BSD-3-Clause
"""Connections as such: stalled, many, short, cut in the middle of a burst, and a second front end
on a busy slot."""

import socket
import time
from contextlib import suppress

import pytest

from waiters import too_many_waiting
from vhostuser import BlkDisk, Closed, Req, Wire, pattern, wait_until
from vhostuser import blk
from vhostuser import protocol as p


def test_connecting_and_saying_nothing_disturbs_nobody(scene):
    scene.wire()
    count = scene.neighbour.count
    time.sleep(0.5)
    scene.neighbour.check(count)


def test_a_front_end_that_stalls_after_each_step_disturbs_nobody(scene):
    disk = BlkDisk(scene.path)
    scene.sessions.append(disk)
    for step in (lambda: disk.ask_u64(Req.GET_FEATURES), disk.negotiate, disk.alive):
        step()
        count = scene.neighbour.count
        time.sleep(0.05)
        scene.neighbour.check(count)


def test_connecting_and_hanging_up_in_a_loop(scene):
    for _ in range(300):
        Wire.connect(scene.path).close()


def test_asking_and_hanging_up_before_the_answer(scene):
    for _ in range(200):
        wire = Wire.connect(scene.path)
        with suppress(Closed):  # the slot was still busy with the one before
            wire.send(Req.GET_FEATURES)
            wire.send(Req.GET_PROTOCOL_FEATURES)
        wire.close()


def test_two_thousand_connections_at_once_are_refused_but_one(scene):
    """More than any backlog: whatever is not served is closed, or waits in the kernel, and costs
    the daemon nothing."""
    held = []
    first = scene.bare()
    before = scene.stage.figures()
    for _ in range(2000):
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.setblocking(False)
        try:
            sock.connect(scene.path)
            held.append(sock)
        except BlockingIOError:
            sock.close()
            time.sleep(0.001)
    assert len(held) > 100
    first.fence()
    wait_until(lambda: len(scene.stage.figures().fds) <= len(before.fds) + 64)
    first.fence()
    for sock in held:
        sock.close()


def test_a_second_front_end_is_accepted_and_closed_while_the_first_goes_on(scene):
    first = scene.open()
    scene.goes_on(first)
    for _ in range(20):
        second = Wire.connect(scene.path)
        assert second.wait_closed()
        second.close()
        scene.goes_on(first)
    scene.reason(r"busy|second|already|another")


def test_a_second_front_end_is_served_once_the_first_has_hung_up(scene):
    for _ in range(30):
        with BlkDisk.open(scene.path) as disk:
            disk.read(0, 512)


@pytest.mark.parametrize("packed", [False, True], ids=["split", "packed"])
def test_hanging_up_in_the_middle_of_a_burst(scene, packed):
    for _ in range(20):
        disk = BlkDisk.open(scene.path, packed=packed, queues=4)
        for queue in range(4):
            disk.submit([disk.prepare(blk.T_OUT, 64 * i, out=bytes(32768)) for i in range(16)],
                        queue=queue)
        disk.close()


def test_hanging_up_with_requests_in_slow_storage(stage, opened):
    before = None
    for packed in (False, True):
        for _ in range(3):
            disk = opened(stage.path("late"), packed=packed, queues=2)
            if before is None:
                disk.read(0, 512)
            disk.submit([disk.prepare(blk.T_IN, i, in_bytes=512) for i in range(16)])
            disk.close()
            before = before or stage.figures()
    with BlkDisk.open(stage.path("late")) as disk:
        disk.read(0, 512)
    growth = stage.wait_settled(before)
    assert growth == "", growth


def test_shutting_down_one_direction_ends_the_session(scene):
    wire = scene.wire()
    wire.send(Req.GET_FEATURES)
    wire.recv_reply(Req.GET_FEATURES)
    wire.sock.shutdown(socket.SHUT_WR)
    assert wire.wait_closed()


def test_hanging_up_while_the_answer_is_being_made(scene):
    """SET_MEM_TABLE and GET_VRING_BASE are answered later, by other threads: the session may be
    gone by then."""
    for _ in range(50):
        disk = BlkDisk.open(scene.path)
        payload, fds = disk.mem.table()
        disk.wire.send(Req.SET_MEM_TABLE, payload, fds, need_reply=True)
        disk.wire.send(Req.GET_VRING_BASE, p.VRING_STATE.pack(0, 0))
        disk.close()


def test_requests_sent_ahead_are_answered_in_order_after_the_slow_one(scene):
    disk = scene.open()
    payload, fds = disk.mem.table()
    for _ in range(20):
        disk.wire.send(Req.SET_MEM_TABLE, payload, fds, need_reply=True)
        disk.wire.send(Req.GET_FEATURES)
        disk.wire.send(Req.GET_VRING_BASE, p.VRING_STATE.pack(3, 0))
    for _ in range(20):
        assert disk.wire.recv_reply(Req.SET_MEM_TABLE).u64 == 0
        disk.wire.recv_reply(Req.GET_FEATURES)
        disk.wire.recv_reply(Req.GET_VRING_BASE)
    scene.goes_on(disk)


def test_the_storage_is_whole_after_all_that(scene):
    disk = scene.open()
    for i in range(16):
        disk.write(i * 8, pattern(i, 4096))
    disk.close()
    again = scene.open()
    for i in range(16):
        assert again.read(i * 8, 4096) == pattern(i, 4096)


def test_many_who_wait_on_a_session_socket_end_the_session_and_nothing_else(scene):
    """Each reply that is sent, and each request that is read, wakes all who wait on the front end's end of the
    socket, in the daemon's thread that serves all sessions."""
    wire = scene.wire()
    with too_many_waiting(wire.sock.fileno()):
        count = scene.neighbour.count
        for _ in range(16):
            wire.send(Req.GET_FEATURES)
        # Eight walks, each with a rest of a hundred times its length: of 30 ms where CPUs are busy.
        scene.ended(wire, "too many wait on it", patience=90)
        scene.reason("the slot is closed for")
        scene.neighbour.check(count)
