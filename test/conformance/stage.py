# SPDX-License-Identifier: BSD-3-Clause
"""The daemon that most conformance tests share, with its disks and ports, the figures they compare,
and the innocent neighbours.

Used by conftest.py. With VHOSTUSER_PEER=qsd in the environment the peer is qemu-storage-daemon
instead of vhubd: a second opinion while writing tests, no way to run the whole suite.
"""

import os
import re
import shutil
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from hold import Hold
from vhostuser import PATIENCE, BlkDisk, GuestMemory, NetPort
from vhubd import Vhubd, build_dir, sanitized, worker_arguments

HERE = Path(__file__).resolve().parent
MB = 1 << 20

#: Log lines that a peer causes are rate-limited for each slot, and every hostile test wants to see
#: its own: they take turns.
VICTIMS = {"victim": 48, "netvictim": 24, "netvictim-library": 24}

#: name: --blk options after the socket. "plain" and the victims are what tests work on, "innocent"
#: is the neighbour's.
DISKS = {
    "plain": "driver=malloc,size=64M,queues=4",
    **{"victim%d" % i: "driver=malloc,size=4M,queues=4" for i in range(VICTIMS["victim"])},
    "innocent": "driver=malloc,size=16M",
    "readonly": "driver=malloc,size=16M,ro=on",
    "blocks": "driver=malloc,size=16M,block_size=4096",
    "null": "driver=null,size=64M,queues=2",
    "file": "driver=uring,path={folder}/file.img,queues=4",
    "late": "driver=null,size=64M,latency_us=300000,queues=2",
    "held": "driver=unruly,over=null,size=64M,queues=2,hold={folder}/hold",
}

#: What serves a port's rings, and the end of the names of its ports here.
DATAPATHS = {"direct": "", "librte_vhost": "-library"}

#: A DMA device of EAL's that copies the packets of ports of librte_vhost's, and further keys of theirs:
#: dma_skeleton0 or dma_skeleton0,trust=on.
DMA = os.environ.get("VHUB_NET_DMA")

if DMA:                                 # what is not allocated is not for it
    NetPort.MEMORY = lambda: GuestMemory().allocate()

#: The same with --net, for each data path.
PORTS = {name + suffix + number: "%s,datapath=%s%s" % (options, datapath,
                                                       ",dma=" + DMA if DMA and suffix else "")
         for datapath, suffix in DATAPATHS.items()
         for name, options, count in (
             ("netplain", "driver=echo,queues=4", 0),
             ("netwhole", "driver=echo,queues=2,mac=02:00:00:00:00:07,mtu=9000", 0),
             ("netvictim", "driver=echo,queues=2", VICTIMS["netvictim" + suffix]),
             ("netinnocent", "driver=echo", 0))
         for number in (map(str, range(count)) if count else [""])}


MAPPINGS_OF_A_THREAD = 2                # its stack and what guards it
ARENA_BYTES = 64 * MB                   # of glibc, for what a thread allocates


def without_arenas(lines):
    """How many mappings there are but for arenas. A thread has one from its first allocation on, which may come at any
    time: what is used, and the rest, which the kernel may have made one with what lies behind it."""
    spans = [(*(int(end, 16) for end in line.split()[0].split("-")), line.split()[1]) for line in lines]
    count = len(spans)
    for (low, middle, used), (start, end, rest) in zip(spans, spans[1:]):
        behind = low + ARENA_BYTES
        if low % ARENA_BYTES == 0 and middle == start and behind <= end and (used, rest) == ("rw-p", "---p"):
            count -= 2 if end == behind else 1
    return count


