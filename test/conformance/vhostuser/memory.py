# SPDX-License-Identifier: BSD-3-Clause
"""Guest memory: several shared memory files, each with a guest and a (made up) user address.

User addresses are not those of this process: a back end must translate them through the memory
table and through nothing else. Used by the rings and the drivers; split.py and packed.py come next.
"""

import mmap
import os
import threading

from . import protocol as p

PAGE = 4096

_lock = threading.Lock()


def memory_barrier():
    """A full barrier: taking a lock is a locked instruction."""
    with _lock:
        pass


class Region:
    """One memory region: a file of its own (or a given fd), mapped here as well."""

    def __init__(self, gpa, size, uva, mmap_offset=0, fd=None, name="fe-ram"):
        self.gpa = gpa
        self.size = size
        self.uva = uva
        self.mmap_offset = mmap_offset
        self.fd = os.memfd_create(name, os.MFD_CLOEXEC) if fd is None else os.dup(fd)
        if fd is None:
            os.ftruncate(self.fd, mmap_offset + size)
        self.map = mmap.mmap(self.fd, size, offset=mmap_offset)
        self.view = memoryview(self.map)
        self.next_free = gpa

    @property
    def end(self):
        return self.gpa + self.size

    def allocate(self):
        """Has the file hold all of its pages, as a front end does that preallocates."""
        os.posix_fallocate(self.fd, 0, self.mmap_offset + self.size)
        return self

    def punch(self):
        """Takes the region's pages out of the file, which stays as long."""
        self.map.madvise(mmap.MADV_REMOVE)

    def payload(self):
        """The region as SET_MEM_TABLE and the memory slot requests describe it."""
        return p.REGION.pack(self.gpa, self.size, self.uva, self.mmap_offset)

    def truncate(self, size=0):
        """Cuts the file: touching the lost pages kills this process as it would the back end. The
        views are dropped."""
        os.ftruncate(self.fd, size)

    def close(self):
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
        # Rings and drivers may still hold views: the mapping goes with the last of them.
        self.view = None
        self.map = None


#: Three regions with a hole between each two and with user addresses in another order than the
#: guest addresses.
DEFAULT_LAYOUT = (
    (0x0000_0000, 4 << 20, 0x7e30_0000_0000, 0),
    (0x4000_0000, 8 << 20, 0x7e10_0000_0000, 0x10000),
    (0x1_0000_0000, 4 << 20, 0x7e20_0000_0000, 0),
)


class GuestMemory:
    """A set of regions with a bump allocator; freed blocks are kept by size."""

    def __init__(self, layout=DEFAULT_LAYOUT):
        self.regions = [Region(*entry) for entry in layout]
        self._freed = {}

    def allocate(self):
        for region in self.regions:
            region.allocate()
        return self

    def find(self, gpa, size=1):
        for region in self.regions:
            if region.gpa <= gpa and gpa + size <= region.end:
                return region
        raise ValueError("%#x+%#x is not in guest memory" % (gpa, size))

    def uva(self, gpa):
        region = self.find(gpa)
        return region.uva + gpa - region.gpa

    def alloc(self, size, align=16, region=None):
        """Guest address of a free block; in the region with the most space unless one is named."""
        freed = self._freed.get((size, align, region))
        if freed:
            return freed.pop()
        if region is None:
            chosen = max(self.regions, key=lambda r: r.end - r.next_free)
        else:
            chosen = self.regions[region]
        gpa = (chosen.next_free + align - 1) & ~(align - 1)
        if gpa + size > chosen.end:
            raise MemoryError("region at %#x is full" % chosen.gpa)
        chosen.next_free = gpa + size
        return gpa

    def free(self, gpa, size, align=16, region=None):
        self._freed.setdefault((size, align, region), []).append(gpa)

    def view(self, gpa, size, kind="B"):
        """A view of guest memory in elements of `kind` (B, H, I, Q); one element is read or written
        at once."""
        region = self.find(gpa, size)
        start = gpa - region.gpa
        return region.view[start:start + size].cast(kind)

    def read(self, gpa, size):
        region = self.find(gpa, size)
        return bytes(region.view[gpa - region.gpa:gpa - region.gpa + size])

    def write(self, gpa, data):
        region = self.find(gpa, len(data))
        region.view[gpa - region.gpa:gpa - region.gpa + len(data)] = data

    def scatter(self, parts, data):
        """Writes `data` into parts: [(gpa, length)], filled one after the other."""
        at = 0
        for gpa, length in parts:
            self.write(gpa, data[at:at + length])
            at += length

    def gather(self, parts):
        return b"".join(self.read(gpa, length) for gpa, length in parts)

    def fill(self, gpa, size, byte):
        self.write(gpa, bytes((byte,)) * size)

    def table(self):
        """Payload and fds of SET_MEM_TABLE."""
        payload = p.MEM_HEADER.pack(len(self.regions), 0)
        payload += b"".join(region.payload() for region in self.regions)
        return payload, [r.fd for r in self.regions]

    @property
    def max_gpa(self):
        return max(r.end for r in self.regions)

    def close(self):
        for region in self.regions:
            region.close()


def bad_places(mem):
    """(gpa, length) that are not wholly in guest memory, or not in one piece of it."""
    region, top = mem.regions[1], 1 << 64
    return {
        "nowhere": (0xdead_0000_0000, 512),
        "in a hole": (region.end + 4096, 512),
        "over the end": (region.end - 256, 512),
        "from before": (region.gpa - 256, 512),
        "over everything": (region.gpa, 0xffffffff),
        "over two regions and the hole between": (mem.regions[0].gpa, 0x4000_1000),
        "overflow": (top - 256, 512),
        "the top": (top - 1, 2),
        "user address": (region.uva, 512),
    }
