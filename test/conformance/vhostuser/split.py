# SPDX-License-Identifier: BSD-3-Clause
"""A split virtqueue, driver side (VIRTIO 1.2, section 2.7). Used by frontend.py; packed.py is its
twin."""

from . import memory
from .ring import DESC_INDIRECT, DESC_NEXT, DESC_WRITE, Chain, Ring, RingError

AVAIL_NO_INTERRUPT = 1
USED_NO_NOTIFY = 1


class SplitRing(Ring):
    """`start` is the index both rings begin at; `regions` may put the three parts into different
    regions."""

    def __init__(self, mem, size, event_idx=False, in_order=False, region=None, start=0,
                 regions=None):
        super().__init__(mem, size, event_idx, in_order, region)
        regions = regions or (region, region, region)
        self.desc_gpa = mem.alloc(16 * size, 4096, regions[0])
        self.avail_gpa = mem.alloc(6 + 2 * size, 4096, regions[1])
        self.used_gpa = mem.alloc(6 + 8 * size, 4096, regions[2])
        self.used_bytes = 6 + 8 * size
        self.start = start
        self.map()
        for view in (self.desc, self.avail, self.used16):
            for i in range(len(view)):
                view[i] = 0
        self.avail[1] = start & 0xffff
        self.used16[1] = start & 0xffff
        self.next_avail = start & 0xffff
        self.shown = start & 0xffff     # available index that the device can see
        self.next_used = start & 0xffff
        self.free = list(range(size - 1, -1, -1))
        self.next_free = 0

    def parts(self):
        """Bytes of each part, by the name of its guest address."""
        return {"desc_gpa": 16 * self.size, "avail_gpa": 6 + 2 * self.size,
                "used_gpa": self.used_bytes}

    def map(self):
        """Makes the views of the parts, where these are now."""
        mem, size = self.mem, self.size
        self.desc = mem.view(self.desc_gpa, 16 * size, "Q")
        self.avail = mem.view(self.avail_gpa, 6 + 2 * size, "H")
        self.used16 = mem.view(self.used_gpa, 6 + 8 * size, "H")
        self.used32 = mem.view(self.used_gpa + 4, 8 * size, "I")

    def addresses(self):
        """User addresses of descriptor table, used ring and available ring."""
        return tuple(map(self.mem.uva, (self.desc_gpa, self.used_gpa, self.avail_gpa)))

    @property
    def base(self):
        """SET_VRING_BASE of a ring that is started (again) with nothing lost: the used index."""
        return self.used16[1]

    @property
    def log_gpa(self):
        return self.used_gpa

    # raw access, for hostile tests

    def set_desc(self, i, addr, length, flags=0, next_=0):
        self.desc[2 * i] = addr
        self.desc[2 * i + 1] = length | flags << 32 | next_ << 48

    def push(self, head, publish=True):
        """Puts a head index into the available ring, known or not."""
        self.avail[2 + self.next_avail % self.size] = head
        self.next_avail = (self.next_avail + 1) & 0xffff
        if publish:
            self.publish()

    def set_avail_idx(self, value):
        self.avail[1] = value & 0xffff
        memory.memory_barrier()

    # the driver

    def _indirect_word(self, i, count, length, write):
        flags, next_ = (0, 0) if i == count - 1 else (DESC_NEXT, i + 1)
        return length | (flags | (DESC_WRITE if write else 0)) << 32 | next_ << 48

    def _take(self, count):
        if len(self.free) < count:
            raise IndexError("ring full")
        if not self.in_order:
            return [self.free.pop() for _ in range(count)]
        taken = [(self.next_free + i) % self.size for i in range(count)]
        self.next_free = (self.next_free + count) % self.size
        del self.free[-count:]          # only the number counts
        return taken

    def _put(self, chain, cookie, table, writable):
        slots = self._take(len(chain))
        for i, (addr, length, write) in enumerate(chain):
            flags = DESC_WRITE if write else 0
            if table is not None:
                flags = DESC_INDIRECT
            next_ = 0
            if i < len(chain) - 1:
                flags |= DESC_NEXT
                next_ = slots[i + 1]
            self.set_desc(slots[i], addr, length, flags, next_)
        entry = Chain(cookie, slots[0], slots, table, writable)
        self.avail[2 + self.next_avail % self.size] = slots[0]
        self.next_avail = (self.next_avail + 1) & 0xffff
        return entry

    def show(self):
        """Shows the device what was added, without a look at whether it wants a kick."""
        self.avail[1] = self.next_avail
        self.shown = self.next_avail
        self.pending = 0
        memory.memory_barrier()

    def publish(self):
        """Shows the device what was added. True if it wants a kick for that."""
        old, new = self.shown, self.next_avail
        self.show()
        if self.event_idx:
            event = self.used16[2 + 4 * self.size]
            return (new - event - 1) & 0xffff < (new - old) & 0xffff
        return not self.used16[0] & USED_NO_NOTIFY

    def used(self):
        """What the device has used since the last call: (cookie, length) in ring order."""
        done = []
        while self.next_used != self.used16[1]:
            if (self.used16[1] - self.next_used) & 0xffff > self.size:
                raise RingError("used index jumped to %d" % self.used16[1])
            at = self.next_used % self.size
            finished = self._finish(self.used32[2 * at], self.used32[2 * at + 1])
            for entry, length in finished:
                self.free.extend(reversed(entry.slots))
                done.append((entry.cookie, length))
            self.next_used = (self.next_used + len(finished)) & 0xffff
        return done

    def arm(self):
        """Asks for a call at the next used buffer; True if there is one already."""
        if self.event_idx:
            self.avail[2 + self.size] = self.next_used
        else:
            self.avail[0] = 0
        memory.memory_barrier()
        return self.next_used != self.used16[1]

    def disarm(self):
        """Asks for no calls (a hint only)."""
        if self.event_idx:
            self.avail[2 + self.size] = (self.next_used - 1) & 0xffff
        else:
            self.avail[0] = AVAIL_NO_INTERRUPT
