#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""DPDK's own programs as front ends and as a stand-in for vhubd: dpdk-testpmd, and vhub-net-check,
which checks every byte that comes back.

Used by the tests of net devices and by scripts that measure; needs no pytest. As a program it is what
usertools/quickstart.sh shows of a port: testpmd's rate against a driver that sends everything back. What vhub-net-check
does is in test/tools/net_check/main.c, the next file on the way.

    with NetCheck("/x/p.sock", "packed", folder=folder, sizes="mix", seconds=1) as check:
        print(check.finish()["rate"])

    with Testpmd(front_end("/x/p.sock", "split"), folder=folder) as testpmd:
        testpmd.cmd("start tx_first")
        print(testpmd.rate(1.0))

Every program runs without hugepages and with a file prefix of its own. Only vhub-net-check (or the
forwarding thread of testpmd) is busy; on a machine with two CPUs front ends take the first and the
back end's worker the second.
"""

import argparse
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
for each in (HERE, HERE.parent / "conformance"):
    if str(each) not in sys.path:
        sys.path.insert(0, str(each))

from vhostuser.rates import Meter  # noqa: E402
from vhubd import Program, ProgramError, build_dir, spec_sockets, usable_cpus  # noqa: E402

PROMPT = "testpmd> "
STOP_SECONDS = 60
NUMBERS = itertools.count(1)

# Without this DPDK does not use the 512 bits that its packed vectorised path takes.
WIDE = "--force-max-simd-bitwidth=512"

#: What virtio-user is told for each kind of ring, by the name that tests use.
KINDS = {
    "split": "mrg_rxbuf=1,in_order=1",
    "split-one-buffer": "mrg_rxbuf=0,in_order=1",
    "split-any-order": "mrg_rxbuf=1,in_order=0",
    "split-one-buffer-any-order": "mrg_rxbuf=0,in_order=0",
    "split-vectorised": "mrg_rxbuf=0,in_order=0,vectorized=1",
    "packed": "packed_vq=1,mrg_rxbuf=1,in_order=0",
    "packed-in-order": "packed_vq=1,mrg_rxbuf=1,in_order=1",
    "packed-one-buffer": "packed_vq=1,mrg_rxbuf=0,in_order=0",
    "packed-one-buffer-in-order": "packed_vq=1,mrg_rxbuf=0,in_order=1",
    "packed-vectorised": "packed_vq=1,mrg_rxbuf=0,in_order=1,vectorized=1",
}


def front_end(path, kind="split", *, queues=1, queue_size=256, server=False, port=0):
    """The EAL arguments of one virtio-user port."""
    words = ["--vdev", f"net_virtio_user{port},path={path},queues={queues},queue_size={queue_size},"
                       f"{KINDS[kind]}{',server=1' if server else ''}"]
    return words + ([WIDE] if kind == "packed-vectorised" else [])


def front_ends(ports, **keywords):
    """The same for several ports: [(path, kind, queue size)]."""
    words = [word for number, (path, kind, size) in enumerate(ports)
             for word in front_end(path, kind, queue_size=size, port=number, **keywords) if word != WIDE]
    return words + ([WIDE] if any(kind == "packed-vectorised" for _, kind, _ in ports) else [])


def eal_arguments(cpu, lcores, memory_mb, huge=False):
    cpus = usable_cpus()
    places = ",".join(f"{lcore}@{cpus[cpu % len(cpus)]}" for lcore in range(lcores))
    memory = ["--in-memory", "--single-file-segments"] if huge else ["--no-huge", "--no-shconf"]
    return [*memory, "--no-pci", "--no-telemetry", "-m", str(memory_mb),
            f"--file-prefix=vhub{os.getpid()}-{next(NUMBERS)}", f"--lcores={places}"]


class Talker(Program):
    """A program whose output is read by a thread."""

    thread = None

    def _spawn(self, command, **streams):
        super()._spawn(command, **streams)
        self.thread = threading.Thread(target=self._collect, daemon=True)
        self.thread.start()

    def kill(self):
        super().kill()
        if self.process is None:
            return
        self.thread.join(5)
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()


class Testpmd(Talker):
    """dpdk-testpmd at its prompt.

    eal      EAL arguments: the ports
    args     testpmd's own
    cpu      which of our CPUs its threads use
    huge     in hugepages
    """

    __test__ = False                    # pytest takes the name for a class of tests

    def __init__(self, eal, *, args=(), folder=None, cpu=0, memory_mb=256, name="testpmd", huge=False):
        super().__init__(name, folder)
        self.eal = list(eal)
        self.args = list(args)
        self.cpu = cpu
        self.memory_mb = memory_mb
        self.huge = huge
        self.text = ""

    def command(self):
        program = shutil.which("dpdk-testpmd")
        if program is None:
            raise ProgramError("dpdk-testpmd is not there: install Debian's dpdk-dev")
        # Line by line, though its output is no terminal.
        return ["stdbuf", "-oL", program, *eal_arguments(self.cpu, 2, self.memory_mb, self.huge), *self.eal,
                "--", "-i", "--total-num-mbufs=8192", *self.args]

    def spawn(self):
        """Starts the program without waiting for its prompt."""
        self.text = ""
        self._spawn(self.command(), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT)
        return self

    def start(self, timeout=60):
        self.spawn()
        self._wait_prompts(1, 0, timeout)
        return self

    def _collect(self):
        with open(self.log_path, "a", encoding="utf-8") as log:
            while True:
                data = os.read(self.process.stdout.fileno(), 65536).decode(errors="replace")
                if not data:
                    return
                self.text += data
                log.write(data)
                log.flush()

    def _wait_prompts(self, count, since, timeout):
        """The text from `since` on, once it holds that many prompts."""
        deadline = time.monotonic() + timeout
        while self.text.count(PROMPT, since) < count:
            if not self.running():
                raise self._error(f"ended with status {self.process.returncode}")
            if time.monotonic() > deadline:
                raise self._error(f"shows no prompt within {timeout} s")
            time.sleep(0.005)
        return self.text[since:]

    def cmd(self, text, timeout=60):
        """Types a command; what was printed until the next prompt."""
        since = len(self.text)
        self.process.stdin.write((text + "\n").encode())
        self.process.stdin.flush()
        out = self._wait_prompts(1, since, timeout)
        return out.split("\n", 1)[1].rsplit(PROMPT, 1)[0] if "\n" in out else ""

    def port_stats(self):
        """{port: {"RX-packets": n, ...}}, since the start."""
        return numbers(self.cmd("show port stats all"))

    def fwd_stats(self):
        """{port: {"RX-packets": n, "TX-dropped": n, ...}}, and "all"; since `start`."""
        return numbers(self.cmd("show fwd stats all"))

    def busy_seconds(self):
        """How long its forwarding found packets to move, since `start`. Of a testpmd that was given
        --record-core-cycles; what a poll finds nothing is not counted."""
        found = re.search(r"total cycles=(\d+) .* at (\d+) MHz", self.cmd("show fwd stats all"))
        return int(found.group(1)) / (int(found.group(2)) * 1e6) if found else 0.0

    def rate(self, seconds, port=0, what="RX-packets"):
        """Packets a second over an interval."""
        before, begin = self.port_stats()[port][what], time.monotonic()
        time.sleep(seconds)
        after, end = self.port_stats()[port][what], time.monotonic()
        return (after - before) / (end - begin)

    def stop(self, timeout=STOP_SECONDS):
        """`quit`; it has to end well."""
        try:
            self.process.stdin.write(b"quit\n")
            self.process.stdin.close()
            status = self.process.wait(timeout)
        except (OSError, subprocess.TimeoutExpired):
            self.kill()
            raise self._error("did not quit") from None
        self.kill()
        if status != 0:
            raise self._error(f"ended with status {status}")


def numbers(text):
    """The counters under each heading of testpmd's statistics."""
    out, section = {}, None
    for line in text.splitlines():
        heading = re.search(r"statistics for (?:port (\d+)|all ports)", line)
        if heading:
            section = out.setdefault("all" if heading.group(1) is None else int(heading.group(1)), {})
        elif section is not None:
            section.update((name, int(value)) for name, value in re.findall(r"([A-Za-z-]+):\s+(\d+)", line))
    return out


