# SPDX-License-Identifier: BSD-3-Clause
"""How far the front end's CPU and the back end's are from each other: the time that a cache line takes
from one to the other and back. A host moves virtual CPUs about, and what crosses between the two sides
then takes several times as long: such runs compare with nothing but their like.

Called by runner.py around each run; stats.py, the next file on the way, decides what compares.
"""

import json
import subprocess
import time

from vhubd import build_dir

from . import stats

LOOK_EVERY = 1.0            # seconds, while waiting


def time_of_line(cpus):
    """Nanoseconds, or None: it cannot be said."""
    command = [build_dir() / "app/vhub-perf", "line", "--cpus", ",".join(map(str, cpus)), "--json", "-"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
        return json.loads(done.stdout)["median_ns"] if done.returncode == 0 else None
    except (OSError, subprocess.TimeoutExpired, ValueError, KeyError):
        return None


class Line:
    """patience: seconds in all that are waited for CPUs as near to each other as they have been."""

    def __init__(self, cpus, patience=0.0, look=time_of_line, sleep=time.sleep):
        self.cpus, self.patience, self.look, self.sleep = cpus, patience, look, sleep
        self.least = None
        self.now = None

    def measure(self):
        self.now = self.look(self.cpus)
        if self.now is not None:
            self.least = min(self.now, self.least or self.now)
        return self.now

    def before_run(self, tell):
        """The way before a run: as the last one left it, or after a wait."""
        if self.now is None:
            self.measure()
        while self.patience > 0 and self.now is not None and not stats.is_near(self.now, self.least):
            tell(f"the CPUs are apart: a cache line takes {self.now:.0f} ns, not {self.least:.0f}; waiting")
            self.sleep(LOOK_EVERY)
            self.patience -= LOOK_EVERY
            self.measure()
        return self.now

    def around(self, run, tell=lambda text: None):
        """What run() tells, with the longer of the ways before it and after it."""
        ways = [self.before_run(tell)]
        told = run()
        ways.append(self.measure())
        told["line_ns"] = None if None in ways else max(ways)
        return told
