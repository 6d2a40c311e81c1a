# SPDX-License-Identifier: BSD-3-Clause
"""A virtio-blk driver (VIRTIO 1.2, section 5.2): requests of any shape, and the plain calls most
tests need.

Sits on frontend.py. The load generator in load.py uses the same rings.
"""

import struct
import time

from . import protocol as p
from .frontend import Frontend, Queue
from .memory import GuestMemory
from .packed import PackedRing
from .protocol import F
from .split import SplitRing

SECTOR = 512
T_IN = 0
T_OUT = 1
T_FLUSH = 4
T_GET_ID = 8
T_DISCARD = 11
T_WRITE_ZEROES = 13
T_SECURE_ERASE = 14

S_OK = 0
S_IOERR = 1
S_UNSUPP = 2
PENDING = 0xee                          # what the status byte holds before the device writes it

HEADER = struct.Struct("=IIQ")          # type, reserved, sector

#: name: (offset, struct code) in the configuration space
CONFIG = {
    "capacity": (0, "Q"), "size_max": (8, "I"), "seg_max": (12, "I"), "blk_size": (20, "I"),
    "physical_block_exp": (24, "B"), "alignment_offset": (25, "B"), "min_io_size": (26, "H"),
    "opt_io_size": (28, "I"),
    "writeback": (32, "B"), "num_queues": (34, "H"),
}


class IoError(Exception):
    """A request ended with another status than OK, or not in time."""


class Request:
    """One request in guest memory. `length` is what the used ring said."""

    def __init__(self, disk, header, data, status):
        self.disk = disk
        self.header = header            # [(gpa, length)]
        self.data = data                # [(gpa, length)]
        self.status_gpa = status
        self.done = False
        self.length = None
        self.blocks = []                # to give back: (gpa, size, align, region)

    @property
    def status(self):
        return self.disk.mem.read(self.status_gpa, 1)[0]

    def payload(self):
        return b"".join(self.disk.mem.read(gpa, length) for gpa, length in self.data)


