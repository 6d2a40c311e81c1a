# SPDX-License-Identifier: BSD-3-Clause
"""Event descriptors that are none, that would block, that never fall silent. Their flags and
counters are shared with the front end (design, section 2), so nothing about them can be trusted."""

import os
import select
import socket
import threading
import time
from contextlib import suppress

import pytest

from scene import expect_refusal
from vhostuser import PATIENCE, BlkDisk, Closed, EventFd, IoError, Req
from vhostuser import blk
from vhostuser import protocol as p
from vhostuser.frontend import EVENTFD_FULL, make_blocking

both_kinds = pytest.mark.parametrize("packed", [False, True], ids=["split", "packed"])


def fill(fd):
    os.set_blocking(fd, False)
    try:
        while True:
            os.write(fd, bytes(4096))
    except BlockingIOError:
        pass
    try:
        while True:
            os.write(fd, b"x")
    except BlockingIOError:
        pass


def full_pipe():
    read_end, write_end = os.pipe()
    fill(write_end)
    make_blocking(write_end)
    return write_end, read_end


def strange():
    """name: (descriptor, what else to close): everything that is not a well-behaved eventfd."""
    pair = socket.socketpair()
    full = full_pipe()
    read_end, write_end = os.pipe()
    broken_read, broken_write = os.pipe()
    os.close(broken_read)
    hung_read, hung_write = os.pipe()
    os.close(hung_write)
    readonly = os.open("/proc/self/stat", os.O_RDONLY)
    return {
        "socket": (pair[0].detach(), pair[1].detach()),
        "full pipe": full,
        "write end of a pipe": (write_end, read_end),
        "read end of a pipe": (os.dup(read_end),),
        "pipe without a reader": (broken_write,),
        "pipe without a writer": (hung_read,),
        "memfd": (os.memfd_create("fe-event", os.MFD_CLOEXEC),),
        "/dev/null": (os.open("/dev/null", os.O_RDWR),),
        "/dev/zero": (os.open("/dev/zero", os.O_RDWR),),
        "/dev/full": (os.open("/dev/full", os.O_RDWR),),
        "directory": (os.open("/tmp", os.O_RDONLY),),
        "read-only file": (readonly,),
        "semaphore": (os.eventfd(0xffffffff, os.EFD_SEMAPHORE),),
    }


STRANGE = ["socket", "full pipe", "write end of a pipe", "read end of a pipe",
           "pipe without a reader",
           "pipe without a writer", "memfd", "/dev/null", "/dev/zero", "/dev/full", "directory",
           "read-only file",
           "semaphore"]


@pytest.fixture
def stranger():
    made = strange()
    yield lambda name: made[name][0]
    for fds in made.values():
        for fd in fds:
            try:
                os.close(fd)
            except OSError:
                pass


@pytest.mark.parametrize("name", STRANGE)
@pytest.mark.parametrize("request_", [Req.SET_VRING_KICK, Req.SET_VRING_CALL, Req.SET_VRING_ERR],
                         ids=lambda value: value.name)
def test_a_descriptor_that_is_no_eventfd(scene, stranger, request_, name):
    """Refused, or of no use to that ring: the other ring of the session and the neighbour go on."""
    disk = scene.open(queues=2)
    scene.goes_on(disk, queue=1)
    count = scene.neighbour.count
    try:
        disk.wire.send(request_, p.U64.pack(0), [stranger(name)], need_reply=True)
        disk.wire.recv_reply(request_)
    except Closed:
        return
    ring = disk.queues[0].ring
    for i in range(5):
        request = disk.prepare(blk.T_IN, 0, in_bytes=512)
        ring.add(disk.chain(request), request)
        ring.publish()
        disk.queues[0].kick.signal()
        time.sleep(0.01)
    if request_ == Req.SET_VRING_ERR:
        ring.add([(0xdead_0000_0000, 16, False)])
        ring.publish()
        disk.queues[0].kick.signal()
        time.sleep(0.02)
    scene.neighbour.check(count)
    scene.goes_on(disk, queue=1)


@both_kinds
def test_a_call_fd_that_blocks_ends_its_session_and_nothing_else(scene, packed):
    """The counter is full and O_NONBLOCK is cleared: a write sleeps until somebody reads, which
    nobody does. Who does that to an lcore loses the session; the slot is open again soon."""
    disk = scene.open(queues=2, packed=packed)
    scene.goes_on(disk, queue=1)
    queue = disk.queues[0]
    make_blocking(queue.call.fd)
    os.eventfd_write(queue.call.fd, EVENTFD_FULL)
    queue.ring.arm()
    disk.submit([disk.prepare(blk.T_IN, 0, in_bytes=512)])
    count = scene.neighbour.count
    scene.ended(disk, r"block")
    scene.neighbour.check(count)


@both_kinds
def test_a_call_fd_that_starts_to_block_under_load(scene, packed):
    disk = scene.open(queues=2, packed=packed)
    queue = disk.queues[0]
    stop = threading.Event()

    def sabotage():
        while not stop.is_set():
            make_blocking(queue.call.fd)
            try:
                os.set_blocking(queue.call.fd, False)
                os.eventfd_write(queue.call.fd, 1 << 62)
            except BlockingIOError:
                pass
            make_blocking(queue.call.fd)
            time.sleep(0.001)

    thread = threading.Thread(target=sabotage)
    thread.start()
    try:
        end = time.monotonic() + 1.0
        while time.monotonic() < end:
            request = disk.prepare(blk.T_IN, 0, in_bytes=512)
            try:
                queue.ring.add(disk.chain(request), request)
            except IndexError:
                break
            queue.ring.publish()
            queue.kick.signal()
            for done, _ in queue.ring.used():
                disk.release(done)
            time.sleep(0.001)
        scene.neighbour.check(scene.neighbour.count)
    finally:
        stop.set()
        thread.join()
        os.set_blocking(queue.call.fd, False)
    try:
        scene.goes_on(disk, queue=1)
        disk.fence()
    except (Closed, IoError):
        scene.reason(r"block")


