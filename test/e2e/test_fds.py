# SPDX-License-Identifier: BSD-3-Clause
"""File descriptors of front ends: those that cannot be closed hold up nobody else, nor the end of
the program; none is kept of half a message; and as many as the system allows are there for all."""

import re
import signal
import time

from lingering import lingering_socket
from vhostuser import BlkDisk, Wire
from vhostuser import protocol as p
from vhubd import seconds_until


def send_stuck_fds(path, n):
    """One byte of a message, and more fds than a request may have. Returns the peers."""
    wire = Wire.connect(path)
    pairs = [lingering_socket(3600) for _ in range(n)]
    wire.send_raw(p.HEADER.pack(1, p.VERSION, 0)[:1], fds=[ours.fileno() for ours, _ in pairs])
    for ours, _ in pairs:
        ours.close()
    return wire, [peer for _, peer in pairs]


def test_fds_that_cannot_be_closed_hold_up_neither_others_nor_the_end(vhubd, blk):
    daemon = vhubd(blk("bad"), blk("worse"), blk("good"))
    bad, worse, good = (str(path) for path in daemon.sockets)
    # It reads when ours are closed: the last close is the one that is stuck.
    daemon.process.send_signal(signal.SIGSTOP)
    wires, peers = zip(*(send_stuck_fds(path, 32) for path in (bad, worse)))
    daemon.process.send_signal(signal.SIGCONT)
    # Longer than one thread waits for another.
    time.sleep(0.5)
    for _ in range(3):
        with BlkDisk.open(good) as disk:
            disk.read(0, 4096)
    daemon.process.send_signal(signal.SIGTERM)
    seconds_until(lambda: daemon.process.poll() is not None)
    assert daemon.process.returncode == 0
    assert not any(path.exists() for path in daemon.sockets)
    for each in (*wires, *(peer for many in peers for peer in many)):
        each.close()


def test_a_front_end_that_leaves_its_own_end_behind_is_known_to_be_gone(vhubd, blk):
    """As an fd of half a message: while it is open nobody hangs up."""
    daemon = vhubd(blk("a"))
    path = str(daemon.sockets[0])
    wire = Wire.connect(path)
    wire.send_raw(p.HEADER.pack(p.Req.SET_MEM_TABLE, p.VERSION, 264), fds=[wire.sock.fileno()])
    wire.close()
    with BlkDisk.open(path) as disk:
        disk.read(0, 4096)


def test_the_soft_limit_on_fds_is_raised_to_the_hard_one(vhubd, blk):
    daemon = vhubd(blk("a"), prefix=["prlimit", "--nofile=512:4096"])
    with open(f"/proc/{daemon.pid}/limits") as file:
        assert re.search(r"^Max open files +4096 +4096 ", file.read(), re.M)
