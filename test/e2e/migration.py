# SPDX-License-Identifier: BSD-3-Clause
"""A guest that moves from one QEMU to another, and whether its memory has come along, every byte.

Monitor talks to a QEMU; moved() waits until a guest's memory is on the other side, and differences() compares
the two. test_guest_migrates.py uses them.
"""

import json
import mmap
import os
import socket
import time

PAGE = 4096
CHUNK = 256 * PAGE


class Monitor:
    """QEMU's monitor (QMP)."""

    def __init__(self, path):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        deadline = time.monotonic() + 60
        while True:
            try:
                self.sock.connect(str(path))
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
        self.sock.settimeout(60)
        self.file = self.sock.makefile("rw")
        assert "QMP" in json.loads(self.file.readline())
        self.call("qmp_capabilities")

    def call(self, command, **arguments):
        self.file.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self.file.flush()
        while True:
            answer = json.loads(self.file.readline())
            if "event" not in answer:
                assert "return" in answer, answer
                return answer["return"]

    def migrate(self, path, syncs=8, timeout=60):
        """To the QEMU that listens there; its figures. The guest runs nowhere then. It runs here until its
        dirty pages have been taken `syncs` times: until then QEMU may stop it only if what is left can be
        sent in a millisecond."""
        self.call("migrate-set-parameters", **{"downtime-limit": 1, "max-bandwidth": 64 << 20})
        self.call("migrate", uri=f"unix:{path}")
        deadline = time.monotonic() + timeout
        while True:
            state = self.call("query-migrate")
            if state.get("status") in ("completed", "failed", "cancelled"):
                assert state["status"] == "completed", state
                return state
            assert time.monotonic() < deadline, state
            if state.get("ram", {}).get("dirty-sync-count", 0) >= syncs:
                self.call("migrate-set-parameters", **{"downtime-limit": 2000})
            time.sleep(0.05)

    def arrived(self, timeout=60):
        """The guest is here, whole, and waits for `cont`."""
        deadline = time.monotonic() + timeout
        while self.call("query-status")["status"] != "paused":
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def close(self):
        self.file.close()
        self.sock.close()


def memory(guest):
    """A Guest's memory, as a mapping that only reads."""
    folder = f"/proc/{guest.process.pid}/fd"
    for name in os.listdir(folder):
        if os.readlink(f"{folder}/{name}").startswith("/memfd:memory-backend"):
            with open(f"{folder}/{name}", "rb") as file:
                size = guest.memory_kib * 1024
                assert os.fstat(file.fileno()).st_size == size
                return mmap.mmap(file.fileno(), size, mmap.MAP_SHARED, mmap.PROT_READ)
    raise AssertionError("QEMU has no memory that is shared")


def differences(one, other):
    """The pages in which the memory of two Guests differs; both of them are stopped."""
    with memory(one) as a, memory(other) as b:
        return [at // PAGE for chunk in range(0, len(a), CHUNK) if a[chunk:chunk + CHUNK] != b[chunk:chunk + CHUNK]
                for at in range(chunk, min(chunk + CHUNK, len(a)), PAGE) if a[at:at + PAGE] != b[at:at + PAGE]]
