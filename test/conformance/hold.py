# SPDX-License-Identifier: BSD-3-Clause
"""Storage that answers when a test wants it to: disks of driver=unruly with hold=PATH (test/tools/unruly/unruly.c).

Used by tests of what happens while requests are in flight. However long the machine takes, what is held is in
flight, and what was let go is not held.
"""

import threading
import time
from contextlib import contextmanager

from vhostuser import PATIENCE, wait_until

#: As long as an answer that is not given is waited for.
SILENCE = 0.05


class Hold:
    """In a `with` block the storage answers nothing; let_go() ends that before."""

    def __init__(self, path):
        self.path = path

    def __enter__(self):
        self.path.touch()
        return self

    def __exit__(self, *_):
        self.let_go()

    def let_go(self):
        self.path.unlink(missing_ok=True)

    @contextmanager
    def let_go_meanwhile(self):
        """The storage answers while the block waits for it, which ends no earlier."""
        timer = threading.Timer(SILENCE, self.let_go)
        timer.start()
        try:
            yield
            assert not self.path.exists(), "nobody has waited for what was in flight"
        finally:
            timer.join()


def wait_in_flight(control, name, count):
    """Until the disk has taken so many requests, as the control socket tells."""
    deadline = time.monotonic() + PATIENCE
    while True:
        queues = control.call("device_stats", name=name)[0]["queues"]
        if sum(queue["in_flight"] for queue in queues) == count:
            return
        assert time.monotonic() < deadline, queues
        time.sleep(0.001)


def wait_taken(disk, count, queue=0):
    """Until the back end has so many requests of the queue, as the inflight region tells."""
    wait_until(lambda: len(disk.region.inflight(queue)) == count, lambda: disk.region.inflight(queue))