class Figures:
    """What a process holds: descriptors and mappings, as /proc tells."""

    def __init__(self, pid):
        self.fds = sorted(self._links(pid))
        with open("/proc/%d/maps" % pid) as maps:
            lines = maps.read().splitlines()
        self.maps = without_arenas(lines)
        self.threads = len(os.listdir("/proc/%d/task" % pid))
        self.foreign = sorted(line.split(None, 5)[5] for line in lines if "memfd:fe-" in line)

    @staticmethod
    def _links(pid):
        for fd in os.listdir("/proc/%d/fd" % pid):
            try:
                # The number of an anonymous inode or a socket differs from time to time.
                yield re.sub(r"\[\d+\]", "", os.readlink("/proc/%d/fd/%s" % (pid, fd)))
            except OSError:
                pass

    def growth(self, before):
        """What there is more than in `before`, as text; empty if nothing."""
        found = []
        if len(self.fds) > len(before.fds):
            extra = list(self.fds)
            for link in before.fds:
                if link in extra:
                    extra.remove(link)
            found.append("fds %d -> %d: %s" % (len(before.fds), len(self.fds), extra))
        # A sanitizer's allocator makes mappings of its own; there only ours are counted. A busy machine
        # may make one more thread stand by for blocking work.
        most = before.maps + MAPPINGS_OF_A_THREAD * max(0, self.threads - before.threads)
        if self.maps > most and not sanitized():
            found.append("mappings %d -> %d, threads %d -> %d"
                         % (before.maps, self.maps, before.threads, self.threads))
        if len(self.foreign) > len(before.foreign):
            found.append("mappings of ours: %s" % self.foreign)
        return "; ".join(found)


class Stage:
    """The shared daemon. ensure() before a test starts it, again if need be."""

    def __init__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="vhub-c-"))
        self.peer = None
        self.number = 0
        self.turns = dict.fromkeys(VICTIMS, 0)
        self.spoilt = set()

    def path(self, disk):
        return str(self.folder / (disk + ".sock"))

    def hold(self):
        """Keeps the disk "held" from answering."""
        return Hold(self.folder / "hold")

    def next_victim(self, prefix="victim"):
        """The victims in turn; not those that a test before could not leave usable."""
        count = VICTIMS[prefix] if not isinstance(self.peer, Qsd) else 1
        for _ in range(count):
            self.turns[prefix] = (self.turns[prefix] + 1) % count
            name = "%s%d" % (prefix, self.turns[prefix])
            if name not in self.spoilt:
                break
        return name

    def ensure(self):
        if self.peer is not None and self.peer.running():
            return
        for socket in self.folder.glob("*.sock"):
            socket.unlink()
        self.number += 1
        self.spoilt = set()
        used_first, formats = ("plain", "file", "victim0"), (False, True)
        if os.environ.get("VHOSTUSER_PEER") == "qsd":
            used_first, formats = ("plain", "victim0"), (False,)
            self.peer = Qsd(self.folder, {name: self.path(name)
                                          for name in ("plain", "victim0", "innocent")})
        else:
            with open(self.folder / "file.img", "wb") as image:
                image.truncate(64 * MB)
            self.peer = Vhubd(*self.arguments(DISKS), nets=self.arguments(PORTS),
                              eal=worker_arguments(1) + ["--vdev", DMA.split(",")[0]] if DMA else None,
                              folder=self.folder, name="stage%d" % self.number,
                              loads=[build_dir() / "test/tools/unruly.so"])
        self.peer.start()
        # What is made at first use is there before anybody counts.
        for disk in used_first:
            for packed in formats:
                with BlkDisk.open(self.path(disk), packed=packed) as session:
                    session.read(0, 4096)
        if not isinstance(self.peer, Qsd):
            for packed in formats:
                for suffix in DATAPATHS.values():
                    with NetPort.open(self.path("netplain" + suffix), packed=packed) as session:
                        session.echo(bytes(64))

    def arguments(self, devices):
        """The texts of --blk or --net."""
        return ["%s,socket=%s,%s" % (name, self.path(name), options.format(folder=self.folder))
                for name, options in devices.items()]

    def check_alive(self):
        if not self.peer.running():
            text = self.peer.log[-8000:]
            raise AssertionError("the daemon died with status %s\n%s"
                                 % (self.peer.process.returncode, text))
        self.peer.check_log()

    @property
    def pid(self):
        return self.peer.pid

    @property
    def log(self):
        return self.peer.log

    def figures(self):
        return Figures(self.pid)

    def wait_settled(self, before, timeout=PATIENCE):
        """Waits until nothing has grown since `before`; the growth that stays, as text."""
        deadline = time.monotonic() + timeout
        while True:
            growth = self.figures().growth(before)
            if not growth or time.monotonic() > deadline:
                return growth
            time.sleep(0.02)

    def wait_unmapped(self, before, timeout=PATIENCE):
        """Waits until no more of our files are mapped than in `before`; those that still are."""
        deadline = time.monotonic() + timeout
        while True:
            foreign = self.figures().foreign
            if len(foreign) <= len(before.foreign):
                return []
            if time.monotonic() > deadline:
                return foreign
            time.sleep(0.02)

    def wait_log(self, expression, since, timeout=PATIENCE):
        """The first line of the log after offset `since` that matches; None if there is none in
        time. The name of the request does not count: it says where something is wrong, not what."""
        deadline = time.monotonic() + timeout
        while True:
            for line in self.log[since:].splitlines():
                if re.search(expression, re.sub(r"\b[A-Z_]+ \(\d+\)", "", line), re.IGNORECASE):
                    return line
            if time.monotonic() > deadline:
                return None
            time.sleep(0.02)

    def close(self):
        try:
            if self.peer is not None and self.peer.running():
                self.peer.stop()
        finally:
            if self.peer is not None:
                self.peer.kill()
            shutil.rmtree(self.folder, ignore_errors=True)


