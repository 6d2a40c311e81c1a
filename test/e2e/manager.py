# SPDX-License-Identifier: BSD-3-Clause
"""A service manager, as systemd is one for units of Type=notify: what it is told."""

import socket
import struct

SO_TIMESTAMPNS = 35                     # Python has no name for it

class Manager:
    """A service manager's end of sd_notify(3): all that it was told, one list of lines a message."""

    def __init__(self, address):
        self.address = str(address)
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind(self.address.replace("@", "\0", 1))
        self.sock.settimeout(30)
        self.sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self.said = []
        self.times = []                 # when each was sent, in seconds

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()

    def env(self, **more):
        return dict(more, NOTIFY_SOCKET=self.address)

    def hear(self):
        text, ((_, _, stamp),), _, _ = self.sock.recvmsg(4096, socket.CMSG_SPACE(16))
        self.said.append(text.decode().split("\n"))
        seconds, nanoseconds = struct.unpack("qq", stamp)
        self.times.append(seconds + nanoseconds / 1e9)
        return self.said[-1]

    def hear_until(self, line):
        while line not in self.hear():
            pass

    def hear_all(self):
        """What is there already."""
        self.sock.setblocking(False)
        try:
            while True:
                self.hear()
        except BlockingIOError:
            return self.said
        finally:
            self.sock.settimeout(30)