def test_a_full_call_fd_that_does_not_block_costs_nothing(scene):
    disk = scene.open()
    queue = disk.queues[0]
    os.eventfd_write(queue.call.fd, EVENTFD_FULL)
    for i in range(20):
        request, = disk.submit([disk.prepare(blk.T_IN, i, in_bytes=512)])
        queue.poll_done(request)
        queue.ring.arm()
    queue.call.count()
    scene.goes_on(disk)


def test_an_err_fd_that_blocks_ends_its_session_and_nothing_else(scene):
    disk = scene.open(queues=2)
    queue = disk.queues[0]
    make_blocking(queue.err.fd)
    os.eventfd_write(queue.err.fd, EVENTFD_FULL)
    queue.ring.add([(0xdead_0000_0000, 16, False)])
    count = scene.neighbour.count
    queue.notify()
    scene.ended(disk, r"block")
    scene.neighbour.check(count)


def test_a_kick_fd_that_blocks_on_reading_stops_nobody(scene):
    """Two read what one wrote: the front end takes the count away between the daemon's look and its
    read."""
    disk = scene.open(queues=2)
    queue = disk.queues[0]
    make_blocking(queue.kick.fd)
    stop = threading.Event()

    def steal():
        fd = os.dup(queue.kick.fd)
        while not stop.is_set():
            if select.select([fd], [], [], 0.01)[0]:
                try:
                    os.set_blocking(fd, False)
                    os.eventfd_read(fd)
                except BlockingIOError:
                    pass
                make_blocking(fd)
        os.close(fd)

    thread = threading.Thread(target=steal)
    thread.start()
    try:
        end = time.monotonic() + 1.0
        while time.monotonic() < end:
            queue.kick.signal()
            time.sleep(0.0005)
        scene.goes_on(disk, queue=1)
    finally:
        stop.set()
        thread.join()
    os.set_blocking(queue.kick.fd, False)
    scene.neighbour.check(scene.neighbour.count)
    scene.goes_on(disk, queue=0)


@both_kinds
def test_a_storm_of_kicks_for_nothing(scene, packed):
    disk = scene.open(packed=packed)
    kick = disk.queues[0].kick
    count = scene.neighbour.count
    end = time.monotonic() + 1.0
    while time.monotonic() < end:
        for _ in range(100):
            kick.signal()
    scene.neighbour.check(count)
    scene.goes_on(disk)


def test_a_storm_of_kicks_on_a_broken_and_on_a_disabled_ring(scene):
    disk = scene.open(queues=3)
    disk.queues[0].ring.add([(0xdead_0000_0000, 16, False)])
    disk.queues[0].notify()
    disk.set_vring_enable(1, False)
    count = scene.neighbour.count
    end = time.monotonic() + 0.7
    while time.monotonic() < end:
        for queue in (0, 1):
            disk.queues[queue].kick.signal()
    scene.neighbour.check(count)
    scene.goes_on(disk, queue=2)


def test_one_eventfd_for_everything(scene):
    """Kick, call and err of two rings are the same descriptor: the device wakes itself, and no
    more."""
    disk = scene.open(queues=2)
    event = EventFd()
    for index in (0, 1):
        for request in (Req.SET_VRING_CALL, Req.SET_VRING_ERR, Req.SET_VRING_KICK):
            disk.tell(request, p.U64.pack(index), [event.fd])
    for i in range(20):
        for index in (0, 1):
            request = disk.prepare(blk.T_IN, 0, in_bytes=512)
            disk.queues[index].ring.add(disk.chain(request), request)
            disk.queues[index].ring.publish()
            event.signal()
            deadline = time.monotonic() + PATIENCE
            while not request.done and time.monotonic() < deadline:
                for done, _ in disk.queues[index].ring.used():
                    done.done = True
                event.signal()
            assert request.done
    disk.fence()
    event.close()


def test_the_session_socket_itself_as_an_event(scene):
    disk = scene.open(queues=2)
    for request in (Req.SET_VRING_CALL, Req.SET_VRING_KICK, Req.SET_VRING_ERR,
                    Req.SET_BACKEND_REQ_FD):
        try:
            disk.wire.send(request, b"" if request == Req.SET_BACKEND_REQ_FD else p.U64.pack(0),
                           [disk.wire.sock.fileno()],
                           need_reply=True)
            disk.wire.recv_reply(request)
        except Closed:
            return
        except Exception as error:
            assert type(error).__name__ in ("ProtocolError", "TimeoutError"), error
            return


def test_the_daemons_own_socket_connected_to_itself(scene):
    """A descriptor of another session of the same daemon keeps that one open only as long as it is
    held."""
    other = scene.wire()
    with BlkDisk.open(scene.stage.path("plain")) as disk:
        with suppress(Closed):
            disk.ack(Req.SET_VRING_CALL, p.U64.pack(0), [other.sock.fileno()])
            disk.submit([disk.prepare(blk.T_IN, 0, in_bytes=512)])
            time.sleep(0.05)


@pytest.mark.parametrize("request_", [Req.SET_VRING_KICK, Req.SET_VRING_CALL, Req.SET_VRING_ERR],
                         ids=lambda value: value.name)
def test_two_descriptors_for_one_event_are_refused(scene, request_):
    disk = scene.open()
    fds = [os.eventfd(0), os.eventfd(0)]
    expect_refusal(disk, request_, p.U64.pack(0), fds)
    for fd in fds:
        os.close(fd)
    scene.reason(r"descriptors?|fds?\b")
