# SPDX-License-Identifier: BSD-3-Clause
"""Front ends that make the load. Each function measures one run against a back end that is there, and
returns {value, ...}: what came back a second, and the busy shares of both sides.

Called by cases.py, which says what is to be measured; stats.py, the next file on the way, makes sense of
what they return.
"""

import json
import os
import select
import time
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path

from testpmd import Testpmd, front_end
from vhubd import build_dir
from vhostuser import BlkDisk, GuestMemory

from .backends import RING, TESTPMD_MB, Missing, Service, need, shell_text

WARM_SECONDS = 0.4          # until queues are full, caches warm and clocks up
RAMP_SECONDS = 0.2          # vhub-perf's
LOOK_SECONDS = 0.03         # in which a thread shows that it polls
# The kernel takes the CPU from threads that come before all others when they have had it for 0.95 of a second.
FIRST_SECONDS = 0.7
PERCENTILES = ("p50", "p90", "p99", "p99.9", "max")
LONGEST = 60                # beyond the seconds that are measured


def share(before, after):
    """Of the time between two samples of busy()."""
    if before is None or after is None or after[1] <= before[1]:
        return None
    return min(1.0, max(0.0, (after[0] - before[0]) / (after[1] - before[1])))


def ran(pid):
    """({thread: (nanoseconds that it has had a CPU, that it has waited for one)}, nanoseconds now)."""
    found = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(OSError, ValueError):
            found[int(task.name)] = tuple(map(int, (task / "schedstat").read_text(encoding="ascii").split()[:2]))
    return found, time.monotonic_ns()


def busiest(before, after):
    """The thread that has had a CPU for the longest time between two looks; who polls has all of it, whatever
    a program's other threads did when it started. None: there is none."""
    grown = {thread: after[0][thread][0] - before[0][thread][0] for thread in after[0].keys() & before[0].keys()}
    return max(grown, key=grown.get, default=None)


def waits(*sides):
    return [ran(side.pid) for side in sides]


def lost(before, after):
    """The worst of the sides' shares of time in which another program had the CPU of its busiest thread."""
    shares = [0.0]
    for begin, end in zip(before, after):
        thread = busiest(begin, end)
        if thread is not None:
            shares.append(share((begin[0][thread][1], begin[1]), (end[0][thread][1], end[1])) or 0.0)
    return max(shares)


# --- dpdk-testpmd with virtio-user ports

def address(port):
    return f"52:54:00:00:00:{port:02x}"


class UserTestpmd(Testpmd):
    __test__ = False

    def __init__(self, setting, folder, back, kind):
        need("dpdk-testpmd")
        eal = []
        for number, socket in enumerate(back.sockets):
            for word in front_end(socket, kind, queue_size=RING, server=back.listens, port=number):
                if not word.startswith("--force") or word not in eal:
                    eal.append(word + (f",mac={address(number)}" if "net_virtio_user" in word else ""))
        super().__init__(eal, args=[f"--txd={RING}", f"--rxd={RING}", "--record-core-cycles"], folder=folder,
                         cpu=setting.place(setting.front), memory_mb=TESTPMD_MB, name="front", huge=setting.huge)

    def sample(self, back):
        """(time, packets received by all ports, busy of the front end, busy of the back end, waits)"""
        received = sum(each["RX-packets"] for each in self.port_stats().values())
        now = time.monotonic()
        return now, received, (self.busy_seconds(), time.monotonic()), back.busy(), waits(self, back)


def testpmd(setting, folder, back, *, kind, size, forward):
    """Packets a second that reach the front end: frames go round and round."""
    typed = [f"set txpkts {size}", f"set fwd {forward}", "start tx_first 16"]
    if len(back.sockets) == 2:
        typed[:0] = [f"set eth-peer {port} {address(1 - port)}" for port in (0, 1)]
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
                "back_busy": share(begin[3], end[3]), "lost": lost(begin[4], end[4]),
                "commands": [shell_text(front.command(), strip=("stdbuf", "-oL"))
                             + "".join(f"\n    testpmd> {command}" for command in typed)]}


# --- vhub-perf

