# SPDX-License-Identifier: BSD-3-Clause
"""Front ends that make the load. Each function measures one run against a back end that is there, and
returns {value, ...}: what came back a second, and the busy shares of both sides.

Called by cases.py, which says what is to be measured; stats.py, the next file on the way, makes sense of
what they return.
"""

import json
import os
import subprocess
import time

from testpmd import Program, Testpmd, front_end
from vhubd import build_dir
from vhostuser import BlkDisk, GuestMemory

from .backends import RING, TESTPMD_MB, Missing, need, shell_text

WARM_SECONDS = 0.4          # until queues are full, caches warm and clocks up
LONGEST = 60                # beyond the seconds that are measured


def share(before, after):
    """Of the time between two samples of busy()."""
    if before is None or after is None or after[1] <= before[1]:
        return None
    return min(1.0, max(0.0, (after[0] - before[0]) / (after[1] - before[1])))


# --- dpdk-testpmd with virtio-user ports

class UserTestpmd(Testpmd):
    __test__ = False

    def __init__(self, setting, folder, back, kind):
        need("dpdk-testpmd")
        eal = []
        for number, socket in enumerate(back.sockets):
            for word in front_end(socket, kind, queue_size=RING, server=back.listens, port=number):
                if not word.startswith("--force") or word not in eal:
                    eal.append(word)
        super().__init__(eal, args=[f"--txd={RING}", f"--rxd={RING}", "--record-core-cycles"], folder=folder,
                         cpu=setting.place(setting.front), memory_mb=TESTPMD_MB, name="front", huge=setting.huge)

    def sample(self, back):
        """(time, packets received by all ports, busy of the front end, busy of the back end)"""
        received = sum(each["RX-packets"] for each in self.port_stats().values())
        now = time.monotonic()
        return now, received, (self.busy_seconds(), time.monotonic()), back.busy()


def testpmd(setting, folder, back, *, kind, size, forward):
    """Packets a second that reach the front end: frames go round and round."""
    typed = [f"set txpkts {size}", f"set fwd {forward}", "start tx_first 16"]
    with UserTestpmd(setting, folder, back, kind) as front:
        for command in typed:
            front.cmd(command)
        time.sleep(WARM_SECONDS)
        begin = front.sample(back)
        time.sleep(setting.seconds)
        end = front.sample(back)
        if end[1] == begin[1]:
            raise front._error("received no packet while it was measured")
        rate = (end[1] - begin[1]) / (end[0] - begin[0])
        return {"value": rate, "bytes_per_s": rate * size, "front_busy": share(begin[2], end[2]),
                "back_busy": share(begin[3], end[3]),
                "commands": [shell_text(front.command(), strip=("stdbuf", "-oL"))
                             + "".join(f"\n    testpmd> {command}" for command in typed)]}


# --- sessions that do nothing

REGION = (0, 1 << 20, 0x7e00_0000_0000, 0)      # guest address, bytes, user address, offset in its file


class IdleDisks:
    """Sessions with disks, one ring each, on which nothing ever comes."""

    def __init__(self, sockets):
        self.sessions = []
        try:
            for path in sockets:
                self.sessions.append(BlkDisk.open(str(path), mem=GuestMemory([REGION]), kick=False, call=False))
        except BaseException:
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        for session in self.sessions:
            session.close()
        self.sessions = []


def turn_ns(setting, back):
    """Nanoseconds of a poll turn of vhubd's only worker, whatever its devices do."""
    before = back.lcores()[0]
    time.sleep(setting.seconds)
    after = back.lcores()[0]
    cycles = sum(after[name] - before[name] for name in ("busy_cycles", "idle_cycles", "sleep_cycles"))
    return cycles / (after["turns"] - before["turns"]) / after["cycles_per_second"] * 1e9


def idle(setting, _folder, back):
    """Nanoseconds that a poll turn takes while all devices have nothing to do."""
    with IdleDisks(back.sockets):
        time.sleep(WARM_SECONDS)
        return {"value": turn_ns(setting, back), "commands": []}
