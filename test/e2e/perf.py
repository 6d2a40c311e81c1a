# SPDX-License-Identifier: BSD-3-Clause
"""Runs vhub-perf for a test.

Used by the tests of vhub-perf.
"""

import json
import subprocess

from vhubd import SANITIZER, VhubdError, build_dir, dies_with_us


class Run:
    """What a vhub-perf has done: its status, its JSON report (None without one), what it said."""

    def __init__(self, done):
        self.status = done.returncode
        self.said = done.stderr
        self.report = json.loads(done.stdout) if done.stdout.startswith("{") else None

    def __repr__(self):
        return f"status {self.status}, said {self.said!r}, report {json.dumps(self.report)}"


def vhub_perf(command, *args, runtime="0.1", ramp="0.02", timeout=60):
    """Runs it to its end; `args` are the options of the command."""
    words = [build_dir() / "app/vhub-perf", command, "--json", "-", "--runtime", runtime, "--ramp-time", ramp,
             *args]
    done = subprocess.run(dies_with_us([str(word) for word in words]), capture_output=True, text=True,
                          timeout=timeout, stdin=subprocess.DEVNULL, check=False)
    if SANITIZER.search(done.stderr):
        raise VhubdError(f"a sanitizer speaks in vhub-perf:\n{done.stderr[-4000:]}")
    return Run(done)
