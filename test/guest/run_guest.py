#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Boots the test guest on vhost-user disks and nets and reports what it saw.

As a module: `Disk`, `Net`, `Guest` and `run`, used by test/e2e and by whoever else needs a real Linux front
end. As a program: what usertools/quickstart.sh calls. The kernel is Debian's cloud kernel, the
initramfs comes from initramfs.py, and the files `init` and `init-net` are what runs inside.
"""

import argparse
import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import initramfs  # noqa: E402
from initramfs import GuestError  # noqa: E402

QEMU = "qemu-system-x86_64"
# The clock is QEMU's HPET: under TCG the guest measures the host's TSC, gets it wrong when the host is
# busy, and then sees minutes pass in seconds. For the same reason nobody in it watches for stalls.
#
# One CPU boots and `init` sets the others going: QEMU's TCG may go on executing code of the kernel that another
# CPU has just changed (seen with 7.2: all CPUs take the same int3 for ever), and a kernel changes much as it boots.
APPEND = ("console=ttyS0 quiet loglevel=4 panic=-1 nokaslr mitigations=off random.trust_cpu=on "
          "clocksource=hpet tsc=unstable no_timer_check nowatchdog rcupdate.rcu_cpu_stall_suppress=1 "
          "i8042.noaux i8042.nopnp cryptomgr.notests maxcpus=1")
# A boot costs a sixth less CPU time than with "max": the kernel finds fewer instructions to prepare for.
# RDRAND seeds its random numbers.
CPU = "qemu64,+rdrand"
RESULT = re.compile(r"VHUB-GUEST: ([\w.\-]+)=(.*)")
TAIL_LINES = 25

# QEMU before 9.0 loses stores of a guest that migrates under TCG (QEMU's commit 03bfc2188f): where it takes
# the dirty bits of memory by whole words, it leaves the CPUs' TLBs believing that their pages are marked.
# Memory that is no multiple of 64 pages has its bits taken one by one, and the TLBs told.
MIGRATING_KIB = 8

# A guest behind a vIOMMU: its kernel unmaps what a device no longer needs at once, and the interrupts
# are the ones that need no remapping.
IOMMU = ["-device", "intel-iommu,intremap=off,device-iotlb=on,caching-mode=on"]
IOMMU_APPEND = "intel_iommu=on iommu=nopt iommu.strict=1"

# Bits of the virtio feature word that tests and the quickstart's table name.
RING_FEATURES = {
    "INDIRECT_DESC": 28, "EVENT_IDX": 29, "VERSION_1": 32, "ACCESS_PLATFORM": 33, "RING_PACKED": 34,
    "IN_ORDER": 35,
}
BLK_FEATURES = {
    "SIZE_MAX": 1, "SEG_MAX": 2, "GEOMETRY": 4, "RO": 5, "BLK_SIZE": 6, "FLUSH": 9, "TOPOLOGY": 10,
    "CONFIG_WCE": 11, "MQ": 12, "DISCARD": 13, "WRITE_ZEROES": 14, **RING_FEATURES,
}
NET_FEATURES = {
    "CSUM": 0, "GUEST_CSUM": 1, "MTU": 3, "MAC": 5, "GUEST_TSO4": 7, "GUEST_TSO6": 8, "GUEST_ECN": 9,
    "GUEST_UFO": 10, "HOST_TSO4": 11, "HOST_TSO6": 12, "HOST_ECN": 13, "HOST_UFO": 14, "MRG_RXBUF": 15,
    "STATUS": 16, "CTRL_VQ": 17, "GUEST_ANNOUNCE": 21, "MQ": 22, **RING_FEATURES,
}


@dataclass
class Disk:
    """One vhost-user-blk device: its socket and how the front end asks for it."""

    socket: str
    queues: int = 1
    packed: bool = False
    server: bool = False        # QEMU binds the socket and the back end connects
    reconnect: int = 1          # seconds between QEMU's tries; 0: QEMU does not come back
    config_wce: bool = True
    ring_size: int = 128
    props: dict = field(default_factory=dict)

    def arguments(self, index):
        props = {
            "chardev": f"vu{index}",
            "id": f"disk{index}",
            "num-queues": self.queues,
            "queue-size": self.ring_size,
            "packed": on_off(self.packed),
            "config-wce": on_off(self.config_wce),
            "disable-legacy": "on",
            **self.props,
        }
        return [*chardev(f"vu{index}", self), "-device", words_of("vhost-user-blk-pci", props)]


@dataclass
class Net:
    """One vhost-user net: its socket, how the front end asks for it, and its address in the guest.

    The device has no MSI-X: with it and no KVM, QEMU 7.2 ends in its own vhost-user-net code."""

    socket: str
    address: str = ""           # ADDRESS/PREFIX; empty: the guest leaves the net alone
    queues: int = 1             # pairs of them
    packed: bool = False
    server: bool = False        # QEMU binds the socket and the back end connects
    reconnect: int = 1          # seconds between QEMU's tries; 0: QEMU does not come back
    mac: str = ""               # empty: 52:54:00:76:68:xx, after the net's number
    host_mtu: int = 0           # 0: the device says nothing of an MTU
    csum: bool = True           # either way
    tso: bool = True            # either way
    iommu: bool = False         # behind the guest's vIOMMU
    props: dict = field(default_factory=dict)

    def arguments(self, index):
        backend = {"id": f"net{index}", "chardev": f"vun{index}", "queues": self.queues}
        props = {
            "netdev": f"net{index}",
            "id": f"nic{index}",
            "mac": self.mac or f"52:54:00:76:68:{index + 1:02x}",
            "vectors": 0,
            "mq": on_off(self.queues > 1),
            "packed": on_off(self.packed),
            "disable-legacy": "on",
        }
        if self.host_mtu:
            props["host_mtu"] = self.host_mtu
        if not self.csum:
            props |= {"csum": "off", "guest_csum": "off"}
        if not (self.csum and self.tso):
            props |= {f"{side}_{kind}": "off" for side in ("host", "guest")
                      for kind in ("tso4", "tso6", "ecn", "ufo")}
        if self.iommu:
            props |= {"iommu_platform": "on", "ats": "on"}
        return [*chardev(f"vun{index}", self), "-netdev", words_of("vhost-user", backend),
                "-device", words_of("virtio-net-pci", props | self.props)]


def words_of(name, keys):
    return ",".join([name, *(f"{key}={value}" for key, value in keys.items())])


def chardev(name, device):
    """The channel to the back end of a Disk or a Net."""
    keys = {"id": name, "path": device.socket}
    if device.server:
        keys |= {"server": "on", "wait": "off"}
    elif device.reconnect:
        keys["reconnect"] = device.reconnect
    return ["-chardev", words_of("socket", keys)]


def dies_with_us(command):
    """Has the kernel end the program when this one ends, even where nothing could be cleaned up."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL", "--", *command] if setpriv else list(command)