class BlkDisk(Frontend):
    """A session with a block device whose queues run."""

    def __init__(self, path=None, wire=None, timeout=5.0, patience=5.0):
        super().__init__(path, wire, timeout, patience)
        self.indirect = False

    @classmethod
    def open(cls, path=None, queues=1, size=128, features=(), packed=False, event_idx=False,
             in_order=False,
             indirect=False, mem=None, wire=None, protocol=None, drop=(), kick=True, call=True,
             log=False, start=0,
             wrap=1, enable=True, inflight=False, regions=None, patience=5.0):
        """Connects, negotiates and starts: what a guest's driver has done when it mounts its root
        file system."""
        disk = cls(path, wire, patience=patience)
        try:
            want = set(features)
            for flag, feature in ((packed, F.RING_PACKED), (event_idx, F.EVENT_IDX),
                                  (in_order, F.IN_ORDER),
                                  (indirect, F.INDIRECT_DESC)):
                if flag:
                    want.add(feature)
            disk.negotiate(want, protocol, drop)
            disk.indirect = indirect
            disk.set_mem_table(mem or GuestMemory())
            disk.inflight = disk.get_inflight(queues, size) if inflight else None
            for index in range(queues):
                ring = disk.new_ring(size, regions=regions, start=start, wrap=wrap)
                disk.start_queue(Queue(index, ring, kick, call), log=log, enable=enable)
            return disk
        except BaseException:
            disk.close()
            raise

    def new_ring(self, size, start=0, wrap=1, regions=None):
        """A ring as the features that were agreed want it."""
        kind = {"event_idx": self.has(F.EVENT_IDX), "in_order": self.has(F.IN_ORDER),
                "start": start,
                "regions": regions}
        if self.has(F.RING_PACKED):
            return PackedRing(self.mem, size, wrap=wrap, **kind)
        return SplitRing(self.mem, size, **kind)

    def config(self, name):
        offset, code = CONFIG[name]
        size = struct.calcsize(code)
        return struct.unpack("=" + code, self.get_config(offset, size))[0]

    @property
    def capacity(self):
        """In sectors."""
        return self.config("capacity")

    # requests

    def _cut(self, request, size, pieces, align=1):
        """Allocates `size` bytes in one block or in blocks of the given sizes."""
        parts = []
        for length in pieces or ([size] if size else []):
            # Rounded up, so that few sizes exist and freed blocks find new use.
            block = -(-length // 64) * 64
            gpa = self.mem.alloc(block, max(align, 16))
            request.blocks.append((gpa, block, max(align, 16)))
            parts.append((gpa, length))
        return parts

    def prepare(self, kind, sector=0, out=b"", in_bytes=0, pieces=None, header_pieces=None,
                align=16, header=None):
        """A request in guest memory, not yet in a ring. `pieces` are sizes of data segments,
        header_pieces of header ones."""
        request = Request(self, [], [], 0)
        request.header = self._cut(request, HEADER.size, header_pieces)
        at, raw = 0, header if header is not None else HEADER.pack(kind, 0, sector)
        for gpa, length in request.header:
            self.mem.write(gpa, raw[at:at + length])
            at += length
        request.data = self._cut(request, len(out) or in_bytes, pieces, align)
        if out:
            at = 0
            for gpa, length in request.data:
                self.mem.write(gpa, out[at:at + length])
                at += length
        ((request.status_gpa, _),) = self._cut(request, 1, None)
        self.mem.write(request.status_gpa, bytes((PENDING,)))
        request.writes = not out
        return request

    def chain(self, request):
        """The descriptors of a request: header, data, status."""
        return ([(gpa, length, False) for gpa, length in request.header]
                + [(gpa, length, request.writes) for gpa, length in request.data]
                + [(request.status_gpa, 1, True)])

    def submit(self, requests, queue=0, notify=True, indirect=None):
        """Puts prepared requests into the ring, published together."""
        q = self.queues[queue]
        for request in requests:
            q.ring.add(self.chain(request), request, self.indirect if indirect is None
                       else indirect)
        if notify:
            q.notify()
        return requests

    def reap(self, queue=0, timeout=5.0):
        """The requests used next, marked done."""
        done = []
        for request, length in self.queues[queue].wait_used(timeout):
            if request.done:
                raise IoError("a request was completed twice")
            request.done = True
            request.length = length
            done.append(request)
        return done

    def wait(self, requests, queue=0, timeout=5.0):
        """Waits for these requests; IoError if one does not come back in time."""
        deadline = time.monotonic() + timeout
        while not all(request.done for request in requests):
            if not self.reap(queue, max(0.0, deadline
                                        - time.monotonic())) and time.monotonic() >= deadline:
                left = sum(not request.done for request in requests)
                raise IoError("%d of %d requests never came back" % (left, len(requests)))
        return requests

    def release(self, request):
        """Gives the guest memory of a completed request back."""
        for block in request.blocks:
            self.mem.free(*block)
        request.blocks = []

    def run(self, kind, sector=0, out=b"", in_bytes=0, queue=0, timeout=5.0, indirect=None,
            **shape):
        """One request from start to end; (status, data, length)."""
        request = self.prepare(kind, sector, out, in_bytes, **shape)
        self.submit([request], queue, indirect=indirect)
        self.wait([request], queue, timeout)
        result = request.status, request.payload() if in_bytes else b"", request.length
        self.release(request)
        return result

    def _check(self, what, status):
        if status != S_OK:
            raise IoError("%s ended with status %d" % (what, status))

    def read(self, sector, size, queue=0, **shape):
        status, data, length = self.run(T_IN, sector, in_bytes=size, queue=queue, **shape)
        self._check("read of sector %d" % sector, status)
        if length != size + 1:
            raise IoError("read of %d bytes used %d" % (size, length))
        return data

    def write(self, sector, data, queue=0, **shape):
        status, _, length = self.run(T_OUT, sector, out=data, queue=queue, **shape)
        self._check("write of sector %d" % sector, status)
        if length != 1:
            raise IoError("write used %d bytes" % length)

    def flush(self, queue=0):
        status, _, _ = self.run(T_FLUSH, queue=queue)
        self._check("flush", status)

    def get_id(self, queue=0):
        status, data, _ = self.run(T_GET_ID, in_bytes=20, queue=queue)
        self._check("get id", status)
        return data

    def stop(self, timeout=None):
        """Stops every queue as a guest that shuts down does; their bases."""
        return {index: self.get_vring_base(index, timeout) for index in sorted(self.queues)}
