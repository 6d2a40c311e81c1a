# SPDX-License-Identifier: BSD-3-Clause
"""The inflight region, in the layout that the specification publishes ("Inflight I/O tracking").

The tests read what a back end left in it, and write what a crashed one could have left. frontend.py
passes it on.
"""

import mmap
import os
import struct

from . import protocol as p

# features, version, desc_num, last_batch_head, used_idx
SPLIT_HEADER = struct.Struct("=QHHHH")
# inflight, next, counter
SPLIT_DESC = struct.Struct("=B5xHQ")
# features, version, desc_num, and old and new of free head, used index and wrap counter
PACKED_HEADER = struct.Struct("=QHHHHHHBB10x")
# inflight, next, last, num, counter, id, flags, len, addr
PACKED_DESC = struct.Struct("=BxHHHQHHIQ")
ALIGNMENT = 64


class SplitDesc:
    def __init__(self, fields):
        self.inflight, self.next, self.counter = fields


class PackedDesc:
    def __init__(self, fields):
        (self.inflight, self.next, self.last, self.num, self.counter, self.id, self.flags, self.len,
         self.addr) = fields


class Inflight:
    """The region as GET_INFLIGHT_FD answered it; owns the fd."""

    def __init__(self, payload, fd, packed=False):
        (self.mmap_size, self.mmap_offset, self.queues,
         self.queue_size) = p.INFLIGHT.unpack_from(payload)
        self.fd = fd
        self.packed = packed
        self.header = PACKED_HEADER if packed else SPLIT_HEADER
        self.desc = PACKED_DESC if packed else SPLIT_DESC
        page = self.mmap_offset % mmap.PAGESIZE
        self.map = memoryview(mmap.mmap(fd, self.mmap_size + page, offset=self.mmap_offset
                                        - page))[page:]

    @classmethod
    def create(cls, queues, queue_size, packed=False, payload=None):
        """A zeroed region of the front end's own making, as after a migration of the front end."""
        header, desc = (PACKED_HEADER, PACKED_DESC) if packed else (SPLIT_HEADER, SPLIT_DESC)
        stride = -(-(header.size + desc.size * queue_size) // ALIGNMENT) * ALIGNMENT
        fd = os.memfd_create("fe-inflight", os.MFD_CLOEXEC)
        os.ftruncate(fd, stride * queues)
        return cls(payload or p.INFLIGHT.pack(stride * queues, 0, queues, queue_size), fd, packed)

    @property
    def payload(self):
        return p.INFLIGHT.pack(self.mmap_size, self.mmap_offset, self.queues, self.queue_size)

    def _queue(self, queue):
        stride = -(-(self.header.size + self.desc.size * self.queue_size) // ALIGNMENT) * ALIGNMENT
        return queue * stride

    @property
    def rings(self):
        """The parts of the rings. A back end may have something of its own behind them."""
        return self.map[:self._queue(self.queues)]

    @property
    def behind(self):
        return self.map[self._queue(self.queues):]

    def read_header(self, queue):
        return self.header.unpack_from(self.map, self._queue(queue))

    def write_header(self, queue, *fields):
        self.header.pack_into(self.map, self._queue(queue), *fields)

    def read_desc(self, queue, i):
        fields = self.desc.unpack_from(self.map, self._queue(queue) + self.header.size
                                       + self.desc.size * i)
        return PackedDesc(fields) if self.packed else SplitDesc(fields)

    def write_desc(self, queue, i, *fields):
        self.desc.pack_into(self.map, self._queue(queue) + self.header.size + self.desc.size * i,
                            *fields)

    def inflight(self, queue):
        """Indexes of the entries marked in flight, in the order of their counters."""
        marked = [(self.read_desc(queue, i).counter, i) for i in range(self.queue_size)
                  if self.read_desc(queue, i).inflight]
        return [i for _, i in sorted(marked)]

    def close(self):
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
        self.map = None