def on_off(value):
    return "on" if value else "off"


class Guest:
    """One boot of the guest. A context manager: leaving it ends QEMU whatever happened.

    do        the steps (see the file `init`), joined by commas or as a list
    disks     Disk objects, /dev/vda first
    nets      Net objects, eth0 first
    timeout   seconds from the start until the guest must have powered off
    options   further `vhub.NAME=VALUE` words of the kernel command line
    qemu      further arguments for QEMU
    migrates  the guest moves from one QEMU to another: its memory gets a size at which QEMU does that right
    progress  called with (seconds since the start, key, value) for each line of the guest
    """

    def __init__(self, disks, do="info", memory_mb=256, cpus=None, timeout=120, options=None, qemu=(),
                 progress=None, nets=(), migrates=False):
        self.disks = list(disks)
        self.nets = list(nets)
        self.do = do if isinstance(do, str) else ",".join(do)
        self.memory_kib = memory_mb * 1024 + (MIGRATING_KIB if migrates else 0)
        self.cpus = cpus or max([each.queues for each in self.disks + self.nets], default=1)
        self.timeout = timeout
        self.options = {"do": self.do, "disks": len(self.disks), "nets": len(self.nets),
                        "addr": ",".join(net.address for net in self.nets), **(options or {})}
        self.qemu = list(qemu)
        self.progress = progress
        self.results = {}
        self.console = ""
        self.stderr = ""
        self.process = None
        self.started = None
        self._changed = threading.Condition()
        self._reader = None
        self._eof = False

    # --- start and stop

    def command(self):
        kernel, ramdisk = initramfs.build()
        qemu = shutil.which(QEMU)
        if qemu is None:
            raise GuestError(f"no {QEMU}: apt-get install qemu-system-x86")
        words = [APPEND, *(f"vhub.{key}={value}" for key, value in self.options.items())]
        iommu = any(net.iommu for net in self.nets)
        if iommu:
            words.append(IOMMU_APPEND)
        args = [
            qemu, "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none",
            "-machine", "q35,memory-backend=mem", "-accel", "tcg,thread=multi", "-cpu", CPU,
            "-smp", str(self.cpus), "-m", f"{self.memory_kib}K",
            "-object", f"memory-backend-memfd,id=mem,share=on,size={self.memory_kib}K",
            "-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console",
            "-kernel", str(kernel), "-initrd", str(ramdisk), "-append", " ".join(words),
        ]
        if iommu:
            args += IOMMU
        for devices in (self.disks, self.nets):
            for index, device in enumerate(devices):
                args += device.arguments(index)
        return args + self.qemu

    def start(self):
        args = dies_with_us(self.command())
        self.started = time.monotonic()
        self.process = subprocess.Popen(args, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, bufsize=0)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def kill(self):
        """Ends QEMU without asking the guest; a no-op when it has ended by itself."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reader.join(5)
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            try:
                pipe.close()
            except OSError:
                pass

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.kill()

    # --- what comes from the guest

    def _read(self):
        """The reader thread: takes the console and QEMU's own messages as they come."""
        fds = {self.process.stdout.fileno(): "console", self.process.stderr.fileno(): "stderr"}
        line = ""
        while fds:
            for fd in select.select(list(fds), [], [])[0]:
                data = os.read(fd, 65536)
                if not data:
                    del fds[fd]
                    continue
                text = data.decode("utf-8", "replace").replace("\r", "")
                if fds[fd] == "stderr":
                    self.stderr += text
                else:
                    self.console += text
                    *whole, line = (line + text).split("\n")
                    for each in whole:
                        self._take(each)
        with self._changed:
            self._eof = True
            self._changed.notify_all()

    def _take(self, line):
        found = RESULT.search(line)
        if not found:
            return
        key, value = found.group(1), found.group(2).strip()
        with self._changed:
            if key in ("step", "dmesg.line"):
                self.results.setdefault(key + "s", []).append(value)
            self.results[key] = value
            self._changed.notify_all()
        if self.progress:
            self.progress(time.monotonic() - self.started, key, value)

    def expect(self, key, value=None, timeout=60):
        """Waits until the guest has said key (=value); returns the value."""
        deadline = time.monotonic() + timeout
        with self._changed:
            while not (key in self.results and value in (None, self.results[key])):
                left = deadline - time.monotonic()
                if self._eof or "error" in self.results or left <= 0:
                    break
                self._changed.wait(left)
            if key in self.results and value in (None, self.results[key]):
                return self.results[key]
        what = key if value is None else f"{key}={value}"
        raise self._error(f"the guest did not say {what} within {timeout} s")

    def alive(self):
        """Raises a GuestError when QEMU has ended."""
        time.sleep(0.2)
        if self.process.poll() is not None:
            self._reader.join(5)
            raise self._error("QEMU is gone")

    def send(self, line=""):
        """A line for the steps `wait` and `console`."""
        self.process.stdin.write(line.encode() + b"\n")

    def step(self, *words, timeout=60):
        """Has the step `console` do another step with its arguments; returns what the guest says meanwhile."""
        line = ":".join(str(word) for word in words)
        with self._changed:
            before, self.results = self.results, {}
        self.send(line)
        try:
            self.expect("done", line, timeout)
        finally:
            with self._changed:
                said, self.results = self.results, before | self.results
        return said

    def wait(self):
        """Waits for the guest's end; returns its results, or raises a GuestError that says why not."""
        left = self.started + self.timeout - time.monotonic()
        try:
            self.process.wait(max(left, 0.1))
        except subprocess.TimeoutExpired:
            self.kill()
            raise self._error(f"the guest was not done after {self.timeout} s, "
                              f"it was at step {self.results.get('step', '(kernel start)')!r}",
                              ended=False) from None
        self._reader.join(5)
        self.results["seconds"] = f"{time.monotonic() - self.started:.1f}"
        if self.process.returncode != 0 or self.results.get("end") != "ok":
            raise self._error("the guest ended without having done everything")
        return self.results

    def _error(self, what, ended=True):
        """The most telling cause first: the guest's own word, the kernel's, QEMU's, and then ours."""
        reasons = []
        if "error" in self.results:
            reasons.append(f"the guest gave up: {self.results['error']}")
        panic = re.search(r"Kernel panic[^\n]*", self.console)
        if panic:
            reasons.append(panic.group(0))
        code = self.process.poll()
        if ended and code not in (None, 0):
            reasons.append(f"QEMU ended with status {code}")
        if not self.results and code not in (None, 0) and self.stderr:
            reasons.append("the kernel never started")
        reasons.append(what)
        text = "; ".join(reasons)
        if self.stderr.strip():
            text += "\n--- QEMU said ---\n" + tail(self.stderr)
        if self.console.strip():
            text += f"\n--- last lines of the guest's console ---\n{tail(self.console)}"
        return GuestError(text)


