# SPDX-License-Identifier: BSD-3-Clause
"""Starts, watches and stops one vhubd for a test.

Used through the fixtures of conftest.py by every end-to-end and conformance test.

Environment
  VHUB_BUILD     build directory that holds app/vhubd (default: build, beside this checkout's README)
  VHUB_NO_HUGE   1: vhubd is started with --no-huge
  VHUB_HUGE      1: it is an error if vhubd does not use hugepages
"""

import codecs
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
LOG_LINES = 40

#: How vhubd ends (doc/guides/vhubd.rst).
IN_ORDER, NOT_STARTED, STUCK, NOT_SAVED = 0, 1, 3, 4

# What a sanitizer prints; any of it in a daemon's log fails the test that started the daemon.
SANITIZER = re.compile(r"runtime error:|ERROR: \w+Sanitizer|\w+Sanitizer:DEADLYSIGNAL")


def build_dir():
    path = Path(os.environ.get("VHUB_BUILD") or "build")
    return path if path.is_absolute() else ROOT / path


def sanitized():
    """Whether the build directory is one with sanitizers; such a program is several times slower."""
    try:
        options = json.loads((build_dir() / "meson-info/intro-buildoptions.json").read_text())
    except OSError:
        return False
    return any(each["name"] == "b_sanitize" and each["value"] != "none" for each in options)


class ProgramError(AssertionError):
    """A program did not do what was asked; the text holds the end of what it said."""


class VhubdError(ProgramError):
    """vhubd did not do what a test takes for granted."""


class Program:
    """A process and its log file. Nothing runs until start(), which is a subclass's."""

    ERROR = ProgramError

    def __init__(self, name, folder):
        self.log_path = Path(folder or tempfile.gettempdir()) / f"{name}.log"
        self.process = None
        self._log = ""
        self._log_bytes = 0             # of the file, that are in _log
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.kill()

    def _spawn(self, command, **streams):
        self.process = subprocess.Popen(dies_with_us(command), **streams)

    @property
    def pid(self):
        return self.process.pid

    @property
    def log(self):
        """What it has said so far. Hundreds of tests may look at the log of one daemon: each reads what
        is new."""
        try:
            with open(self.log_path, "rb") as file:
                file.seek(self._log_bytes)
                new = file.read()
        except OSError:
            new = b""
        self._log_bytes += len(new)
        self._log += self._decoder.decode(new)
        return self._log

    def running(self):
        return self.process is not None and self.process.poll() is None

    def kill(self):
        """SIGKILL; its socket files stay, as after a crash."""
        if self.running():
            self.process.kill()
        if self.process is not None:
            self.process.wait()

    def _error(self, what):
        return self.ERROR("%s %s\ncommand: %s\n--- last lines of what it said ---\n%s" % (
            self.log_path.stem, what, " ".join(map(str, self.process.args)), "\n".join(self.log.splitlines()[-LOG_LINES:])))


