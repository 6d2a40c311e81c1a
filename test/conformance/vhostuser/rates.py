# SPDX-License-Identifier: BSD-3-Clause
"""Rates of a load while something else happens: "does this disturb that".

Used by the load generators (load.py, and the checker of test/e2e/testpmd.py) and by tests about
neighbours.
"""

import statistics
import time

from .wire import PATIENCE

LEAST = 0.9
ROUNDS = 3


class Meter:
    """What has samples (CLOCK_MONOTONIC, things done so far) and a check() that raises when the
    load has ended."""

    def __init__(self):
        self.samples = []

    def wait_running(self, timeout=10):
        deadline = time.monotonic() + timeout
        while len(self.samples) < 10:
            self.check()
            if time.monotonic() > deadline:
                raise AssertionError("the load does not begin")
            time.sleep(0.01)

    def rate(self, begin, end):
        """Things done a second between two moments of CLOCK_MONOTONIC; both have to be in the past."""
        deadline = time.monotonic() + PATIENCE
        while not self.samples or self.samples[-1][0] < end:
            self.check()
            if time.monotonic() > deadline:
                raise AssertionError("the load stands still")
            time.sleep(0.01)
        # The samples around the window: inside there may be none, when the CPU was with others.
        first, a = next((each for each in reversed(self.samples) if each[0] <= begin), self.samples[0])
        last, b = next(each for each in self.samples if each[0] >= end)
        return (b - a) / (last - first)


def ratio_during(load, disturb, elsewhere, seconds=0.5, pairs=8):
    """Alternates quiet windows, in which elsewhere(seconds) runs, with windows in which disturb(seconds)
    does (each has to take that long). Returns median rate during / median rate before, and both medians."""
    quiet, during = [], []
    for _ in range(pairs):
        begin = time.monotonic()
        elsewhere(seconds)
        middle = time.monotonic()
        disturb(seconds)
        end = time.monotonic()
        quiet.append(load.rate(begin, middle))
        during.append(load.rate(middle, end))
    before, after = statistics.median(quiet), statistics.median(during)
    return after / before, before, after


def hold(load, disturb, elsewhere=time.sleep):
    """The ratio is at least LEAST. The machine is shared with others: a round that misses is
    measured again. What takes CPU time of the test's own does the same elsewhere in the quiet windows, to
    another daemon."""
    seen = []
    for _ in range(ROUNDS):
        ratio, before, during = ratio_during(load, disturb, elsewhere)
        seen.append("%.3f (%.0f -> %.0f a second)" % (ratio, before, during))
        print("rate during / before:", seen[-1])
        if ratio >= LEAST:
            return
    raise AssertionError("the neighbour's rate fell: %s" % ", ".join(seen))
