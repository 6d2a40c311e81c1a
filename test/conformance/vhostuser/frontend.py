# SPDX-License-Identifier: BSD-3-Clause
"""A front end: one session with a back end, from SET_OWNER to GET_VRING_BASE, for any kind of
device.

Stands on wire.py, memory.py and the rings; blk.py and net.py are the drivers on top of it.
"""

import array
import fcntl
import os
import select
import struct
import time

from . import protocol as p
from .memory import GuestMemory
from .packed import PackedRing
from .protocol import F, PF, Req
from .split import SplitRing
from .wire import PATIENCE, Wire, wait_until


class Refused(Exception):
    """The back end acknowledged a request with an error."""


EVENTFD_FULL = (1 << 64) - 2            # the most an eventfd can count


def make_blocking(fd):
    """What a front end can do to a descriptor that it has shared."""
    fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) & ~os.O_NONBLOCK)


class EventFd:
    """An eventfd (or, given another fd, whatever that is) of a queue."""

    def __init__(self, fd=None):
        self.fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK) if fd is None else fd

    def signal(self, count=1):
        os.eventfd_write(self.fd, count)

    def wait(self, timeout=PATIENCE):
        """True once it was signalled; takes the count."""
        poller = select.poll()
        poller.register(self.fd, select.POLLIN)
        if not poller.poll(max(0, int(timeout * 1000))):
            return False
        try:
            os.eventfd_read(self.fd)
        except BlockingIOError:
            pass
        return True

    def count(self):
        try:
            return os.eventfd_read(self.fd)
        except BlockingIOError:
            return 0

    def close(self):
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class Queue:
    """A ring and its three event fds. kick or call may be None: that side polls then."""

    def __init__(self, index, ring, kick=True, call=True):
        self.index = index
        self.ring = ring
        self.kick = EventFd() if kick else None
        self.call = EventFd() if call else None
        self.err = EventFd()

    def notify(self):
        """Publishes what was added and kicks if the device wants it."""
        if self.ring.publish() and self.kick is not None:
            self.kick.signal()

    def wait_used(self, timeout=PATIENCE):
        """What was used, waiting for the call if there is nothing; an empty list after the
        timeout."""
        deadline = time.monotonic() + timeout
        while True:
            done = self.ring.used()
            if done:
                return done
            left = deadline - time.monotonic()
            if left <= 0:
                return []
            if self.call is None:
                time.sleep(0.0005)
            elif not self.ring.arm():
                self.call.wait(left)

    def poll_done(self, request):
        """Until it is used, by looks at the ring alone: for no call."""
        def look():
            for done, _ in self.ring.used():
                done.done = True
            return request.done

        wait_until(look)

    def close(self):
        for event in (self.kick, self.call, self.err):
            if event is not None:
                event.close()