def tail(text, lines=TAIL_LINES):
    return "\n".join("  " + line for line in text.strip().splitlines()[-lines:])


def run(disks=(), do="info", **keywords):
    """Boots, waits until the guest has powered off, returns its results."""
    with Guest(disks, do, **keywords) as guest:
        return guest.wait()


# --- reading the results ---------------------------------------------------------------------------

def features(results, dev="vda"):
    """Names of the features that the guest's driver and the device have agreed on."""
    bits = results[f"{dev}.features"]
    names = NET_FEATURES if dev.startswith("eth") else BLK_FEATURES
    return {name for name, bit in names.items() if bit < len(bits) and bits[bit] == "1"}


def sums(results, kind):
    """{file: sha256} of the files `written` or `read`."""
    suffix = "." + kind
    return {key[len("file."):-len(suffix)]: value for key, value in results.items()
            if key.startswith("file.") and key.endswith(suffix)}


def table_of_disk(results, dev):
    size = int(results[f"{dev}.size_bytes"])
    yield "disk", f"/dev/{dev}, {size // 2**20} MiB, serial {results.get(dev + '.serial') or '-'}"
    yield from table_of_queues(results, dev)
    written, read = sums(results, "written"), sums(results, "read")
    if written:
        same = sum(read.get(name) == value for name, value in written.items())
        yield "ext4", "made, mounted, written, unmounted, mounted again"
        yield "files", f"{len(written)} written, {same} read back with the same SHA-256"
        name = max(written, key=lambda each: (each == "f.large", each))
        yield "", f"{written[name][:16]}... written, {read.get(name, '?')[:16]}... read ({name})"
    elif read:
        yield "ext4", f"mounted, {len(read)} files read"


