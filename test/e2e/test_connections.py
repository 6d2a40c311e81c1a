# SPDX-License-Identifier: BSD-3-Clause
"""The ways a front end and vhubd come together: socket=, fd= with a listening and with a connected
descriptor, connect=; a second front end; a thousand sessions one after the other."""

import os
import socket
import stat
import time

import pytest

from vhostuser import PATIENCE, BlkDisk, Closed, EventFd, GuestMemory, Queue, SplitRing, Wire, pattern, wait_until


def works(disk, seed=1):
    disk.write(0, pattern(seed, 4096))
    assert disk.read(0, 4096) == pattern(seed, 4096)


def accept(listener, timeout=60):
    listener.settimeout(timeout)
    sock, _ = listener.accept()
    return Wire(sock)


def listening(path):
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.bind(str(path))
    sock.listen(4)
    return sock


def test_fd_with_a_connected_descriptor_serves_that_front_end(vhubd, blk):
    mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    daemon = vhubd(blk("inherited", fd=theirs.fileno()), blk("other"), pass_fds=[theirs.fileno()])
    theirs.close()
    with BlkDisk.open(wire=Wire(mine)) as disk:
        works(disk)
    # It has ended with its front end; the daemon and its other disk have not.
    with BlkDisk.open(str(daemon.sockets[0])) as disk:
        works(disk)
    daemon.stop()


def test_fd_with_a_connected_descriptor_notices_the_end(vhubd, blk):
    mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    daemon = vhubd(blk("inherited", fd=theirs.fileno()), blk("other"), pass_fds=[theirs.fileno()])
    theirs.close()
    disk = BlkDisk.open(wire=Wire(mine))
    works(disk)
    before = len(daemon.fds())
    disk.close()
    wait_until(lambda: len(daemon.fds()) < before)


def test_fd_with_a_listening_descriptor_serves_one_front_end_after_the_other(vhubd, blk, folder):
    path = folder / "activated.sock"
    listener = listening(path)
    daemon = vhubd(blk("activated", fd=listener.fileno()), pass_fds=[listener.fileno()])
    listener.close()
    for seed in range(5):
        with BlkDisk.open(str(path)) as disk:
            works(disk, seed)
    daemon.stop()
    # Who bound the file removes it.
    assert path.exists()


@pytest.mark.parametrize("make", [
    lambda: os.open("/dev/null", os.O_RDWR),
    lambda: os.memfd_create("x"),
    lambda: socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).detach(),
    lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM).detach(),
    lambda: socket.socket(socket.AF_UNIX, socket.SOCK_STREAM).detach(),
], ids=["/dev/null", "memfd", "datagram", "TCP", "not connected"])
def test_fd_with_anything_else_is_refused(vhubd, blk, folder, make):
    fd = make()
    before = set(folder.iterdir())
    daemon = vhubd(blk("first"), blk("strange", fd=fd), pass_fds=[fd], wait=False)
    os.close(fd)
    assert daemon.process.wait(60) not in (0, None)
    assert "fd=%d" % fd in daemon.log
    assert set(folder.iterdir()) - before == {daemon.log_path}


def test_connect_finds_a_front_end_that_listens(vhubd, blk, folder):
    path = folder / "front.sock"
    listener = listening(path)
    daemon = vhubd(blk("dialled", connect=path))
    with BlkDisk.open(wire=accept(listener)) as disk:
        works(disk)
    daemon.stop()
    assert path.exists()
    listener.close()


def test_connect_comes_back_after_the_front_end_hung_up(vhubd, blk, folder):
    listener = listening(folder / "front.sock")
    vhubd(blk("dialled", connect=folder / "front.sock"))
    for seed in range(3):
        with BlkDisk.open(wire=accept(listener)) as disk:
            works(disk, seed)
    listener.close()


def test_connect_waits_for_a_front_end_that_is_not_there_yet(vhubd, blk, folder):
    path = folder / "front.sock"
    daemon = vhubd(blk("dialled", connect=path), blk("other"))
    time.sleep(0.3)
    with BlkDisk.open(str(daemon.sockets[0])) as disk:
        works(disk)
    begin = daemon.cpu_seconds()
    listener = listening(path)
    with BlkDisk.open(wire=accept(listener)) as disk:
        works(disk)
    listener.close()
    path.unlink()
    assert daemon.cpu_seconds() - begin < 2