class Frontend:
    """One session. Every state that was agreed is kept, so that tests can look at it and repeat
    it."""

    #: name: (offset, struct code) in the configuration space; a driver's
    CONFIG = {}

    #: makes the memory of a session that is given none
    MEMORY = GuestMemory

    def __init__(self, path=None, wire=None, timeout=PATIENCE, patience=PATIENCE):
        self.wire = wire if wire is not None else Wire.connect_served(path, timeout, patience)
        self.offered = None
        self.features = 0
        self.protocol_offered = None
        self.protocol = 0
        self.mem = None
        self.queues = {}
        self.indirect = False

    @classmethod
    def open(cls, path=None, queues=1, size=128, features=(), packed=False, event_idx=False,
             in_order=False,
             indirect=False, mem=None, wire=None, protocol=None, drop=(), kick=True, call=True,
             log=False, start=0,
             wrap=1, enable=True, inflight=False, regions=None, patience=PATIENCE):
        """Connects, negotiates and starts `queues` rings: what a guest's driver has done when it
        begins to work."""
        session = cls(path, wire, patience=patience)
        try:
            want = set(features)
            for flag, feature in ((packed, F.RING_PACKED), (event_idx, F.EVENT_IDX),
                                  (in_order, F.IN_ORDER),
                                  (indirect, F.INDIRECT_DESC)):
                if flag:
                    want.add(feature)
            session.negotiate(want, protocol, drop)
            session.indirect = indirect
            session.set_mem_table(mem or cls.MEMORY())
            session.inflight = session.get_inflight(queues, size) if inflight else None
            for index in range(queues):
                ring = session.new_ring(size, regions=regions, start=start, wrap=wrap)
                session.start_queue(Queue(index, ring, kick, call), log=log, enable=enable)
            return session
        except BaseException:
            session.close()
            raise

    def new_ring(self, size, start=0, wrap=1, regions=None):
        """A ring as the features that were agreed want it."""
        kind = {"event_idx": self.has(F.EVENT_IDX), "in_order": self.has(F.IN_ORDER),
                "start": start,
                "regions": regions}
        if self.has(F.RING_PACKED):
            return PackedRing(self.mem, size, wrap=wrap, **kind)
        return SplitRing(self.mem, size, **kind)

    # requests in general

    def ask(self, request, payload=b"", fds=(), need_reply=False, timeout=None):
        """A request that has a reply of its own."""
        self.wire.send(request, payload, fds, need_reply)
        return self.wire.recv_reply(request, timeout)

    def ask_u64(self, request, payload=b""):
        return self.ask(request, payload).u64

    def ack(self, request, payload=b"", fds=(), timeout=None):
        """Sends with need_reply; the value of the acknowledgement."""
        self.wire.send(request, payload, fds, need_reply=True)
        reply = self.wire.recv_reply(request, timeout)
        reply.close()
        return reply.u64

    def tell(self, request, payload=b"", fds=()):
        """Sends a request that has to succeed: acknowledged if that was agreed, else known to be
        processed."""
        if self.protocol >> PF.REPLY_ACK & 1:
            value = self.ack(request, payload, fds)
            if value != 0:
                raise Refused("%s was answered with %d" % (Req(request).name, value))
        else:
            self.wire.send(request, payload, fds)

    def alive(self):
        """Asks for something harmless and requires the acknowledgement (REPLY_ACK has to be
        agreed)."""
        value = self.ack(Req.SET_PROTOCOL_FEATURES, p.U64.pack(self.protocol))
        if value != 0:
            raise Refused("the same protocol features were answered with %d" % value)

    def fence(self):
        """Returns when everything sent so far was processed."""
        return self.ask_u64(Req.GET_FEATURES)

    # negotiation

    def negotiate(self, features=(), protocol=None, drop=()):
        """SET_OWNER, features and protocol features.

        `features` must be offered; VERSION_1 comes along. `protocol` is None for everything offered
        that this front end can do, less `drop`; an empty set stands for a front end that knows of
        no protocol features.
        """
        self.offered = self.ask_u64(Req.GET_FEATURES)
        want = p.bits(F.VERSION_1, *features)
        if want & ~self.offered:
            raise Refused("not offered: %s" % p.name_bits(want & ~self.offered, F))
        known = p.bits(PF.MQ, PF.LOG_SHMFD, PF.REPLY_ACK, PF.BACKEND_REQ, PF.CONFIG,
                       PF.INFLIGHT_SHMFD,
                       PF.RESET_DEVICE, PF.CONFIGURE_MEM_SLOTS, PF.STATUS, PF.MTU, PF.RARP)
        if protocol is not None:
            known = p.bits(*protocol)
        if known:
            self.protocol_offered = self.ask_u64(Req.GET_PROTOCOL_FEATURES)
            agreed = known & self.protocol_offered & ~p.bits(*drop)
            self.wire.send(Req.SET_PROTOCOL_FEATURES, p.U64.pack(agreed))
            self.protocol = agreed
            want |= p.bits(F.PROTOCOL_FEATURES)
        self.tell(Req.SET_OWNER)
        self.set_features(want)
        return self

    def set_features(self, features):
        self.tell(Req.SET_FEATURES, p.U64.pack(features))
        self.features = features

    def has(self, feature):
        return bool(self.features >> feature & 1)

    # memory

    def cut(self, blocks, size, pieces=None, align=1):
        """Guest memory for `size` bytes, in one part or in parts of the given sizes: [(gpa,
        length)]. What is to be given back by release() is added to `blocks`."""
        parts = []
        for length in pieces or ([size] if size else []):
            # Rounded up, so that few sizes exist and freed blocks find new use.
            block = -(-length // 64) * 64
            gpa = self.mem.alloc(block, max(align, 16))
            blocks.append((gpa, block, max(align, 16)))
            parts.append((gpa, length))
        return parts

    def set_mem_table(self, mem):
        payload, fds = mem.table()
        self.tell(Req.SET_MEM_TABLE, payload, fds)
        self.mem = mem

    def add_region(self, region):
        self.tell(Req.ADD_MEM_REG, p.U64.pack(0) + region.payload(), [region.fd])

    def remove_region(self, region):
        self.tell(Req.REM_MEM_REG, p.U64.pack(0) + region.payload())

    def set_log(self, log):
        """SET_LOG_BASE; answers in its own way."""
        reply = self.ask(Req.SET_LOG_BASE, log.payload, [log.fd])
        if reply.payload and reply.u64 != 0:
            raise Refused("SET_LOG_BASE was answered with %d" % reply.u64)

    # rings

    def set_vring_num(self, index, num):
        self.tell(Req.SET_VRING_NUM, p.VRING_STATE.pack(index, num))

    def set_vring_base(self, index, base):
        self.tell(Req.SET_VRING_BASE, p.VRING_STATE.pack(index, base))

    def set_vring_addr(self, index, ring, flags=0, log=0):
        desc, used, avail = ring.addresses()
        self.tell(Req.SET_VRING_ADDR, p.VRING_ADDR.pack(index, flags, desc, used, avail, log))

    def _set_vring_fd(self, request, index, event):
        if event is None:
            self.tell(request, p.U64.pack(index | p.NO_FD))
        else:
            self.tell(request, p.U64.pack(index), [event.fd])

    def set_vring_kick(self, index, event):
        self._set_vring_fd(Req.SET_VRING_KICK, index, event)

    def set_vring_call(self, index, event):
        self._set_vring_fd(Req.SET_VRING_CALL, index, event)

    def set_vring_err(self, index, event):
        self._set_vring_fd(Req.SET_VRING_ERR, index, event)

    def set_vring_enable(self, index, enable=True):
        self.tell(Req.SET_VRING_ENABLE, p.VRING_STATE.pack(index, int(enable)))

    def get_vring_base(self, index, timeout=None, request=Req.GET_VRING_BASE):
        reply = self.ask(request, p.VRING_STATE.pack(index, 0), timeout=timeout)
        answered, base = p.VRING_STATE.unpack(reply.payload)
        if answered != index:
            raise Refused("%s of %d was answered for %d" % (request.name, index, answered))
        return base

    def suspend(self, index):
        """Stops a ring without waiting for what is in flight."""
        return self.get_vring_base(index, request=Req.GET_VRING_BASE_SKIP_DRAIN)

    def start_queue(self, queue, base=None, enable=True, log=False):
        """Everything that makes a queue run, in the order QEMU uses."""
        ring, index = queue.ring, queue.index
        self.queues[index] = queue
        self.set_vring_num(index, ring.size)
        self.set_vring_base(index, ring.base if base is None else base)
        self.set_vring_addr(index, ring, p.VRING_F_LOG if log else 0, ring.log_gpa if log else 0)
        self.set_vring_err(index, queue.err)
        self.set_vring_call(index, queue.call)
        self.set_vring_kick(index, queue.kick)
        if enable and self.has(F.PROTOCOL_FEATURES):
            self.set_vring_enable(index)
        return queue

    def stop(self, timeout=None):
        """Stops every queue as a guest that shuts down does; their bases."""
        return {index: self.get_vring_base(index, timeout) for index in sorted(self.queues)}

    # configuration space, status, inflight

    def config(self, name):
        offset, code = self.CONFIG[name]
        size = struct.calcsize(code)
        return struct.unpack("=" + code, self.get_config(offset, size))[0]

    def get_config(self, offset, size, flags=0):
        """The bytes, or None if the back end says (with an empty payload) that it cannot."""
        reply = self.ask(Req.GET_CONFIG, p.CONFIG_HEADER.pack(offset, size, flags) + bytes(size))
        if not reply.payload:
            return None
        got_offset, got_size, _ = p.CONFIG_HEADER.unpack_from(reply.payload)
        if (len(reply.payload) != p.CONFIG_HEADER.size + size
                or (got_offset, got_size) != (offset, size)):
            raise Refused("GET_CONFIG of %d+%d was answered with %d+%d in %d bytes"
                          % (offset, size, got_offset, got_size, len(reply.payload)))
        return reply.payload[p.CONFIG_HEADER.size:]

    def set_config(self, offset, data, flags=p.CONFIG_WRITABLE):
        """The acknowledgement (needs REPLY_ACK)."""
        return self.ack(Req.SET_CONFIG, p.CONFIG_HEADER.pack(offset, len(data), flags) + data)

    def get_status(self):
        return self.ask_u64(Req.GET_STATUS)

    def set_status(self, status):
        self.tell(Req.SET_STATUS, p.U64.pack(status))

    def get_inflight(self, queues, queue_size):
        """The region that the back end made; its fd is ours now."""
        from .inflight import Inflight
        reply = self.ask(Req.GET_INFLIGHT_FD, p.INFLIGHT.pack(0, 0, queues, queue_size))
        if len(reply.fds) != 1:
            reply.close()
            raise Refused("GET_INFLIGHT_FD was answered with %d fds" % len(reply.fds))
        return Inflight(reply.payload, reply.fds[0], self.has(F.RING_PACKED))

    def set_inflight(self, region):
        self.tell(Req.SET_INFLIGHT_FD, region.payload, [region.fd])

    def close(self):
        """Hangs up, without stopping anything first."""
        self.wire.close()
        for queue in self.queues.values():
            queue.close()
        self.queues = {}
        if self.mem is not None:
            self.mem.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def vring_addr(index, desc, used, avail, flags=0, log=0):
    """A SET_VRING_ADDR payload from bare numbers."""
    return p.VRING_ADDR.pack(index, flags, desc, used, avail, log)


def pattern(seed, size):
    """Bytes that tell where they belong: every 8 hold the seed and their own position."""
    count = -(-size // 8)
    while len(_positions) < count:
        _positions.extend(range(len(_positions), max(2 * len(_positions), count)))
    words = array.array("I", (seed & 0xffffffff,)) * (2 * count)
    words[1::2] = _positions[:count]
    return words.tobytes()[:size]


_positions = array.array("I")           # 0, 1, 2, ... as far as any pattern has needed them