def table_of_net(results, dev):
    link = "up" if results.get(f"{dev}.carrier") == "1" else "not up"
    yield "net", f"{dev}, {results[dev + '.address']}, MTU {results[dev + '.mtu']}, link {link}"
    yield from table_of_queues(results, dev)


def table_of_queues(results, dev):
    negotiated = features(results, dev)
    yield "queues", (f"{results.get(dev + '.queues', '?')}, "
                     f"{'packed' if 'RING_PACKED' in negotiated else 'split'} ring")
    yield "features", " ".join(sorted(negotiated))


def table(results, dev="vda"):
    """The short table that the quickstart prints: what the guest saw, in a person's words. Of several
    disks it shows one."""
    rows = [("guest", f"Linux {results.get('kernel', '?')}, {results.get('cpus', '?')} CPU(s), TCG")]
    if f"{dev}.size_bytes" in results:
        rows += table_of_disk(results, dev)
    for key in sorted(results):
        if re.fullmatch(r"eth\d+\.address", key):
            rows += table_of_net(results, key.partition(".")[0])
    if "ping.sent" in results:
        rows.append(("ping", f"{results['ping.received']} of {results['ping.sent']} answered"))
    rows.append(("I/O errors", results.get("dmesg.io_errors", "?")))
    rows.append(("time", f"{results.get('seconds', '?')} s from power-on to power-off"))
    return "\n".join(f"  {name:<11} {value}" for name, value in rows)


