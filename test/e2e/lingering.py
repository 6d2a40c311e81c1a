# SPDX-License-Identifier: BSD-3-Clause
"""A descriptor that cannot be closed at once, for front ends to send. Used by test_end_saves.py and test_fds.py."""

import socket
import struct

import pytest


def lingering_socket(seconds):
    """(a TCP socket, its peer): the last close of the first takes so long, for what it has sent is not taken; or until
    the peer is closed."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        ours = socket.create_connection(listener.getsockname())
        peer, _ = listener.accept()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, seconds))
    ours.setblocking(False)
    with pytest.raises(BlockingIOError):
        while True:
            ours.send(bytes(65536))
    return ours, peer
