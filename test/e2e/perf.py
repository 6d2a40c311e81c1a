# SPDX-License-Identifier: BSD-3-Clause
"""Runs vhub-perf for a test.

Used by the tests of vhub-perf.
"""

import json
import os
import signal
import subprocess
import time
from contextlib import contextmanager

from vhubd import SANITIZER, VhubdError, build_dir, dies_with_us


class Run:
    """What a vhub-perf has done: its status, its JSON report (None without one), what it printed and said."""

    def __init__(self, status, printed, said):
        self.status = status
        self.out = printed
        self.said = said
        self.report = json.loads(printed) if printed.startswith("{") else None

    @property
    def error(self):
        """Why the run ended early."""
        return (self.report or {}).get("error", "")

    def __repr__(self):
        return f"status {self.status}, said {self.said!r}, report {json.dumps(self.report)}"


class Perf:
    """A vhub-perf that runs; `args` are the options of the command."""

    def __init__(self, command, *args, runtime="0.3", ramp="0.02", pass_fds=()):
        words = [build_dir() / "app/vhub-perf", command, "--json", "-", "--runtime", runtime,
                 "--ramp-time", ramp, *args]
        if command in ("blk", "net") and "--patience" not in args:
            words += ["--patience", "30000"]    # a machine that does much else may take a while
        self.process = subprocess.Popen(dies_with_us([str(word) for word in words]), stdin=subprocess.DEVNULL,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                        pass_fds=pass_fds)

    def interrupt(self):
        """As Ctrl-C does."""
        self.process.send_signal(signal.SIGINT)

    def finish(self, timeout=120):
        """Waits for its end; a Run."""
        try:
            printed, said = self.process.communicate(timeout=timeout)
        finally:
            self.process.kill()
        if SANITIZER.search(said):
            raise VhubdError(f"a sanitizer speaks in vhub-perf:\n{said[-4000:]}")
        return Run(self.process.returncode, printed, said)


def vhub_perf(command, *args, **keywords):
    """Runs it to its end; a Run."""
    return Perf(command, *args, **keywords).finish()


@contextmanager
def cheapest(kind, path):
    """A vhub-cheapest, "blk" or "net", on the last CPU; it has to end with its front end. Yields a list that
    has, after the block, what it has served."""
    words = [build_dir() / "test/tools/vhub-cheapest", kind, path, max(os.sched_getaffinity(0))]
    served = []
    with subprocess.Popen(dies_with_us(list(map(str, words))), stdout=subprocess.PIPE, text=True) as peer:
        try:
            yield served
            served.append(int(peer.communicate(timeout=60)[0].split()[0]))
        finally:
            peer.kill()


def wait_for_work(daemon, timeout=60):
    """Until the vhubd, which sleeps while there are no requests, has worked for a while."""
    before, deadline = daemon.cpu_seconds(), time.monotonic() + timeout
    while daemon.cpu_seconds() < before + 0.05:
        assert time.monotonic() < deadline, "no requests come"
        time.sleep(0.02)
