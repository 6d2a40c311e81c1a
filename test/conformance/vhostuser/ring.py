# SPDX-License-Identifier: BSD-3-Clause
"""What both ring formats share, seen as the driver: chains, indirect tables, who is outstanding.

A chain is a list of (guest address, length, writable). The formats are in split.py and packed.py.
"""

DESC_NEXT = 1
DESC_WRITE = 2
DESC_INDIRECT = 4


class RingError(Exception):
    """The device broke the rules of the ring."""


class Chain:
    """One chain that the device owns: what it is for, and what to give back when it is used."""

    __slots__ = ("cookie", "head", "slots", "table", "writable")

    def __init__(self, cookie, head, slots, table, writable):
        self.cookie = cookie
        self.head = head                # split: head descriptor; packed: buffer id
        self.slots = slots              # the descriptors of the ring that it takes
        self.table = table              # (guest address, bytes) of an indirect table, or None
        self.writable = writable        # bytes that the device may write


class Ring:
    """Common part of both formats: Packed and Split give _put() and used()."""

    packed = False

    def __init__(self, mem, size, event_idx=False, in_order=False, region=None):
        self.mem = mem
        self.size = size
        self.event_idx = event_idx
        self.in_order = in_order
        self.region = region
        self.pending = 0                # chains put but not yet published
        self.outstanding = {}           # by head or buffer id, in the order of submission

    def add(self, chain, cookie=None, indirect=False):
        """Puts a chain into the ring without showing it to the device yet; IndexError if there is
        no room."""
        writable = sum(length for _, length, write in chain if write)
        if not indirect:
            entry = self._put(chain, cookie, None, writable)
        else:
            bytes_ = 16 * len(chain)
            gpa = self.mem.alloc(bytes_, 16)
            table = self.mem.view(gpa, bytes_, "Q")
            for i, (addr, length, write) in enumerate(chain):
                table[2 * i] = addr
                table[2 * i + 1] = self._indirect_word(i, len(chain), length, write)
            entry = self._put([(gpa, bytes_, None)], cookie, (gpa, bytes_), writable)
        self.outstanding[entry.head] = entry
        self.pending += 1
        return entry

    def _finish(self, head, length):
        """The device says that `head` is used: gives its chain back, also those an in-order device
        left out."""
        if head not in self.outstanding:
            raise RingError("%d is used but was not outstanding" % head)
        done = []
        if self.in_order:
            for key in list(self.outstanding):
                entry = self.outstanding.pop(key)
                done.append((entry, length if key == head else entry.writable))
                if key == head:
                    break
        else:
            done.append((self.outstanding.pop(head), length))
        for entry, _ in done:
            if entry.table is not None:
                self.mem.free(*entry.table)
        return done