class Vhubd(Program):
    """One daemon. Nothing runs until start().

    blks      the arguments of --blk, one string a disk: "disk0,socket=/x/d.sock,driver=malloc,size=64M"
    nets      the arguments of --net, one string a net: "net0,socket=/x/n.sock,driver=echo"
    prefix    words before the program's name, of a command that runs it and keeps the process id
    args      further arguments of vhubd
    eal       EAL arguments, before the `--`; None: none, or those of --no-huge when the environment
              asks for it
    memory_mb what EAL may use with --no-huge; disks of the driver malloc have memory of their own
    folder    where the log goes
    loads     shared objects with further drivers
    """

    ERROR = VhubdError

    def __init__(self, *blks, folder, args=(), eal=None, memory_mb=128, log_level=None, env=None,
                 pass_fds=(), name="vhubd", nets=(), prefix=(), loads=()):
        super().__init__(name, folder)
        self.blks = list(blks)
        self.nets = list(nets)
        self.prefix = list(prefix)
        self.loads = list(loads)
        self.args = list(args)
        self.eal = no_huge_arguments(memory_mb) if eal is None and no_huge() else eal
        self.log_level = log_level
        self.env = dict(os.environ, **(env or {}))
        self.pass_fds = tuple(pass_fds)
        self._checked = 0               # what is before it in _log holds no complaint of a sanitizer

    @property
    def sockets(self):
        """The socket files that this daemon binds; those of connect= belong to the front end."""
        return spec_sockets(self.blks + self.nets)

    def command(self):
        program = build_dir() / "app/vhubd"
        if not (program.is_file() and os.access(program, os.X_OK)):
            raise VhubdError(f"{program} is not there: build first (or set VHUB_BUILD)")
        words = [*self.prefix, str(program)]
        if self.eal:
            words += [*self.eal, "--"]
        for load in self.loads:
            words += ["--load", str(load)]
        for blk in self.blks:
            words += ["--blk", blk]
        for net in self.nets:
            words += ["--net", net]
        if self.log_level:
            words += ["--log-level", self.log_level]
        return words + self.args

    # --- start and stop

    def spawn(self):
        """Starts the program without waiting for anything."""
        with open(self.log_path, "ab") as log:
            self._spawn(self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.env,
                        pass_fds=self.pass_fds)
        return self

    def start(self, timeout=60):
        """Starts it and waits until all its sockets listen."""
        seen = len(self.log)
        self.spawn()
        deadline = time.monotonic() + timeout
        while not re.search(r"vhubd: ready|\bready\b", self.log[seen:]):
            if self.process.poll() is not None:
                raise self._error(f"ended with status {self.process.returncode} before it was ready")
            if time.monotonic() > deadline:
                self.kill()
                raise self._error(f"not ready after {timeout} s")
            time.sleep(0.01)
        for path in self.sockets:
            if not path.is_socket():
                raise self._error(f"is ready, but {path} is no socket")
        if os.environ.get("VHUB_HUGE") == "1" and self.eal is None and not self.uses_hugepages():
            raise self._error("does not use hugepages, though VHUB_HUGE=1 says there are some")
        return self

    def stop(self, timeout=60, sig=signal.SIGTERM):
        """Asks it to end: status 0, which it has not when something is stuck; sockets removed."""
        self.process.send_signal(sig)
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise self._error(f"still there {timeout} s after signal {sig}") from None
        self.check_log()
        if self.process.returncode != 0:
            raise self._error(f"ended with status {self.process.returncode} after signal {sig}")
        left = [str(path) for path in self.sockets if path.exists()]
        if left:
            raise self._error(f"left its sockets behind: {' '.join(left)}")

    def check_log(self):
        """Fails when a sanitizer has complained."""
        log = self.log
        found = SANITIZER.search(log, self._checked)
        if found:
            raise VhubdError(f"vhubd: a sanitizer complains\n{log[found.start():][:6000]}")
        self._checked = log.rfind("\n") + 1

    def wait_log(self, pattern, timeout=60, since=0):
        """Waits until the log matches the regular expression after the offset; returns the match."""
        deadline = time.monotonic() + timeout
        while True:
            found = re.search(pattern, self.log[since:])
            if found:
                return found
            if time.monotonic() > deadline or not self.running():
                raise self._error(f"no {pattern!r} in its log within {timeout} s")
            time.sleep(0.02)

    # --- figures from /proc

    def fds(self):
        """{number: what it is}"""
        out = {}
        for each in Path(f"/proc/{self.pid}/fd").iterdir():
            try:
                out[int(each.name)] = os.readlink(each)
            except OSError:
                pass
        return out

    def maps(self):
        """Number of mappings."""
        return len(Path(f"/proc/{self.pid}/maps").read_text().splitlines())

    def heap_bytes(self):
        """Size of the main thread's heap."""
        first, last = re.search(r"^(\w+)-(\w+) .*\[heap\]$", self._proc("maps"), re.MULTILINE).groups()
        return int(last, 16) - int(first, 16)

    def rss_kb(self):
        return int(re.search(r"VmRSS:\s+(\d+)", self._proc("status")).group(1))

    def threads(self):
        """{thread id: (name, CPU seconds used so far)}"""
        ticks = os.sysconf("SC_CLK_TCK")
        out = {}
        for each in Path(f"/proc/{self.pid}/task").iterdir():
            try:
                stat = (each / "stat").read_text()
            except OSError:
                continue
            name, rest = stat[stat.index("(") + 1:stat.rindex(")")], stat[stat.rindex(")") + 2:]
            fields = rest.split()
            out[int(each.name)] = (name, (int(fields[11]) + int(fields[12])) / ticks)
        return out

    def cpu_seconds(self):
        """CPU time of the whole process so far, user and system."""
        return cpu_seconds(self.pid)

    def uses_hugepages(self):
        """Whether any page of a hugetlb mapping is in use."""
        found = re.findall(r"(?:Private|Shared)_Hugetlb:\s+(\d+) kB", self._proc("smaps"))
        return any(int(each) > 0 for each in found)

    def _proc(self, name):
        return Path(f"/proc/{self.pid}/{name}").read_text()


def seconds_until(condition, limit=60):
    """How long it takes until this holds. A machine on which nobody runs for a while counts for one look."""
    counted, last, deadline = 0.0, time.monotonic(), time.monotonic() + limit
    while not condition():
        time.sleep(0.01)
        now = time.monotonic()
        assert now < deadline, f"not within {limit} s"
        counted, last = counted + min(now - last, 0.1), now
    return counted


def cpu_seconds(pid):
    """CPU time of all threads of a process so far, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def spec_sockets(specs):
    """The values of socket= in the texts of devices."""
    found = (re.search(r"(?:^|,)socket=([^,]+)", spec) for spec in specs)
    return [Path(match.group(1)) for match in found if match]


def dies_with_us(command):
    """Has the kernel end the daemon when the tests end, even where nothing could be cleaned up."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL", "--", *command] if setpriv else list(command)


@contextmanager
def hangups(action):
    """What is started inside has SIGHUP's action from us."""
    before = signal.signal(signal.SIGHUP, action)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


def no_huge():
    return os.environ.get("VHUB_NO_HUGE") == "1"


def usable_cpus():
    """The CPUs that we may use. Of pytest's processes, when several run tests side by side, each begins
    with another one, so that the workers of their daemons do not meet on the same."""
    cpus = sorted(os.sched_getaffinity(0))
    turn = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[len("gw"):]) % len(cpus)
    return cpus[turn:] + cpus[:turn]


def lcore_places(workers):
    """The main lcore on the first CPU that we may use, the workers on the others in turn, or all on the
    only one there is."""
    cpus = usable_cpus()
    turns = cpus[1:] + cpus[:1]
    return "--lcores=" + ",".join([f"0@{cpus[0]}", *(f"{i + 1}@{turns[i % len(turns)]}"
                                                     for i in range(workers))])


def no_huge_arguments(memory_mb, workers=1):
    """EAL arguments for ordinary memory. (DPDK 22.11 refuses --in-memory beside --no-huge.)"""
    return ["--no-huge", "--no-shconf", "--no-pci", "--no-telemetry", "--iova-mode=va", "-m",
            str(memory_mb), lcore_places(workers)]


def worker_arguments(workers, memory_mb=128):
    """EAL arguments for so many workers, in the memory that the environment asks for."""
    if no_huge():
        return no_huge_arguments(memory_mb, workers)
    return ["--in-memory", "--no-pci", "--no-telemetry", "-m", str(memory_mb), "--socket-limit",
            str(memory_mb), lcore_places(workers)]