class Perf(Service):
    """vhub-perf; options as on its command line without the dashes, True for a switch.

    watch()   its run, while this process sleeps: with two CPUs, of which each side has one, who looks now
              and then takes one of them away each time.
    """

    def __init__(self, setting, folder, command, sockets=(), **options):
        program = build_dir() / "app/vhub-perf"
        if not os.access(program, os.X_OK):
            raise Missing(f"{program} is not there: ninja -C {build_dir()}")
        self.json_path = folder / "perf.json"
        options = {"cpus": setting.front, "runtime": setting.seconds, **options}
        if not setting.huge:
            options["hugepages"] = "off"
        self.longest = LONGEST + 2 * setting.seconds
        words = [program, command, *(word for socket in sockets for word in ("--socket", socket))]
        for name, value in options.items():
            words.append("--" + name.replace("_", "-"))
            if value is not True:
                words.append(value)
        self.shown = shell_text(words)
        phases, told = os.pipe()
        self.phases = open(phases, "rb", buffering=0)
        self.pass_fds = (told,)
        super().__init__("vhub-perf", folder, [*words, "--json", self.json_path, "--phases", told], sockets=())

    def command_line(self):
        """Without where the report goes."""
        return self.shown

    def start(self):
        try:
            return super().start()
        finally:
            os.close(self.pass_fds[0])

    def kill(self):
        super().kill()
        self.phases.close()

    def sleep_until(self, phase, deadline):
        """Until it tells of that phase, the next one."""
        told = b""
        waiting = select.poll()  # select() takes no descriptor past 1023, and each of many disks has several
        waiting.register(self.phases, select.POLLIN)
        while not told.endswith(b"\n"):
            ready = waiting.poll(1000.0 * max(0.0, deadline - time.monotonic()))
            byte = self.phases.read(1) if ready else b""
            if not byte:
                raise self._error(f"did not come to {phase}")
            told += byte
        return told.decode("ascii").strip() == phase

    def watch(self, *looks, hold=nullcontext):
        """(its JSON, [(what the look told in the ramp, what it told at the end) of each look]); within `hold`
        from the one to the other. The last of the looks is the nearest to the measured time on both sides."""
        deadline = time.monotonic() + self.longest
        self.sleep_until("ramp", deadline)
        time.sleep(RAMP_SECONDS / 2)
        with hold():
            before = [look() for look in looks]
            while not self.sleep_until("drain", deadline):
                pass
            after = [look() for look in reversed(looks)]
        self.process.wait(max(1.0, deadline - time.monotonic()))
        if self.process.returncode != 0:
            raise self._error(f"ended with status {self.process.returncode}")
        return json.loads(self.json_path.read_text(encoding="utf-8")), list(zip(before, reversed(after)))


def paused(told):
    """The share of time in which somebody else had the front end's CPUs, as it has seen itself."""
    pauses = told.get("pauses")
    return pauses["total_ns"] / 1e9 / told["seconds"] / len(told["lcores"]) if pauses and told["seconds"] else None


def perf(setting, folder, back, *, command, busy=None, hold=None, **options):
    """What comes back a second, with latencies; only from the first `busy` devices, if that is given.
    Of a pair the last socket is the peer's. hold(front, back) is a context for the measured time."""
    sockets = list(back.sockets[:busy]) if back else []
    if options.get("mode") == "pair":
        options["peer"] = sockets.pop()
    if back and back.listens:                   # that is, it connects
        options["listen"] = True
    with Perf(setting, folder, command, sockets, **options) as front:
        both = (front, back) if back else (front,)
        told, (busy_of_back, waits_of_both) = front.watch(lambda: back.busy() if back else None, lambda: waits(*both),
                                                          hold=partial(hold, *both) if hold else nullcontext)
        rate = told["iops"] if "iops" in told else told["mpps"] * 1e6
        if rate == 0:
            raise front._error("saw nothing come back while it measured")
        return {"value": rate, "bytes_per_s": told["bytes_per_s"], "lat_ns": latencies(told.get("lat_ns")),
                "front_busy": told.get("busy"), "back_busy": share(*busy_of_back), "paused": paused(told),
                "lost": lost(*waits_of_both), "commands": [front.command_line()]}


