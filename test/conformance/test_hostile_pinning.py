# SPDX-License-Identifier: BSD-3-Clause
"""A front end may hide an end of its session's own socket in what it hands over. Whoever keeps it never
hears the front end hang up, and the slot would be busy for ever."""

import array
import socket
from contextlib import suppress

import pytest

from vhostuser import BlkDisk, Closed, Req
from vhostuser import protocol as p


def direct(wire):
    return [wire.sock.fileno()], []


def in_a_queue(wire):
    """An innocent socket, but what lies unread in it holds the session's socket."""
    ours, theirs = socket.socketpair()
    theirs.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [wire.sock.fileno()]))])
    return [ours.fileno()], [ours, theirs]


PLACES = [(Req.SET_BACKEND_REQ_FD, direct), (Req.SET_BACKEND_REQ_FD, in_a_queue),
          (Req.SET_LOG_FD, direct), (Req.SET_LOG_FD, in_a_queue)]


@pytest.mark.parametrize("request_, hide", PLACES, ids=[f"{r.name}-{h.__name__}" for r, h in PLACES])
def test_a_slot_is_free_when_the_front_end_has_gone(scene, request_, hide):
    disk = scene.open()
    fds, keep = hide(disk.wire)
    with suppress(Closed):
        disk.wire.send(request_, b"", fds, need_reply=True)
        disk.wire.recv_reply(request_)
    for each in keep:
        each.close()
    disk.close()
    again = scene.open()
    again.read(0, 512)


def test_two_slots_are_free_whose_front_end_has_crossed_their_sockets(scene):
    """Without a reply: what comes on a channel closes it."""
    paths = scene.path, scene.stage.path(scene.stage.next_victim())
    first, second = (BlkDisk.open(path) for path in paths)
    for disk, other in ((first, second), (second, first)):
        disk.wire.send(Req.SET_BACKEND_REQ_FD, b"", [other.wire.sock.fileno()])
    for disk in (first, second):
        disk.wire.close()
    for path in paths:
        with BlkDisk.open(path) as again:
            again.read(0, 512)
    scene.reason("socket of a session")


def test_what_comes_on_the_channel_closes_it_and_not_the_session(scene):
    disk = scene.open()
    ours, theirs = socket.socketpair()
    disk.ack(Req.SET_BACKEND_REQ_FD, b"", [theirs.fileno()])
    theirs.close()
    ours.sendall(p.U64.pack(0))
    ours.settimeout(10)
    try:
        assert ours.recv(1) == b""
    except ConnectionResetError:  # it was closed with our bytes unread
        pass
    scene.reason(r"channel")
    disk.read(0, 512)
