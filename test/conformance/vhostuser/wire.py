# SPDX-License-Identifier: BSD-3-Clause
"""One vhost-user socket: whole messages, and for hostile tests any bytes with any descriptors.

Called by frontend.py for the protocol and by the hostile tests directly; frontend.py comes next.
"""

import array
import os
import math
import select
import socket
import time
import traceback

from . import protocol as p

MAX_FDS = 253                           # SCM_MAX_FD of Linux

#: Seconds after which something is lost. What comes ends each wait at once, and a machine that does much else
#: has kept a thread from its CPU for five.
PATIENCE = 30.0


def wait_until(holds, told=None, seconds=PATIENCE):
    """Until holds() gives something, which is returned; if it never does, told() says what there is, or the line
    that waits is named. The last look is behind the end: until then this may not have run."""
    deadline = time.monotonic() + seconds
    while True:
        late = time.monotonic() >= deadline
        if found := holds():
            return found
        if late:
            caller = traceback.extract_stack(limit=2)[0]
            raise AssertionError(told() if told else "%s:%d, within %g s: %s"
                                 % (os.path.basename(caller.filename), caller.lineno, seconds, caller.line))
        time.sleep(0.002)


def wait_listens(*paths):
    """Until somebody listens at each of these. A socket is in its folder a moment earlier, and refuses then."""
    accepts = 0x10000
    left = {str(path) for path in paths}

    def all_listen():
        with open("/proc/net/unix", encoding="utf-8", errors="replace") as table:
            lines = [line.rstrip("\n").split(maxsplit=7) for line in table]
        return left <= {line[7] for line in lines[1:] if len(line) == 8 and int(line[3], 16) & accepts}

    wait_until(all_listen, lambda: f"nobody listens at one of {sorted(left)}")


class Closed(Exception):
    """The back end closed the connection."""


class ProtocolError(Exception):
    """The back end answered something that the specification does not allow."""


class Message:
    """A message as it was received; owns its fds until they are taken or close() is called."""

    def __init__(self, request, flags, payload, fds):
        self.request = request
        self.flags = flags
        self.payload = payload
        self.fds = fds

    @property
    def u64(self):
        if len(self.payload) != 8:
            raise ProtocolError("reply to %s has %d bytes where a u64 belongs"
                                % (self.name, len(self.payload)))
        return p.U64.unpack(self.payload)[0]

    @property
    def name(self):
        try:
            return p.Req(self.request).name
        except ValueError:
            return "request %d" % self.request

    def close(self):
        for fd in self.fds:
            os.close(fd)
        self.fds = []

    def __repr__(self):
        return "<%s flags=%#x size=%d fds=%d>" % (self.name, self.flags, len(self.payload),
                                                  len(self.fds))


class Wire:
    """A connected stream socket that speaks vhost-user."""

    def __init__(self, sock, timeout=PATIENCE):
        self.sock = sock
        self.timeout = timeout

    @classmethod
    def connect(cls, path, timeout=PATIENCE):
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(timeout)
        deadline = time.monotonic() + timeout
        while True:
            try:
                sock.connect(path)
                return cls(sock, timeout)
            except BlockingIOError:     # the backlog is full at the moment
                if time.monotonic() > deadline:
                    sock.close()
                    raise
                time.sleep(0.002)
            except BaseException:
                sock.close()
                raise

    @classmethod
    def connect_served(cls, path, timeout=PATIENCE, patience=PATIENCE):
        """A connection that is served: a back end which is still busy with the front end before
        closes it, one that begins does not listen yet, and then this tries again, for `patience`
        seconds (0: once)."""
        deadline = time.monotonic() + patience
        while True:
            try:
                wire = cls.connect(path, timeout)
                return wire if patience == 0 else wire.answered()
            except (Closed, ConnectionRefusedError):
                if time.monotonic() >= deadline:
                    raise
                time.sleep(0.05)

    def answered(self):
        """Itself, once the back end has answered something; closed if it does not."""
        try:
            self.send(p.Req.GET_FEATURES)
            self.recv_reply(p.Req.GET_FEATURES)
            return self
        except BaseException:
            self.close()
            raise

    def send_raw(self, data, fds=()):
        """Sends these bytes, the fds with the first of them."""
        ancillary = []
        if fds:
            ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
        try:
            sent = self.sock.sendmsg([data], ancillary)
            if sent < len(data):
                self.sock.sendall(data[sent:])
        except (BrokenPipeError, ConnectionResetError) as error:
            raise Closed(str(error)) from None

    def send(self, request, payload=b"", fds=(), need_reply=False, flags=None, size=None):
        """Sends one message; flags and size override the honest values."""
        if flags is None:
            flags = p.VERSION | (p.FLAG_NEED_REPLY if need_reply else 0)
        if size is None:
            size = len(payload)
        self.send_raw(p.HEADER.pack(request, flags, size) + payload, fds)

    def _recv_exactly(self, count, deadline, fds):
        data = b""
        while len(data) < count:
            left = deadline - time.monotonic()
            if left <= 0 or not self._readable(left):
                raise TimeoutError("no answer from the back end")
            try:
                part, ancillary, _, _ = self.sock.recvmsg(
                    count - len(data), socket.CMSG_SPACE(MAX_FDS * 4), socket.MSG_CMSG_CLOEXEC)
            except ConnectionResetError as error:
                raise Closed(str(error)) from None
            for level, kind, content in ancillary:
                if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                    received = array.array("i")
                    received.frombytes(content[:len(content) - len(content) % received.itemsize])
                    fds.extend(received)
            if not part:
                raise Closed("end of stream after %d of %d bytes" % (len(data), count))
            data += part
        return data

    def recv(self, timeout=None):
        """The next whole message; Closed at the end of the stream, TimeoutError when none comes."""
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        fds = []
        try:
            request, flags, size = p.HEADER.unpack(self._recv_exactly(p.HEADER.size, deadline, fds))
            payload = self._recv_exactly(size, deadline, fds) if size else b""
        except BaseException:
            for fd in fds:
                os.close(fd)
            raise
        return Message(request, flags, payload, fds)

    def recv_reply(self, request, timeout=None):
        """The reply to `request`, its header checked."""
        reply = self.recv(timeout)
        if reply.request != request or not reply.flags & p.FLAG_REPLY:
            reply.close()
            raise ProtocolError("asked %s, answered %r" % (p.Req(request).name, reply))
        if reply.flags & p.VERSION_MASK != p.VERSION or reply.flags & ~0xf:
            reply.close()
            raise ProtocolError("reply with flags %#x" % reply.flags)
        return reply

    def _readable(self, seconds):
        """Whether something comes, or the end, within that time. Not by select(), which knows 1024
        descriptors."""
        poller = select.poll()
        poller.register(self.sock, select.POLLIN)
        return bool(poller.poll(math.ceil(seconds * 1000)))

    def silent(self, seconds):
        """True if nothing at all comes for that long and the connection stays open."""
        return not self._readable(seconds)

    def wait_closed(self, timeout=None):
        """True if the back end closes the connection in that time; what it still says is thrown
        away."""
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        while True:
            try:
                self.recv(max(0.0, deadline - time.monotonic())).close()
            except Closed:
                return True
            except TimeoutError:
                return False

    def close(self):
        self.sock.close()
