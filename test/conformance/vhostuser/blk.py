# SPDX-License-Identifier: BSD-3-Clause
"""A virtio-blk driver (VIRTIO 1.2, section 5.2): requests of any shape, and the plain calls most
tests need.

Sits on frontend.py. The load generator in load.py uses the same rings.
"""

import struct
import time

from .frontend import Frontend
from .wire import PATIENCE

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
RANGE = struct.Struct("=QII")           # sector, number of sectors, flags
UNMAP = 1

#: name: (offset, struct code) in the configuration space
CONFIG = {
    "capacity": (0, "Q"), "size_max": (8, "I"), "seg_max": (12, "I"), "blk_size": (20, "I"),
    "physical_block_exp": (24, "B"), "alignment_offset": (25, "B"), "min_io_size": (26, "H"),
    "opt_io_size": (28, "I"),
    "writeback": (32, "B"), "num_queues": (34, "H"),
    "max_discard_sectors": (36, "I"), "max_discard_seg": (40, "I"),
    "discard_sector_alignment": (44, "I"),
    "max_write_zeroes_sectors": (48, "I"), "max_write_zeroes_seg": (52, "I"),
    "write_zeroes_may_unmap": (56, "B"),
    "max_secure_erase_sectors": (60, "I"), "max_secure_erase_seg": (64, "I"),
    "secure_erase_sector_alignment": (68, "I"),
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
        return self.disk.mem.gather(self.data)


class BlkDisk(Frontend):
    """A session with a block device whose queues run."""

    CONFIG = CONFIG

    @property
    def capacity(self):
        """In sectors."""
        return self.config("capacity")

    # requests

    def prepare(self, kind, sector=0, out=b"", in_bytes=0, pieces=None, header_pieces=None,
                align=16, header=None):
        """A request in guest memory, not yet in a ring. `pieces` are sizes of data segments,
        header_pieces of header ones."""
        request = Request(self, [], [], 0)
        request.header = self.cut(request.blocks, HEADER.size, header_pieces)
        self.mem.scatter(request.header,
                         header if header is not None else HEADER.pack(kind, 0, sector))
        request.data = self.cut(request.blocks, len(out) or in_bytes, pieces, align)
        if out:
            self.mem.scatter(request.data, out)
        ((request.status_gpa, _),) = self.cut(request.blocks, 1)
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

    def reap(self, queue=0, timeout=PATIENCE):
        """The requests used next, marked done."""
        done = []
        for request, length in self.queues[queue].wait_used(timeout):
            if request.done:
                raise IoError("a request was completed twice")
            request.done = True
            request.length = length
            done.append(request)
        return done

    def wait(self, requests, queue=0, timeout=PATIENCE):
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

    def run(self, kind, sector=0, out=b"", in_bytes=0, queue=0, timeout=PATIENCE, indirect=None,
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

    def ranges(self, kind, ranges, flags=0, queue=0, **shape):
        """DISCARD and the like on [(sector, number of sectors)]; the status."""
        out = b"".join(RANGE.pack(sector, count, flags) for sector, count in ranges)
        return self.run(kind, out=out, queue=queue, **shape)[0]

    def get_id(self, queue=0):
        status, data, _ = self.run(T_GET_ID, in_bytes=20, queue=queue)
        self._check("get id", status)
        return data
