# SPDX-License-Identifier: BSD-3-Clause
"""A front end that stalls in the middle of a message, or truncates its memory under I/O, costs its
neighbours nothing: the rate of another disk is measured before and during, in alternating
windows."""

import time
from contextlib import suppress
from functools import partial
from itertools import cycle

import pytest

from vhostuser import BlkDisk, Closed, Req, Wire
from vhostuser import blk as requests
from vhostuser import protocol as p
from vhostuser.load import Load
from vhostuser.rates import hold

pytestmark = [pytest.mark.plain_only, pytest.mark.alone]


def test_half_a_message_and_a_stall_do_not_slow_another_disk(vhubd, blk):
    daemon = vhubd(blk("victim"), blk("header"), blk("innocent"))
    victim, header, innocent = (str(path) for path in daemon.sockets)
    load = Load(innocent)
    load.wait_running()

    def stall(seconds):
        first, second = Wire.connect(victim), Wire.connect(header)
        first.send_raw(p.HEADER.pack(Req.SET_MEM_TABLE, p.VERSION, 264) + bytes(100))
        second.send_raw(p.HEADER.pack(Req.SET_FEATURES, p.VERSION, 8)[:7])
        time.sleep(seconds)
        first.close()
        second.close()

    hold(load, stall)
    load.stop()
    for path in (victim, header):
        with BlkDisk.open(path) as disk:
            disk.read(0, 4096)


def burst(disk):
    """I/O in a region of its own, which can be cut without touching the ring."""
    region = disk.mem.regions[2]
    made = []
    for i in range(16):
        request = disk.prepare(requests.T_IN, 8 * i)
        request.data = [(region.gpa + i * 65536, 4096)]
        request.writes = True
        made.append(request)
    return disk.submit(made)


def test_truncated_memory_under_io_does_not_slow_another_disk(vhubd, blk):
    # In turn: a slot whose front end did that is closed for a second.
    daemon = vhubd(blk("innocent"), *(blk("victim%d" % i) for i in range(8)))
    innocent, *victims = (str(path) for path in daemon.sockets)
    elsewhere = [str(path) for path in vhubd(*(blk("elsewhere%d" % i) for i in range(8))).sockets]
    load = Load(innocent)
    load.wait_running()
    cut = []

    def truncate(paths, seconds):
        end = time.monotonic() + seconds
        path = next(paths)
        disk = BlkDisk.open(path, regions=(0, 0, 0))
        disk.wait(burst(disk))
        burst(disk)
        disk.mem.regions[2].truncate(0)
        # Whether or not the burst was over by then, this one meets no memory.
        request = disk.prepare(requests.T_IN)
        request.data = [(disk.mem.regions[2].gpa, 4096)]
        request.writes = True
        with suppress(Closed):
            disk.submit([request])
            assert disk.wire.wait_closed()
        cut.append(path)
        disk.close()
        time.sleep(max(0.0, end - time.monotonic()))

    hold(load, partial(truncate, cycle(victims)), partial(truncate, cycle(elsewhere)))
    load.stop()
    assert set(cut) == {*victims, *elsewhere}
    assert daemon.running()
    for victim in victims:
        with BlkDisk.open(victim) as disk:
            disk.read(0, 4096)
