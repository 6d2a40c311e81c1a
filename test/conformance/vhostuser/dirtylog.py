# SPDX-License-Identifier: BSD-3-Clause
"""The dirty page log of a migration, in a file of its own. Set with SET_LOG_BASE through
frontend.py."""

import ctypes
import mmap
import os

from . import protocol as p
from .protocol import F

WORD = 8                                # bytes that a front end takes off the log at once


class DirtyLog:
    """Covers guest addresses 0..max_gpa; starts at `offset` of its file."""

    def __init__(self, max_gpa, offset=0):
        self.size = -(-(-(-max_gpa // p.LOG_PAGE)) // 8)
        self.offset = offset
        self.fd = os.memfd_create("fe-log", os.MFD_CLOEXEC)
        os.ftruncate(self.fd, offset + self.size)
        self.map = mmap.mmap(self.fd, offset + self.size)

    @property
    def payload(self):
        return p.LOG.pack(self.size, self.offset)

    def pages(self):
        """The numbers of the pages marked."""
        content = self.map[self.offset:self.offset + self.size]
        return {8 * i + bit for i, byte in enumerate(content) if byte for bit in range(8)
                if byte >> bit & 1}

    def take(self):
        """The same, and takes the marks off, as a front end does while the back end sets others: by an
        atomic exchange of each word."""
        exchange = getattr(ctypes.CDLL("libatomic.so.1"), "__atomic_exchange_8")
        exchange.restype, exchange.argtypes = ctypes.c_uint64, (ctypes.c_void_p, ctypes.c_uint64,
                                                                ctypes.c_int)
        start = ctypes.addressof(ctypes.c_char.from_buffer(self.map, self.offset))
        words = memoryview(self.map)[self.offset:self.offset + self.size].cast("Q")
        taken = set()
        for i in [i for i, word in enumerate(words) if word]:
            word = exchange(start + WORD * i, 0, 5)         # __ATOMIC_SEQ_CST
            taken.update(8 * WORD * i + bit for bit in range(8 * WORD) if word >> bit & 1)
        return taken

    def before(self):
        """What lies before the log in the file: nobody may write there."""
        return self.map[:self.offset]

    def clear(self):
        self.map[self.offset:self.offset + self.size] = bytes(self.size)

    def close(self):
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
        self.map = None


def pages_of(gpa, size):
    """The pages that these bytes lie in."""
    return set(range(gpa // p.LOG_PAGE, (gpa + size - 1) // p.LOG_PAGE + 1)) if size else set()


def start_logging(session, log, used=True, at=None):
    """In the order of QEMU when a migration begins, on running rings."""
    session.set_log(log)
    session.set_features(session.features | p.bits(F.LOG_ALL))
    for index, queue in session.queues.items():
        gpa = queue.ring.log_gpa if at is None else at
        session.set_vring_addr(index, queue.ring, p.VRING_F_LOG if used else 0, gpa if used else 0)


def stop_logging(session):
    session.set_features(session.features & ~p.bits(F.LOG_ALL))
    for index, queue in session.queues.items():
        session.set_vring_addr(index, queue.ring)
