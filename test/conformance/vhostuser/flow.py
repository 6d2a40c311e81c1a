# SPDX-License-Identifier: BSD-3-Clause
"""Frames through a port that echoes them, each looked at, while a test does something else.

Stands on net.py, packets.py and meanwhile.py.
"""

import time

from . import packets
from .meanwhile import Meanwhile
from .wire import PATIENCE


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


class Flow(Meanwhile):
    """Frames that are sent and received all the while, by a thread of its own, a burst under way at
    any moment."""

    def __init__(self, session, pair=0):
        super().__init__()
        self.session = session
        self.pair = pair

    def step(self):
        flow(self.session, 16, self.count, self.pair)
        self.count += 16

    def more(self, count=32):
        """Waits until it has gone on."""
        until, deadline = self.count + count, time.monotonic() + PATIENCE
        while self.count < until and self.error is None and time.monotonic() < deadline:
            time.sleep(0.0002)
        assert self.error is None and self.count >= until, repr(self.error)
