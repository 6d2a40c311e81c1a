# SPDX-License-Identifier: BSD-3-Clause
"""The back-end channel: accepted, replaced, given back, and of no danger when the front end lets it
go."""

import errno
import os
import socket
from contextlib import suppress

import pytest

from vhostuser import BackendChannel, Closed, Req


def handed(disk):
    channel = BackendChannel()
    disk.tell(Req.SET_BACKEND_REQ_FD, b"", [channel.remote_fd])
    channel.handed_over()
    return channel


def test_a_channel_is_taken_and_kept(plain):
    disk = plain()
    channel = handed(disk)
    disk.read(0, 512)
    assert channel.wire.silent(0.1)
    channel.close()


def test_a_new_channel_replaces_the_former_one_which_is_closed(plain):
    disk = plain()
    first = handed(disk)
    second = handed(disk)
    assert first.wire.wait_closed()
    assert second.wire.silent(0.1)
    disk.read(0, 512)
    first.close()
    second.close()


def test_the_channel_is_closed_with_the_session(plain):
    disk = plain()
    channel = handed(disk)
    disk.close()
    assert channel.wire.wait_closed()
    channel.close()


def test_a_channel_that_the_front_end_closes_disturbs_nothing(plain, stage):
    disk = plain()
    for _ in range(3):
        handed(disk).close()
        disk.read(0, 512)
        disk.alive()


def test_replies_that_nobody_asked_for_on_the_channel_are_borne(plain):
    disk = plain()
    channel = handed(disk)
    with suppress(Closed):  # the first was enough for the back end to close the channel
        channel.wire.send(2, bytes(8), flags=5)
        channel.wire.send_raw(b"\xff" * 1000)
    disk.read(0, 512)
    disk.alive()
    channel.close()


def test_a_channel_that_is_no_socket_is_refused_or_useless(plain, stage):
    disk = plain()
    before = stage.figures()
    for make in (lambda: os.eventfd(0), lambda: os.memfd_create("fe-x"),
                 lambda: os.open("/dev/null", os.O_RDWR),
                 lambda: socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).detach()):
        fd = make()
        disk.ack(Req.SET_BACKEND_REQ_FD, b"", [fd])
        os.close(fd)
        disk.read(0, 512)
    disk.close()
    assert stage.wait_settled(before) == ""


def tcp_socket():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return socket.create_connection(server.getsockname()).detach()


@pytest.mark.parametrize("make", [tcp_socket, lambda: socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET).detach()],
                         ids=["tcp", "seqpacket"])
def test_a_channel_on_which_a_send_could_wait_is_refused(plain, make):
    """The owner of a TCP socket can hold its lock, and every send() of others with it."""
    disk = plain()
    fd = make()
    assert disk.ack(Req.SET_BACKEND_REQ_FD, b"", [fd]) == errno.EINVAL
    os.close(fd)
    disk.read(0, 512)
