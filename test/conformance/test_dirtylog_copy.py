# SPDX-License-Identifier: BSD-3-Clause
"""A copy of guest memory that follows the dirty log, as the other side of a migration has it, is the
memory itself once the rings have stopped.

test_dirtylog.py holds what is marked for one request. Here are many at once, marks are taken off while the
device sets others, and rings stop with requests in flight.
"""

import random

import pytest

from vhostuser import GuestMemory, pattern
from vhostuser import blk
from vhostuser import protocol as p
from vhostuser.dirtylog import start_logging

PAGE = p.LOG_PAGE
FORMATS = {
    "split": {},
    "split-event_idx-indirect": {"event_idx": True, "indirect": True},
    "packed-event_idx": {"packed": True, "event_idx": True},
    "packed-in_order": {"packed": True, "in_order": True},
}
QUEUES = 2
ROUNDS = 6
BATCH = 12
SIZES = (512, 4096, 8704, 65536)


class Copied(GuestMemory):
    """Guest memory and its copy. What the front end writes is in both, byte by byte; the device's writes
    come into the copy with the pages that are marked."""

    def __init__(self):
        super().__init__()
        self.copies = None
        self.here = []                  # (gpa, size) that the front end alone writes, through views

    def begin(self):
        """Everything, once: from here on the log says what has changed."""
        self.copies = [bytearray(region.map[:]) for region in self.regions]

    def put(self, gpa, data):
        if self.copies is not None:
            region = self.find(gpa, len(data))
            at = gpa - region.gpa
            self.copies[self.regions.index(region)][at:at + len(data)] = data

    def copy(self, gpa, size):
        self.put(gpa, self.read(gpa, size))

    def write(self, gpa, data):
        super().write(gpa, data)
        self.put(gpa, data)

    def differences(self):
        for part in self.here:
            self.copy(*part)
        return [hex(region.gpa + at) for region, copy in zip(self.regions, self.copies)
                if region.map[:] != copy for at in range(0, region.size, PAGE)
                if region.map[at:at + PAGE] != copy[at:at + PAGE]]


def submit(disk, requests, index):
    """As disk.submit(), and what the ring writes for that is copied."""
    ring = disk.queues[index].ring
    for request in requests:
        entry = ring.add(disk.chain(request), request, disk.indirect)
        if entry.table is not None:
            disk.mem.copy(*entry.table)
        if ring.packed:
            for slot in entry.slots:
                disk.mem.copy(ring.desc_gpa + 16 * slot, 16)
    if ring.packed:
        slot, word = ring.unshown
        disk.mem.put(ring.desc_gpa + 16 * slot + 8, word.to_bytes(8, "little"))
    disk.queues[index].notify()


def some(disk, rng, seed):
    """Requests of all kinds and sizes, at addresses of any alignment; one fails."""
    requests = []
    for i in range(BATCH):
        size, sector, align = rng.choice(SIZES), rng.randrange(1000), rng.choice((64, 512, 4096))
        kind = rng.choice((blk.T_IN, blk.T_IN, blk.T_OUT, blk.T_FLUSH, blk.T_GET_ID))
        if kind == blk.T_OUT:
            requests.append(disk.prepare(kind, sector, out=pattern(seed + i, size), align=align))
        elif kind == blk.T_FLUSH:
            requests.append(disk.prepare(kind))
        else:
            requests.append(disk.prepare(kind, sector, in_bytes=20 if kind == blk.T_GET_ID else size,
                                         align=align))
    requests.append(disk.prepare(blk.T_IN, disk.capacity, in_bytes=512))
    return requests


def follow(disk, log):
    for page in log.take():
        if any(region.gpa <= page * PAGE < region.end for region in disk.mem.regions):
            disk.mem.copy(page * PAGE, PAGE)


def finish(disk, requests, index):
    disk.wait(requests, index)
    for request in requests:
        assert request.status == (blk.S_IOERR if request is requests[-1] else blk.S_OK)
        disk.release(request)


def parts_of(ring):
    """What a driver writes into a ring and a device does not."""
    if ring.packed:
        return [(ring.driver_gpa, 4)]
    sizes = ring.parts()
    return [(getattr(ring, name), sizes[name]) for name in ("desc_gpa", "avail_gpa")]


@pytest.mark.parametrize("name", ["plain", "file"])
@pytest.mark.parametrize("format_", list(FORMATS.values()), ids=list(FORMATS))
def test_a_copy_that_follows_the_log_is_the_memory(stage, opened, log_of, name, format_):
    rng = random.Random(name)
    disk = opened(stage.path(name), queues=QUEUES, size=1024, start=900, mem=Copied(),
                  **format_)
    rings = {index: queue.ring for index, queue in disk.queues.items()}
    disk.mem.here = [part for ring in rings.values() for part in parts_of(ring)]
    log = log_of(disk)
    flying = {index: some(disk, rng, index) for index in rings}
    for index, requests in flying.items():
        submit(disk, requests, index)
    start_logging(disk, log)            # with requests in flight
    disk.mem.begin()
    for count in range(ROUNDS):
        for _ in range(3):
            for index in rings:
                finish(disk, flying[index], index)
                flying[index] = some(disk, rng, 1000 * count + 100 * index)
                submit(disk, flying[index], index)
                follow(disk, log)
        bases = disk.stop()             # the same
        follow(disk, log)
        assert disk.mem.differences() == []
        for index, base in bases.items():
            disk.start_queue(disk.queues[index], base=base, log=True)
    for index in rings:
        finish(disk, flying[index], index)
