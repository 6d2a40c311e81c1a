# SPDX-License-Identifier: BSD-3-Clause
"""Holds the kernel's lock of a folder, as anybody can who may list it: the list is written into a page that never
comes (userfaultfd(2)). Nobody makes or removes a file there meanwhile; nor, with a second thread that waits for that,
looks for one that the kernel does not know of yet.

    with held_folder(path): ...
"""

import ctypes
import fcntl
import mmap
import os
import select
import struct
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

SYS_GETDENTS64 = 217
SYS_USERFAULTFD = 323
UFFDIO_API = 0xc018aa3f
UFFDIO_REGISTER = 0xc020aa00
UFFD_API = 0xaa
REGISTER_MODE_MISSING = 1

libc = ctypes.CDLL(None, use_errno=True)


def missing_page():
    """A page that nobody fills, its address, and the fd on which one hears that somebody waits for it."""
    # Of one that blocks select() says at once that there is something.
    uffd = libc.syscall(SYS_USERFAULTFD, os.O_CLOEXEC | os.O_NONBLOCK)
    if uffd < 0:
        raise OSError(ctypes.get_errno(), "userfaultfd")
    fcntl.ioctl(uffd, UFFDIO_API, bytearray(struct.pack("QQQ", UFFD_API, 0, 0)))
    page = mmap.mmap(-1, mmap.PAGESIZE, mmap.MAP_PRIVATE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    fcntl.ioctl(uffd, UFFDIO_REGISTER,
                bytearray(struct.pack("QQQQ", address, mmap.PAGESIZE, REGISTER_MODE_MISSING, 0)))
    return page, address, uffd


def state_of(thread):
    with open(f"/proc/self/task/{thread}/stat") as file:
        return file.read().rpartition(")")[2].split()[0]


def hold(path):
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    page, address, uffd = missing_page()
    threading.Thread(target=libc.syscall, args=(SYS_GETDENTS64, folder, ctypes.c_void_p(address), len(page)),
                     daemon=True).start()
    select.select([uffd], [], [])
    # It waits to make something there, and all others behind it.
    queues = threading.Thread(target=os.open, args=(os.path.join(path, ".held"), os.O_CREAT), daemon=True)
    queues.start()
    while state_of(queues.native_id) != "D":
        time.sleep(0.01)


@contextmanager
def held_folder(path):
    with subprocess.Popen([sys.executable, __file__, str(path)], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE) as holder:
        try:
            assert holder.stdout.readline() == b"held\n"
            yield
        finally:
            holder.kill()


if __name__ == "__main__":
    hold(sys.argv[1])
    print("held", flush=True)
    sys.stdin.read()