class Qsd:
    """qemu-storage-daemon in the shape of Vhubd."""

    def __init__(self, folder, sockets):
        self.folder = folder
        self.sockets = sockets
        self.log_path = folder / "qsd.log"
        self.process = None

    def start(self):
        command = ["qemu-storage-daemon"]
        for name, path in self.sockets.items():
            image = self.folder / (name + ".img")
            with open(image, "wb") as file:
                file.truncate(16 * MB)
            command += ["--blockdev", "driver=file,node-name=%s,filename=%s" % (name, image),
                        "--export",
                        "type=vhost-user-blk,id=e-%s,node-name=%s,addr.type=unix,addr.path=%s,"
                        "writable=on,num-queues=4"
                        % (name, name, path)]
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + PATIENCE
        while not all(os.path.exists(path) for path in self.sockets.values()):
            if time.monotonic() > deadline:
                raise RuntimeError("qemu-storage-daemon: %s" % self.log)
            time.sleep(0.02)

    @property
    def pid(self):
        return self.process.pid

    @property
    def log(self):
        return self.log_path.read_text()

    def running(self):
        return self.process is not None and self.process.poll() is None

    def check_log(self):
        pass

    def stop(self):
        self.kill()

    def kill(self):
        self.process.kill()
        self.process.wait()


class Neighbour:
    """An innocent front end on a disk or port ("blk", "net") of its own, in a process of its own:
    neighbour.py, with one session from first to last."""

    #: Seconds as neighbour.py counts them, of which a machine that does much else takes none; less than the 5 s
    #: that the daemon itself waits for a front end.
    GAP_LIMIT = 4.0

    def __init__(self, kind, path):
        self.count = 0
        self.gap = 0.0
        self.process = subprocess.Popen(["/usr/bin/python3", str(HERE / "neighbour.py"), kind, path],
                                        stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.thread = threading.Thread(target=self._collect, daemon=True)
        self.thread.start()
        self.check(0)

    def _collect(self):
        for line in self.process.stdout:
            count, gap = line.split()
            self.count = int(count)
            self.gap = max(self.gap, float(gap))

    @property
    def failed(self):
        return self.process.poll() is not None

    def check(self, since):
        """It has gone on since its count was `since`, without a failure and without a long gap."""
        deadline = time.monotonic() + PATIENCE
        while self.count < since + 5 and not self.failed and time.monotonic() < deadline:
            time.sleep(0.005)
        if self.failed:
            raise AssertionError("the neighbour's I/O failed: %s" % self.process.stderr.read())
        if self.count < since + 5:
            raise AssertionError("the neighbour's I/O stopped")
        if self.gap > self.GAP_LIMIT:
            gap, self.gap = self.gap, 0.0
            raise AssertionError("the neighbour's I/O stood still for %.1f s" % gap)

    def close(self):
        self.process.stdin.close()
        try:
            self.process.wait(10)
        finally:
            self.process.kill()
            self.process.wait()
            self.thread.join(5)
            self.process.stdout.close()
            self.process.stderr.close()
