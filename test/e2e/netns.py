#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""A network namespace of a test's own, and the TCP server in it that a guest exchanges data with.

Used by test_guest_net.py, and own_network() by tests of ports that reach interfaces of the kernel's. What runs in the namespace sees no other network, and nobody outside sees its
interfaces; Unix sockets and files are the same on both sides. As a program this file is that server: it
prints a line of JSON for each connection to its sink.
"""

import contextlib
import ctypes
import hashlib
import itertools
import json
import os
import queue
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "guest"))

from run_guest import dies_with_us  # noqa: E402

SINK = 7001             # takes everything and counts and hashes it
SOURCE = 7002           # sends the stream and closes
CLONE_NEWNET = 0x40000000

_numbers = itertools.count()


class NetnsError(AssertionError):
    """Something about the namespace went wrong; the text holds what the program `ip` said."""


class Netns:
    """One namespace with its loopback up. A context manager: leaving it ends what still runs inside."""

    def __init__(self):
        self.name = f"vhub-{os.getpid()}-{next(_numbers)}"

    @property
    def prefix(self):
        """What to put before a command so that it runs inside; it keeps the process id."""
        return ["ip", "netns", "exec", self.name]

    def ip(self, *words):
        """`ip` inside the namespace; returns what it prints."""
        return run_ip("-n", self.name, *words)

    def configure(self, device, address=None, timeout=60):
        """Waits for the interface, gives it an address and takes it up."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                self.ip("link", "set", device, "up")
                break
            except NetnsError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
        if address is not None:
            self.ip("addr", "replace", address, "dev", device)

    def link(self, device):
        """What `ip link` knows of one interface: mtu, address, flags, operstate and more."""
        return json.loads(self.ip("-json", "-statistics", "link", "show", device))[0]

    def counters(self):
        """The namespace's /proc/net/snmp, as {"Ip": {"FragCreates": 0, ...}, ...}."""
        out = {}
        lines = self.run("cat", "/proc/net/snmp").splitlines()
        for names, values in zip(lines[::2], lines[1::2]):
            protocol, *names = names.split()
            out[protocol.rstrip(":")] = dict(zip(names, map(int, values.split()[1:])))
        return out

    def run(self, *command):
        return subprocess.run([*self.prefix, *command], check=True, capture_output=True, text=True).stdout

    @contextlib.contextmanager
    def iperf(self):
        """Meanwhile an iperf3 serves at all addresses."""
        with subprocess.Popen(dies_with_us([*self.prefix, "iperf3", "-4", "-s", "--forceflush"]),
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as process:
            try:
                if not any("listening" in line for line in process.stdout):
                    raise NetnsError("iperf3 -s has ended without a word of listening")
                yield
            finally:
                process.kill()

    def server(self, address, mib):
        return Server(self, address, mib)

    def __enter__(self):
        run_ip("netns", "add", self.name)
        self.ip("link", "set", "lo", "up")
        return self

    def __exit__(self, *_):
        for pid in run_ip("netns", "pids", self.name).split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), 9)
        run_ip("netns", "del", self.name)


@contextlib.contextmanager
def own_network():
    """This thread, and what it starts, has a network of its own meanwhile, in which the kernel has nothing to
    say by itself."""
    libc = ctypes.CDLL(None, use_errno=True)
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    assert libc.unshare(CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
    Path("/proc/sys/net/ipv6/conf/default/disable_ipv6").write_text("1")
    yield
    assert libc.setns(before, CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
    os.close(before)


def run_ip(*words):
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise NetnsError(f"ip {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


# --- the data --------------------------------------------------------------------------------------

PIECE = b"".join(b"%d\n" % n for n in range(1000000, 1131072))


def stream(mib):
    """What the guest makes too (`stream` in test/guest/init-net): numbered pieces of 1 MiB and 16 bytes."""
    for number in range(mib):
        yield b"piece %09d\n" % number + PIECE


def sha256_of_stream(mib):
    total = hashlib.sha256()
    for piece in stream(mib):
        total.update(piece)
    return total.hexdigest()


# --- the server ------------------------------------------------------------------------------------

class Server:
    """This file as a program, in a namespace. A context manager.

    received() waits for the next connection to the sink to end: {"bytes": N, "sha256": "..."}."""

    def __init__(self, netns, address, mib):
        self.command = [*netns.prefix, sys.executable, __file__, address, str(mib)]
        self.process = None
        self._lines = queue.Queue()

    def __enter__(self):
        self.process = subprocess.Popen(dies_with_us(self.command), stdin=subprocess.DEVNULL,
                                        stdout=subprocess.PIPE, text=True)
        threading.Thread(target=self._read, daemon=True).start()
        self.received()
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def _read(self):
        for line in self.process.stdout:
            self._lines.put(json.loads(line))
        self._lines.put(None)

    def received(self, timeout=60):
        try:
            line = self._lines.get(timeout=timeout)
        except queue.Empty:
            line = None
        if line is None:
            raise NetnsError(f"no word from the server within {timeout} s, "
                             f"its status is {self.process.poll()}")
        return line


def sink(connection):
    total, count = hashlib.sha256(), 0
    with connection:
        while data := connection.recv(1 << 18):
            total.update(data)
            count += len(data)
    print(json.dumps({"bytes": count, "sha256": total.hexdigest()}), flush=True)


def source(connection, mib):
    with connection:
        for piece in stream(mib):
            connection.sendall(piece)


def listen(address, port, serve, *args):
    """One thread takes the connections, and each connection has its own."""
    listener = socket.create_server((address, port))

    def accept():
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=serve, args=(connection, *args), daemon=True).start()

    thread = threading.Thread(target=accept)
    thread.start()
    return thread


def main():
    address, mib = sys.argv[1], int(sys.argv[2])
    threads = [listen(address, SINK, sink), listen(address, SOURCE, source, mib)]
    print(json.dumps({"ready": True}), flush=True)
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
