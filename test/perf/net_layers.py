#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""What our layers around librte_vhost cost: the same dpdk-testpmd virtio-user front end against
`vhubd --net ...,driver=echo` and against dpdk-testpmd's own net_vhost port forwarding in mac mode
(each sends every packet back where it came from, its Ethernet header rewritten).

vhubd runs as it is and with trust=on (doc/guides/vhubd.rst). They take turns; each run has fresh processes, front end on the first CPU, back end on the second.
Prints each case's median, the least and the most of the runs, and the ratio of medians to net_vhost's. A measurement,
not a test: nothing here fails because of a figure. Root, for the hugepages that it uses where there
are enough (--no-huge: without).

    echo 1024 >/proc/sys/vm/nr_hugepages
    test/perf/net_layers.py --runs 5
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
for each in (ROOT / "test/e2e", ROOT / "test/conformance"):
    sys.path.insert(0, str(each))

from testpmd import NUMBERS, ProgramError, Testpmd, front_end  # noqa: E402
from vhubd import Vhubd, VhubdError  # noqa: E402

CASES = {                               # name: (kind of ring, bytes of a frame)
    "split-64": ("split", 64),
    "split-1518": ("split", 1518),
    "packed-vectorised-64": ("packed-vectorised", 64),
    "packed-vectorised-1518": ("packed-vectorised", 1518),
}
BACK_ENDS = ("vhub", "vhub trust=on", "net_vhost")
MEMORY_MB = 512
BURST = 64


def eal(cpu, memory_mb, huge):
    """EAL arguments of a testpmd whose two lcores share one CPU: the other one only waits."""
    words = [f"--lcores=(1,0)@{cpu}", "--main-lcore=1", "--no-pci", "--no-telemetry", "-m", str(memory_mb),
             f"--file-prefix=vhub-perf{os.getpid()}-{next(NUMBERS)}"]
    return words + (["--in-memory", "--single-file-segments"] if huge else ["--no-huge", "--no-shconf"])


class PerfTestpmd(Testpmd):
    """testpmd with the arguments of a measurement instead of a test's."""

    def __init__(self, *arguments, huge, **keywords):
        super().__init__(*arguments, **keywords)
        self.huge = huge

    def command(self):
        program, dashes = super().command()[2], super().command().index("--")
        return ["stdbuf", "-oL", program, *eal(self.cpu, MEMORY_MB, self.huge), *self.eal,
                *super().command()[dashes:]]


def back_end(name, socket, folder, huge):
    if name != "net_vhost":
        words = ["--lcores=0@0,1@1", "--no-pci", "--no-telemetry", "-m", "128"]
        words += ["--in-memory", "--socket-limit=128"] if huge else ["--no-huge", "--no-shconf"]
        keys = ",trust=on" if "trust" in name else ""
        return Vhubd(nets=[f"p,socket={socket},driver=echo{keys}"], folder=folder, eal=words,
                     args=["--idle", "poll"])
    return PerfTestpmd(["--vdev", f"net_vhost0,iface={socket},queues=1"], folder=folder, cpu=1, huge=huge,
                       name="net_vhost",
                       args=["--auto-start", "--forward-mode=mac", f"--burst={BURST}", "--txd=1024",
                             "--rxd=1024", "--port-topology=loop"])


def measure(name, kind, size, seconds, huge):
    """Packets a second that come back to the front end."""
    with tempfile.TemporaryDirectory(prefix="vhub-perf-") as folder:
        socket = Path(folder) / "p.sock"
        behind = back_end(name, socket, folder, huge).start()
        try:
            with PerfTestpmd(front_end(socket, kind, queue_size=1024), folder=folder, huge=huge,
                             args=["--txd=1024", "--rxd=1024"]) as front:
                front.cmd(f"set txpkts {size}")
                front.cmd("set fwd mac")
                front.cmd("start tx_first 16")
                time.sleep(1)
                rate = front.rate(seconds)
                front.cmd("stop")
                front.stop()
            return rate
        finally:
            behind.kill()


def show(name, runs):
    """One line for each back end; the ratios."""
    medians = {each: statistics.median(runs[each]) for each in BACK_ENDS}
    ratios = {each: medians[each] / medians["net_vhost"] for each in BACK_ENDS}
    for each in BACK_ENDS:
        print(f"{name:24} {each:14} {medians[each] / 1e6:8.2f} {min(runs[each]) / 1e6:8.2f} "
              f"{max(runs[each]) / 1e6:8.2f} {ratios[each]:8.3f}", flush=True)
    return ratios


def parse_arguments():
    parser = argparse.ArgumentParser(description="The cost of vhub's layers around librte_vhost, "
                                                 "against dpdk-testpmd's net_vhost.")
    parser.add_argument("cases", nargs="*", choices=[[], *CASES], help="default: all of "
                        + ", ".join(CASES))
    parser.add_argument("--runs", type=int, default=5, help="of each back end, in turns (default 5)")
    parser.add_argument("--seconds", type=float, default=3, help="that each run measures (default 3)")
    parser.add_argument("--no-huge", action="store_true", help="ordinary memory")
    parser.add_argument("--json", metavar="FILE", help="write all runs there too")
    return parser.parse_args()


def main():
    arguments = parse_arguments()
    out = {}
    print(f"{'case (Mpps)':24} {'back end':14} {'median':>8} {'least':>8} {'most':>8} {'ratio':>8}", flush=True)
    try:
        for name in arguments.cases or CASES:
            kind, size = CASES[name]
            runs = {each: [] for each in BACK_ENDS}
            for _ in range(arguments.runs):
                for each in BACK_ENDS:
                    runs[each].append(measure(each, kind, size, arguments.seconds,
                                              not arguments.no_huge))
            out[name] = {"runs": runs, "ratios": show(name, runs)}
    except (ProgramError, VhubdError) as err:
        print(f"net_layers.py: {err}", file=sys.stderr)
        return 1
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(out, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
