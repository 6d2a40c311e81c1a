# SPDX-License-Identifier: BSD-3-Clause
"""Frames through a port that echoes them, each looked at, while a test does something else.

Stands on net.py and packets.py.
"""

import threading
import time

from . import packets


def flow(session, count, seed=0, pair=0, most=16):
    """Sends `count` frames, a few at a time, and receives them in order."""
    sent = 0
    while sent < count:
        part = min(most, count - sent)
        frames = [packets.plain(seed + sent + i, 60 + (sent + i) % 900) for i in range(part)]
        packets_ = session.submit([session.prepare(frame) for frame in frames], pair)
        for frame in frames:
            assert session.receive(pair).frame == packets.swapped(frame)
        # A buffer may come back to its sender after the receiver has its packet.
        session.wait_sent(packets_, pair)
        sent += part


class Flow:
    """Frames that are sent and received all the while, by a thread of its own, a burst under way at
    any moment."""

    def __init__(self, session, pair=0):
        self.session = session
        self.pair = pair
        self.count = 0
        self.error = None
        self.end = threading.Event()
        self.thread = threading.Thread(target=self._run)

    def _run(self):
        try:
            while not self.end.is_set():
                flow(self.session, 16, self.count, self.pair)
                self.count += 16
        except Exception as error:      # told by __exit__
            self.error = error

    def more(self, count=32):
        """Waits until it has gone on."""
        until, deadline = self.count + count, time.monotonic() + 10
        while self.count < until and self.error is None and time.monotonic() < deadline:
            time.sleep(0.0002)
        assert self.error is None and self.count >= until, repr(self.error)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.end.set()
        self.thread.join()
        assert self.error is None, repr(self.error)