def test_a_second_front_end_is_accepted_and_closed_and_the_first_goes_on(vhubd, blk):
    daemon = vhubd(blk())
    path = str(daemon.sockets[0])
    with BlkDisk.open(path) as first:
        for seed in range(10):
            second = Wire.connect(path)
            works(first, seed)
            assert second.wait_closed()
            second.close()
        works(first)
    with BlkDisk.open(path) as next_one:
        works(next_one)


def test_a_second_front_end_that_sends_at_once_is_closed_too(vhubd, blk):
    daemon = vhubd(blk())
    path = str(daemon.sockets[0])
    with BlkDisk.open(path) as first:
        with pytest.raises(Closed):
            BlkDisk.open(path, patience=0)
        works(first)


def test_a_front_end_that_reconnects_at_once_is_served(vhubd, blk):
    """The slot may still be draining the one before: the next one waits for it."""
    daemon = vhubd(blk("late", driver="null", size="64M", latency_us=300000))
    path = str(daemon.sockets[0])
    from vhostuser import blk as requests
    for _ in range(3):
        disk = BlkDisk.open(path, patience=0)
        disk.submit([disk.prepare(requests.T_IN, i, in_bytes=512) for i in range(4)])
        disk.close()
    with BlkDisk.open(path, patience=0) as disk:
        assert len(disk.read(0, 512)) == 512


def test_the_mode_of_the_socket_file_can_be_chosen(vhubd, blk):
    daemon = vhubd(blk("a", mode="0600"), blk("b"), blk("c", mode="0666"))
    modes = [stat.S_IMODE(path.stat().st_mode) for path in daemon.sockets]
    assert modes == [0o600, 0o660, 0o666]


def test_a_stale_socket_file_is_replaced(vhubd, blk):
    daemon = vhubd(blk())
    path = daemon.sockets[0]
    daemon.kill()
    assert path.exists()
    daemon.start()
    with BlkDisk.open(str(path)) as disk:
        works(disk)


def test_a_socket_on_which_somebody_answers_is_not_taken(vhubd, blk, folder):
    first = vhubd(blk())
    second = vhubd(blk(), wait=False)
    assert second.process.wait(60) not in (0, None)
    assert str(first.sockets[0]) in second.log
    with BlkDisk.open(str(first.sockets[0])) as disk:
        works(disk)


def test_a_file_that_is_no_socket_is_left_alone(vhubd, blk, folder):
    precious = folder / "precious"
    precious.write_text("data")
    daemon = vhubd(blk(socket=precious), wait=False)
    assert daemon.process.wait(60) not in (0, None)
    assert str(precious) in daemon.log
    assert precious.read_text() == "data"


class Cycle:
    """A session from connect to disconnect, with everything a guest's start does."""

    def __init__(self, path):
        self.path = path
        self.mem = GuestMemory()
        self.ring = SplitRing(self.mem, 64)
        self.events = [EventFd() for _ in range(3)]

    def run(self, politely):
        disk = BlkDisk(self.path)
        disk.negotiate()
        disk.set_mem_table(self.mem)
        queue = Queue.__new__(Queue)
        queue.index, queue.ring = 0, self.ring
        queue.kick, queue.call, queue.err = self.events
        disk.start_queue(queue)
        disk.read(0, 4096)
        if politely:
            disk.get_vring_base(0)
        # Memory, ring and events are used again.
        disk.queues, disk.mem = {}, None
        disk.close()


def figures(daemon):
    return len(daemon.fds()), daemon.maps(), daemon.rss_kb(), len(daemon.threads())


def test_a_thousand_sessions_leave_no_descriptor_mapping_or_memory_behind(vhubd, blk, slow):
    daemon = vhubd(blk(queues=4))
    cycle = Cycle(str(daemon.sockets[0]))
    for i in range(100):
        cycle.run(i % 2)
    time.sleep(0.5)
    before = figures(daemon)
    for i in range(1000):
        cycle.run(i % 2)
    deadline = time.monotonic() + PATIENCE
    while figures(daemon)[:2] != before[:2] and time.monotonic() < deadline:
        time.sleep(0.05)
    after = figures(daemon)
    print("fds, mappings, rss, threads: %s before, %s after" % (before, after))
    assert after[0] == before[0]
    # A busy machine may make one more thread stand by for blocking work: a stack and an arena, once.
    assert after[3] <= before[3] + 2
    assert after[1] <= before[1] + 4 * (after[3] - before[3])
    # A sanitizer keeps what was freed for a while.
    grown = after[2] - before[2]
    assert grown <= (512 if slow == 1 else 65536), "rss grew by %d kB" % grown
