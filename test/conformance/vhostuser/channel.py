# SPDX-License-Identifier: BSD-3-Clause
"""The back-end channel: the socket on which the back end asks and the front end answers.

Handed over with SET_BACKEND_REQ_FD through frontend.py.
"""

import socket

from . import protocol as p
from .wire import PATIENCE, Wire


class BackendChannel:
    """`remote` goes to the back end; `wire` is where its requests arrive."""

    def __init__(self):
        mine, self.remote = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self.wire = Wire(mine)

    @property
    def remote_fd(self):
        return self.remote.fileno()

    def handed_over(self):
        """The back end has its copy: forget ours, so that its close is seen here."""
        self.remote.close()

    def recv(self, timeout=PATIENCE):
        """A request of the back end, acknowledged if it wants that."""
        message = self.wire.recv(timeout)
        if message.flags & p.FLAG_NEED_REPLY:
            self.wire.send(message.request, p.U64.pack(0), flags=p.VERSION | p.FLAG_REPLY)
        return message

    def close(self):
        self.wire.close()
        self.remote.close()