def complaints(results):
    """What is wrong with the results of a run that did end; an empty list when nothing is."""
    bad = []
    if results.get("dmesg.io_errors") != "0":
        bad.append("the guest's kernel complains: " + "; ".join(results.get("dmesg.lines", ["?"])))
    written, read = sums(results, "written"), sums(results, "read")
    if read:
        bad += [f"{name} was written as {value} and read as {read.get(name, 'nothing')}"
                for name, value in written.items() if read.get(name) != value]
    return bad


# --- as a program ----------------------------------------------------------------------------------

def parse_arguments():
    parser = argparse.ArgumentParser(
        description="Boot a small Linux guest on vhost-user disks and nets and report what it saw.")
    parser.add_argument("socket", nargs="*", help="vhost-user socket of a disk, /dev/vda first")
    parser.add_argument("--net", action="append", default=[], metavar="SOCKET[=ADDRESS/PREFIX]",
                        help="vhost-user socket of a net, eth0 first, and the address that the step "
                             "net-up gives it")
    parser.add_argument("--do", default="info", metavar="STEP,...",
                        help="disks: info, mkfs, write, verify, mkfs-write, raw, churn[:SECONDS], discard, fstrim, size, "
                             "cache:back, cache:through, put:N, write-refused; nets: "
                             "net-up, net-info:DEV, ping:ADDRESS:COUNT, ...; idle, wait (default: info)")
    parser.add_argument("--queues", type=int, default=1, help="queues a disk, pairs a net (default 1)")
    parser.add_argument("--packed", action="store_true", help="packed rings")
    parser.add_argument("--server", action="store_true", help="QEMU listens on the sockets")
    parser.add_argument("--kib", type=int, default=4096, help="size of the largest file written")
    parser.add_argument("--memory", type=int, default=256, metavar="MIB")
    parser.add_argument("--timeout", type=int, default=120, metavar="SECONDS")
    parser.add_argument("--format", choices=("table", "json", "lines"), default="table")
    parser.add_argument("--quiet", action="store_true", help="no progress on standard error")
    parser.add_argument("--show-console", action="store_true", help="the console on standard error")
    args = parser.parse_args()
    if not args.socket and not args.net:
        parser.error("neither a disk's socket nor a --net")
    return args


def show_progress(seconds, key, value):
    if key in ("step", "error", "end"):
        print(f"  {seconds:5.1f} s  guest: {value if key == 'step' else key + '=' + value}",
              file=sys.stderr, flush=True)


def main():
    args = parse_arguments()
    # As an exception, so that QEMU is ended on the way out.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    disks = [Disk(path, args.queues, args.packed, args.server) for path in args.socket]
    nets = [Net(*text.partition("=")[::2], args.queues, args.packed, args.server) for text in args.net]
    guest = Guest(disks, args.do, nets=nets, memory_mb=args.memory, timeout=args.timeout,
                  options={"kib": args.kib}, progress=None if args.quiet else show_progress)
    try:
        with guest:
            results = guest.wait()
    except GuestError as err:
        print(f"run_guest.py: {err}", file=sys.stderr)
        return 1
    finally:
        if args.show_console:
            print(guest.console, file=sys.stderr)
    if args.format == "json":
        print(json.dumps(results, indent=1))
    elif args.format == "lines":
        print("\n".join(f"{key}={value}" for key, value in results.items()))
    else:
        print(table(results))
    bad = complaints(results)
    for text in bad:
        print(f"run_guest.py: {text}", file=sys.stderr)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