def perf_cycles(setting, folder, back, **options):
    """Cycles that the back end's workers are busy for a request, and each worker's part. What a worker has
    had of its CPU is the kernel's figure, so workers that take turns on one CPU are measured like those that
    have one each; the share of it in which there was something to do is the worker's own."""
    with Perf(setting, folder, options.pop("command"), back.sockets, **options) as front:
        told, (times, works, waits_of_front) = front.watch(time.monotonic, back.work, lambda: waits(front))
        workers = [work_between(*pair) for pair in zip(*works)]
        if not all(each["requests"] for each in workers):
            raise front._error(f"a worker has completed nothing while it was measured: {workers}")
        hz = back.lcores()[0]["cycles_per_second"]
        had = sum(each["cpu_ns"] for each in workers)
        busy = sum(each["busy_ns"] for each in workers)
        passed = (times[1] - times[0]) * 1e9 * len(back.cpus)
        return {"value": busy * hz / 1e9 / sum(each["requests"] for each in workers), "workers": workers,
                "front_busy": told.get("busy"), "back_busy": busy / had, "paused": paused(told),
                "lost": max(lost(*waits_of_front), 1 - min(1, had / passed)),
                "commands": [front.command_line()]}


def work_between(before, after):
    grown = {name: after[name] - before[name] for name in after}
    return {"requests": grown["completions"], "cpu_ns": grown["cpu_ns"],
            "busy_ns": grown["cpu_ns"] * grown["busy"] / max(1, grown["every"])}


@contextmanager
def first_in_line(*sides):
    """Meanwhile nothing of this machine takes the CPUs from the threads that poll, whichever side they are on;
    but the front end's main thread, which ends the run, and this one, which ends that. Where it is not allowed,
    nothing changes: `lost` tells."""
    before = waits(*sides)
    time.sleep(LOOK_SECONDS)
    # They first: where these are not allowed it, the others do not get it either.
    ranks = dict.fromkeys({busiest(*pair) for pair in zip(before, waits(*sides))} - {None}, 1)
    for thread, rank in ((sides[0].pid, 2), (0, 3)):
        ranks.setdefault(thread, rank)
    try:
        with suppress(OSError):
            for thread, rank in ranks.items():
                os.sched_setscheduler(thread, os.SCHED_FIFO, os.sched_param(rank))
        yield
    finally:
        for thread in ranks:
            with suppress(OSError):
                os.sched_setscheduler(thread, os.SCHED_OTHER, os.sched_param(0))


def perf_latency(setting, folder, back, **options):
    """The 99th percentile of latency, at a rate that is given."""
    told = perf(setting, folder, back, hold=first_in_line if setting.fifo else None,
                runtime=min(setting.seconds, FIRST_SECONDS), **options)
    told["value"] = told["lat_ns"]["p99"]
    return told


def latencies(told):
    return {name: told[name] for name in PERCENTILES if name in told} if told else None


def memcpy(setting, folder, **options):
    """No back end: the CPU that would have it copies the blocks."""
    told = perf(setting, folder, None, command="memcpy", cpus=setting.back[0], **options)
    told["front_busy"], told["back_busy"] = None, told["front_busy"]
    return told


# --- sessions that do nothing

REGION = (0, 1 << 20, 0x7e00_0000_0000, 0)      # guest address, bytes, user address, offset in its file


class IdleDisks:
    """Sessions with disks, one ring each, on which nothing ever comes."""

    def __init__(self, sockets):
        self.sessions = []
        try:
            for path in sockets:
                self.sessions.append(BlkDisk.open(str(path), mem=GuestMemory([REGION])))
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


def turn(setting, back):
    """Nanoseconds of a poll turn of vhubd's only worker, whatever its devices do."""
    before, begin = back.lcores()[0], waits(back)
    time.sleep(setting.seconds)
    after, end = back.lcores()[0], waits(back)
    cycles = sum(after[name] - before[name] for name in ("busy_cycles", "idle_cycles", "sleep_cycles"))
    turns = after["turns"] - before["turns"]
    return {"value": cycles / turns / after["cycles_per_second"] * 1e9, "lost": lost(begin, end), "commands": []}


def one_busy(setting, folder, back, **options):
    """The first device has work, the others have sessions and nothing to do."""
    with IdleDisks(back.sockets[1:]):
        return perf(setting, folder, back, busy=1, **options)


def idle(setting, _folder, back):
    """Nanoseconds that a poll turn takes while all devices have nothing to do."""
    with IdleDisks(back.sockets):
        time.sleep(WARM_SECONDS)
        return turn(setting, back)
