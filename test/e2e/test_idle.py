# SPDX-License-Identifier: BSD-3-Clause
"""What an idle vhubd costs, and how fast it wakes: the policies "adaptive" and "poll"."""

import os
import random
import statistics
import time

import pytest

from vhostuser import BlkDisk
from vhostuser import blk as requests

pytestmark = pytest.mark.alone

WAKES = 1000


def cpu_ns(pid):
    """Time on a CPU of all threads, in ns, from /proc/PID/task/*/schedstat."""
    total = 0
    for task in os.listdir("/proc/%d/task" % pid):
        with open("/proc/%d/task/%s/schedstat" % (pid, task)) as file:
            total += int(file.read().split()[0])
    return total


def share(pid, seconds):
    """Part of one CPU that the process uses in the next seconds."""
    begin, start = time.monotonic(), cpu_ns(pid)
    time.sleep(seconds)
    return (cpu_ns(pid) - start) / 1e9 / (time.monotonic() - begin)


@pytest.mark.plain_only
def test_an_idle_connected_front_end_costs_less_than_one_percent_of_a_cpu(vhubd, blk):
    daemon = vhubd(blk(queues=4))
    with BlkDisk.open(str(daemon.sockets[0]), queues=4) as disk:
        for queue in range(4):
            disk.read(0, 4096, queue=queue)
        time.sleep(0.5)
        used = share(daemon.pid, 3.5)
        print("CPU with an idle guest: %.3f %%" % (100 * used))
        assert used < 0.01
        disk.read(0, 4096)


@pytest.mark.plain_only
def test_without_a_front_end_vhubd_sleeps(vhubd, blk):
    daemon = vhubd(blk("a"), blk("b"))
    time.sleep(0.5)
    assert share(daemon.pid, 1.5) < 0.01


@pytest.mark.plain_only
def test_after_the_last_front_end_vhubd_sleeps_again(vhubd, blk):
    daemon = vhubd(blk())
    for packed in (False, True):
        with BlkDisk.open(str(daemon.sockets[0]), packed=packed, event_idx=True) as disk:
            for i in range(50):
                disk.read(i, 4096)
    time.sleep(0.5)
    assert share(daemon.pid, 1.5) < 0.01


def wakes(disk, count, pause):
    """Times from the kick of a lone request to its completion, in seconds, each after a pause; and
    how many were kicked."""
    times, kicked = [], 0
    queue = disk.queues[0]
    queue.ring.disarm()
    for i in range(count):
        time.sleep(pause())
        request = disk.prepare(requests.T_IN, i % 64, in_bytes=512)
        queue.ring.add(disk.chain(request), request)
        begin = time.perf_counter()
        if queue.ring.publish():
            queue.kick.signal()
            kicked += 1
        done = []
        while not done:
            done = queue.ring.used()
            if not done and time.perf_counter() - begin > 30:
                raise AssertionError("wake %d was lost" % i)
            if not done:
                os.sched_yield()
        times.append(time.perf_counter() - begin)
        disk.release(request)
    return times, kicked


def test_a_thousand_wakes_are_fast_and_none_is_lost(vhubd, blk, slow):
    daemon = vhubd(blk())
    with BlkDisk.open(str(daemon.sockets[0]), event_idx=True) as disk:
        # Longer than any spinning: the device is asleep each time.
        times, kicked = wakes(disk, WAKES, lambda: 0.002)
    median = statistics.median(times)
    print("wakes: median %.0f us, worst %.0f us, %d kicks"
          % (1e6 * median, 1e6 * max(times), kicked))
    assert kicked >= 0.9 * WAKES, "the device was awake, so nothing was measured"
    assert median < 0.001 * slow


def test_no_wake_is_lost_at_the_moment_of_falling_asleep(vhubd, blk):
    """Pauses around the time after which a worker goes to sleep (--idle-us 50): the race between
    the last look and the sleep."""
    daemon = vhubd(blk(), args=["--idle-us", "50"])
    chance = random.Random(3)
    for packed in (False, True):
        for event_idx in (False, True):
            with BlkDisk.open(str(daemon.sockets[0]), packed=packed, event_idx=event_idx) as disk:
                wakes(disk, WAKES // 2, lambda: chance.uniform(0, 0.0003))


@pytest.mark.plain_only
def test_poll_never_sleeps(vhubd, blk):
    daemon = vhubd(blk(), args=["--idle", "poll"])
    with BlkDisk.open(str(daemon.sockets[0])) as disk:
        disk.read(0, 4096)
        time.sleep(0.2)
        # Much more than any sleeper needs; on a machine with others on it not a whole CPU.
        assert share(daemon.pid, 1.0) > 0.05
        assert disk.queues[0].ring.used16[0] & 1, "a polling device needs no kicks"
        disk.read(0, 4096)
