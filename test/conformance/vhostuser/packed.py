# SPDX-License-Identifier: BSD-3-Clause
"""A packed virtqueue, driver side (VIRTIO 1.2, section 2.8). Used by frontend.py; split.py is its
twin."""

from . import memory
from .ring import DESC_INDIRECT, DESC_NEXT, DESC_WRITE, Chain, Ring, RingError

DESC_AVAIL = 1 << 7
DESC_USED = 1 << 15
EVENT_ENABLE = 0
EVENT_DISABLE = 1
EVENT_DESC = 2


class PackedRing(Ring):
    """`start` and `wrap` are where both sides begin."""

    packed = True

    def __init__(self, mem, size, event_idx=False, in_order=False, region=None, start=0, wrap=1,
                 regions=None):
        super().__init__(mem, size, event_idx, in_order, region)
        regions = regions or (region, region, region)
        self.desc_gpa = mem.alloc(16 * size, 4096, regions[0])
        self.driver_gpa = mem.alloc(4, 4096, regions[1])
        self.device_gpa = mem.alloc(4, 4096, regions[2])
        self.used_bytes = 16 * size
        self.map()
        self.next_avail = start
        self.avail_wrap = wrap
        self.next_used = start
        self.used_wrap = wrap
        self.room = size
        self.ids = list(range(size - 1, -1, -1))
        self.unshown = None             # (slot, word) of the first head that publish() will show
        self.shown = start | wrap << 15
        for i in range(size):
            # In the wrap the ring starts in, slots before `start` look as a device left them, the
            # others as never used.
            self.desc[2 * i] = 0
            self.desc[2 * i + 1] = self._flags_used(wrap if i < start else wrap ^ 1) << 48
        self.driver[0] = 0
        self.driver[1] = EVENT_ENABLE
        self.device[0] = 0
        self.device[1] = EVENT_ENABLE

    @staticmethod
    def _flags_used(wrap):
        return DESC_AVAIL | DESC_USED if wrap else 0

    @staticmethod
    def flags_avail(wrap):
        return DESC_AVAIL if wrap else DESC_USED

    def parts(self):
        """Bytes of each part, by the name of its guest address."""
        return {"desc_gpa": 16 * self.size, "driver_gpa": 4, "device_gpa": 4}

    def map(self):
        """Makes the views of the parts, where these are now."""
        self.desc = self.mem.view(self.desc_gpa, 16 * self.size, "Q")
        self.driver = self.mem.view(self.driver_gpa, 4, "H")
        self.device = self.mem.view(self.device_gpa, 4, "H")

    def addresses(self):
        """User addresses of descriptor ring, device area ("used") and driver area ("available")."""
        return tuple(map(self.mem.uva, (self.desc_gpa, self.device_gpa, self.driver_gpa)))

    @property
    def base(self):
        """SET_VRING_BASE of a ring in which the device has nothing in flight."""
        position = self.next_used | self.used_wrap << 15
        return position | position << 16

    @property
    def log_gpa(self):
        return self.desc_gpa

    def set_desc(self, i, addr, length, buffer_id=0, flags=0):
        """One descriptor as it stands, flags included: for hostile tests."""
        self.desc[2 * i] = addr
        self.desc[2 * i + 1] = length | buffer_id << 32 | flags << 48

    def _indirect_word(self, i, count, length, write):
        return length | (DESC_WRITE if write else 0) << 48

    def _put(self, chain, cookie, table, writable):
        if self.room < len(chain) or not self.ids:
            raise IndexError("ring full")
        buffer_id = self.ids.pop(0) if self.in_order else self.ids.pop()
        slots, head_word = [], None
        for i, (addr, length, write) in enumerate(chain):
            flags = self.flags_avail(self.avail_wrap)
            flags |= DESC_INDIRECT if table is not None else DESC_WRITE if write else 0
            flags |= DESC_NEXT if i < len(chain) - 1 else 0
            slot = self.next_avail
            slots.append(slot)
            word = length | buffer_id << 32 | flags << 48
            self.desc[2 * slot] = addr
            if i == 0:
                head_word = word
            else:
                self.desc[2 * slot + 1] = word
            self.next_avail += 1
            if self.next_avail == self.size:
                self.next_avail = 0
                self.avail_wrap ^= 1
        self.room -= len(chain)
        # Heads behind the first unshown one may be written at once: the device stops at the first.
        if self.unshown is None:
            self.unshown = (slots[0], head_word)
        else:
            self.desc[2 * slots[0] + 1] = head_word
        return Chain(cookie, buffer_id, slots, table, writable)

    def show(self):
        """Shows the device what was added, without a look at whether it wants a kick."""
        self.shown = self.next_avail | self.avail_wrap << 15
        if self.unshown is not None:
            memory.memory_barrier()
            slot, word = self.unshown
            self.desc[2 * slot + 1] = word
            self.unshown = None
        self.pending = 0
        memory.memory_barrier()

    def publish(self):
        """Shows the device what was added. True if it wants a kick for that."""
        old = self.shown
        self.show()
        off_wrap, flags = self.device[0], self.device[1]
        if flags != EVENT_DESC:
            return flags != EVENT_DISABLE
        new = self._linear(self.shown)
        event = self._linear(off_wrap)
        previous = self._linear(old)
        if new <= previous:
            new += 2 * self.size
        if event < previous:
            event += 2 * self.size
        return previous <= event < new

    def _linear(self, off_wrap):
        """Position in two rounds of the ring: those of wrap counter 1 come first."""
        return (off_wrap & 0x7fff) + (0 if off_wrap >> 15 else self.size)

    def _is_used(self):
        flags = self.desc[2 * self.next_used + 1] >> 48
        return bool(flags & DESC_AVAIL) == bool(flags & DESC_USED) == bool(self.used_wrap)

    def used(self):
        """What the device has used since the last call: (cookie, length) in ring order."""
        done = []
        while self._is_used():
            word = self.desc[2 * self.next_used + 1]
            buffer_id, length = word >> 32 & 0xffff, word & 0xffffffff
            for entry, length_ in self._finish(buffer_id, length):
                self.ids.append(entry.head)
                self.room += len(entry.slots)
                self.next_used += len(entry.slots)
                if self.next_used >= self.size:
                    self.next_used -= self.size
                    self.used_wrap ^= 1
                done.append((entry.cookie, length_))
            if self.room > self.size:
                raise RingError("more used than was available")
        return done

    def arm(self):
        """Asks for a call at the next used buffer; True if there is one already."""
        if self.event_idx:
            self.driver[0] = self.next_used | self.used_wrap << 15
            self.driver[1] = EVENT_DESC
        else:
            self.driver[1] = EVENT_ENABLE
        memory.memory_barrier()
        return self._is_used()

    def disarm(self):
        """Asks for no calls (a hint only)."""
        self.driver[1] = EVENT_DISABLE