class EchoTestpmd(Testpmd):
    """A stand-in for `vhubd --net NAME,socket=PATH,driver=echo,queues=N`: net_vhost ports, and each
    packet sent back with its addresses swapped. Offloads are not carried along."""

    def __init__(self, *nets, folder=None, forward="macswap", cpu=1, name="echo"):
        eal, queues = [], 1
        for number, net in enumerate(nets):
            keys = dict(word.split("=", 1) for word in net.split(",") if "=" in word)
            queues = int(keys.get("queues", 1))
            where = keys.get("socket") or f"{keys['connect']},client=1"
            eal += ["--vdev", f"net_vhost{number},iface={where},queues={queues}"]
        # Ports in a loop of their own: what came from one goes back to it.
        super().__init__(eal, folder=folder, cpu=cpu, name=name,
                         args=["--auto-start", f"--forward-mode={forward}", f"--rxq={queues}",
                               f"--txq={queues}", "--port-topology=loop"])
        self.sockets = spec_sockets(nets)

    def spawn(self):
        # librte_vhost does not bind where a socket file was left behind.
        for path in self.sockets:
            path.unlink(missing_ok=True)
        return super().spawn()

    def check_log(self):
        """Nothing: no sanitizer is in it."""


class NetCheck(Talker, Meter):
    """vhub-net-check on one socket, or several.

    path          of the socket, or a list as front_ends() takes it
    kind          one of KINDS
    sizes         its --sizes
    seconds, packets   when it ends by itself; with neither it runs until stop()
    server        it listens, and the back end connects
    options       further options of its own: ["--tso", "16000"]
    allocated     its memory is allocated in full, as QEMU's with prealloc=on
    """

    def __init__(self, path, kind="split", *, folder=None, queues=1, sizes="mix", seconds=None,
                 packets=None, server=False, queue_size=256, reconnect=False, options=(),
                 allocated=False, memory_mb=256, name="check"):
        Talker.__init__(self, name, folder)
        Meter.__init__(self)
        ports = path if isinstance(path, list) else [(path, kind, queue_size)]
        self.eal = front_ends(ports, queues=queues, server=server)
        self.memory_mb = memory_mb
        self.options = ["--queues", str(queues), "--sizes", sizes, "--json", "--progress", "--timeout", "30", *options]
        if allocated:
            self.options += ["--late-vdev" if word == "--vdev" else word for word in self.eal if word != WIDE]
            self.eal = [word for word in self.eal if word == WIDE]
        for option, value in (("--seconds", seconds), ("--packets", packets)):
            if value is not None:
                self.options += [option, str(value)]
        if reconnect:
            self.options.append("--reconnect")
        self.paths = [Path(port[0]) for port in ports]
        self.server = server
        self.result = None
        self.told = {}                  # the last line of progress

    def command(self):
        program = build_dir() / "test/tools/vhub-net-check"
        if not os.access(program, os.X_OK):
            raise ProgramError(f"{program} is not there: build first (or set VHUB_BUILD)")
        return [str(program), *eal_arguments(0, 1, self.memory_mb), *self.eal, "--", *self.options]

    def start(self):
        if self.server:
            for path in self.paths:
                path.unlink(missing_ok=True)
        self.samples, self.result, self.told = [], None, {}
        with open(self.log_path, "ab") as log:
            self._spawn(self.command(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log,
                        text=True)
        return self

    def _collect(self):
        for line in self.process.stdout:
            if not line.startswith("{"):
                continue
            told = json.loads(line)
            if "ok" in told:
                self.result = told
            else:
                self.told = told
                self.samples.append((told["time"], told["received"]))

    def check(self):
        if not self.running():
            raise self._error(f"ended with status {self.process.returncode}: {self.result}")

    def wait_received(self, count=1, timeout=60):
        """Waits until it has received that many packets."""
        self.wait_told("received", count, timeout)

    def wait_told(self, name, count, timeout=60):
        """Waits until a figure of its progress has that value."""
        deadline = time.monotonic() + timeout
        while self.told.get(name, 0) < count:
            self.check()
            if time.monotonic() > deadline:
                raise self._error(f"within {timeout} s {name} is not {count}: {self.told}")
            time.sleep(0.01)

    def wait_each(self, more, timeout=60):
        """Waits until each queue has received that many packets more."""
        self.wait_told("least", self.told.get("least", 0) + more, timeout)

    def restart_ports(self, timeout=60):
        """Has all ports stopped and started again, which nothing may be lost by."""
        before = self.told.get("restarts", 0)
        self.process.send_signal(signal.SIGUSR1)
        self.wait_told("restarts", before + 1, timeout)

    def end(self, timeout=60):
        """Waits for its end; (exit status, its result)."""
        try:
            status = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise self._error(f"did not end within {timeout} s") from None
        self.kill()
        return status, self.result

    def finish(self, timeout=60):
        """Waits for its end; everything must have been right. Its result."""
        status, result = self.end(timeout)
        if status != 0 or result is None or not result["ok"]:
            faults = [line for line in self.log.splitlines() if line.startswith("vhub-net-check: port ")]
            raise self._error("\n".join([f"ended with status {status}: {result}", *faults]))
        return result

    def stop(self, timeout=60):
        """Asks it to end; then as finish()."""
        self.check()
        self.process.send_signal(signal.SIGTERM)
        return self.finish(timeout)


# --- as a program ----------------------------------------------------------------------------------

def begin_circling(testpmd):
    """A back end may discard what comes before it has both rings, so it may take more than one burst."""
    for _ in range(50):
        testpmd.cmd("start tx_first 8")
        time.sleep(0.1)
        if testpmd.rate(0.1) > 0:
            return
        testpmd.cmd("stop")


def show(path, seconds, folder):
    """A few hundred frames go round and round; what testpmd has seen of them."""
    with Testpmd(front_end(path, "split", queue_size=1024), folder=folder) as testpmd:
        testpmd.cmd("set fwd mac")
        begin_circling(testpmd)
        rate = testpmd.rate(seconds)
        testpmd.cmd("stop")
        seen = testpmd.port_stats()[0]
        testpmd.stop()
    print(f"  front end   dpdk-testpmd, virtio-user, split ring, 1 queue, 64-byte frames\n"
          f"  rate        {rate / 1e6:.2f} million packets/s came back\n"
          f"  packets     {seen['TX-packets']} sent, {seen['RX-packets']} received, "
          f"{seen['TX-packets'] - seen['RX-packets']} on their way at the end")
    return 0 if seen["RX-packets"] > 0 else 1


def main():
    parser = argparse.ArgumentParser(description="Show the rate of a port that sends everything back, "
                                                 "with dpdk-testpmd as its front end.")
    parser.add_argument("socket", help="vhost-user socket of the port")
    parser.add_argument("--seconds", type=float, default=3, help="that are measured (default 3)")
    arguments = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory(prefix="vhub-testpmd-") as folder:
            return show(arguments.socket, arguments.seconds, folder)
    except ProgramError as err:
        print(f"testpmd.py: {err}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
