# SPDX-License-Identifier: BSD-3-Clause
"""A client of vhubd's control socket, for tests, and vhubctl as a program."""

import json
import os
import socket
import subprocess
import time

from vhubd import ROOT


class Refused(Exception):
    """An error answer: its code and its sentence."""

    def __init__(self, error):
        super().__init__(error["message"])
        self.code = error["code"]


class Control:
    def __init__(self, path, timeout=60):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(timeout)
        self.sock.connect(str(path))
        self.buffer = b""
        self.last_id = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()

    def begin(self, method, **params):
        """Sends a call without waiting; its id."""
        self.last_id += 1
        self.send(json.dumps({"jsonrpc": "2.0", "id": self.last_id, "method": method, "params": params}))
        return self.last_id

    def send(self, text):
        self.sock.sendall(text.encode())

    def receive(self):
        while b"\n" not in self.buffer:
            piece = self.sock.recv(65536)
            if not piece:
                raise EOFError("the control socket was closed")
            self.buffer += piece
        line, self.buffer = self.buffer.split(b"\n", 1)
        return json.loads(line)

    def call(self, method, **params):
        number = self.begin(method, **params)
        answer = self.receive()
        assert answer["id"] == number
        if "error" in answer:
            raise Refused(answer["error"])
        return answer["result"]

    def settle(self):
        """Until each lcore has come round, or sleeps: what a guest has seen may be counted behind that."""
        before = {each["lcore"]: each["turns"] for each in self.call("lcore_list")}
        deadline = time.monotonic() + 30
        while not all(each["asleep"] or each["turns"] > before[each["lcore"]] + 1 for each in self.call("lcore_list")):
            assert time.monotonic() < deadline, "an lcore stands still"

    def names(self):
        return [each["name"] for each in self.call("device_list")]


def vhubctl(path, *words, cwd=None):
    return subprocess.run(["/usr/bin/python3", ROOT / "usertools/vhubctl", *map(str, words)],
                          env=dict(os.environ, VHUB_CONTROL=str(path)), capture_output=True, text=True,
                          check=False, timeout=60, cwd=cwd)
