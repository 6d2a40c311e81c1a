# SPDX-License-Identifier: BSD-3-Clause
"""A load generator in a process of its own: keeps a block device busy and tells how far it has
come.

    /usr/bin/python3 -m vhostuser.load SOCKET [DEPTH [BYTES]]      (from the folder above this
    package)

Prints "TIME COUNT" (CLOCK_MONOTONIC, requests completed) every 20 ms until its standard input ends.
A test that starts it through Load asks for rates between any two moments. What it measures is the
back end as long as that is slower than Python; for "does another session disturb this one" that is
enough, and the same before and after.
"""

import os
import select
import subprocess
import sys
import threading
import time
from pathlib import Path

from .rates import Meter

INTERVAL = 0.02


class Load(Meter):
    """The generator as a test sees it."""

    def __init__(self, path, depth=64, size=4096):
        super().__init__()
        self.process = subprocess.Popen(
            ["/usr/bin/python3", "-m", "vhostuser.load", str(path), str(depth), str(size)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            cwd=Path(__file__).resolve().parent.parent)
        self.thread = threading.Thread(target=self._collect, daemon=True)
        self.thread.start()

    def _collect(self):
        for line in self.process.stdout:
            when, count = line.split()
            self.samples.append((float(when), int(count)))

    def check(self):
        if self.process.poll() is not None:
            raise AssertionError("the load ended: %s" % self.process.stderr.read())

    def stop(self):
        """Ends it; its I/O must have been without an error to the last."""
        self.process.stdin.close()
        code = self.process.wait(10)
        error = self.process.stderr.read()
        self.thread.join(5)
        if code != 0:
            raise AssertionError("the load failed: %s" % error)


def main():
    from .blk import BlkDisk, S_OK, T_IN
    path = sys.argv[1]
    depth = int(sys.argv[2]) if len(sys.argv) > 2 else 64
    size = int(sys.argv[3]) if len(sys.argv) > 3 else 4096
    disk = BlkDisk.open(path, size=1024, event_idx=True)
    queue = disk.queues[0]
    requests = [disk.prepare(T_IN, i * (size // 512), in_bytes=size) for i in range(depth)]
    chains = [disk.chain(request) for request in requests]
    count, told = 0, 0.0
    while True:
        # The whole batch at once: one publication, at most one kick, and one call or none.
        for request, chain in zip(requests, chains):
            queue.ring.add(chain, request)
        queue.notify()
        left = depth
        while left:
            done = queue.wait_used(10)
            if not done:
                sys.exit("%d of %d requests never came back" % (left, depth))
            left -= len(done)
        count += depth
        if any(request.status != S_OK for request in requests):
            sys.exit("a request failed")
        now = time.monotonic()
        if now - told >= INTERVAL:
            told = now
            os.write(1, b"%.6f %d\n" % (now, count))
            if select.select([0], [], [], 0)[0]:
                break
    disk.stop()
    disk.close()


if __name__ == "__main__":
    main()
