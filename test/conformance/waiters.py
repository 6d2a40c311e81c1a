# SPDX-License-Identifier: BSD-3-Clause
"""Very many who wait on a descriptor: copies of it, each in many epoll instances. Who wakes them runs through
all of them. Used by tests of front ends that have the daemon do that.
"""

import os
import select
import socket
import threading
import time
from contextlib import ExitStack, contextmanager

#: What a walk through them is to cost, in CPU time; three times as much as the least that is held against a front end.
WALK = 0.006
FEWEST, MOST = 10000, 400000
SAMPLE = 16384


def epoll_of(fds):
    made = select.epoll()
    for fd in fds:
        made.register(fd, select.EPOLLPRI)
    return made


@contextmanager
def waiting(fd, count):
    """In a `with` block that many wait on `fd`, which need no more descriptors than twice the root of it."""
    side = int(count ** 0.5)
    with ExitStack() as stack:
        copies = []
        for _ in range(side):
            copies.append(os.dup(fd))
            stack.callback(os.close, copies[-1])
        for _ in range(side):
            stack.callback(epoll_of(copies).close)
        yield


def count_for(seconds):
    """How many have to wait for a walk to take so long here."""
    ours, theirs = socket.socketpair()
    with ours, theirs, waiting(theirs.fileno(), SAMPLE):
        costs = []
        for _ in range(16):
            begin = time.thread_time()
            ours.send(b"x")
            costs.append(time.thread_time() - begin)
    return max(FEWEST, min(MOST, int(SAMPLE * seconds / min(costs))))


@contextmanager
def too_many_waiting(fd):
    with waiting(fd, count_for(WALK)):
        yield


@contextmanager
def waking(wake):
    """In a `with` block another thread wakes those who wait, all the time."""
    stop = threading.Event()

    def run():
        while not stop.is_set():
            wake()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
