# SPDX-License-Identifier: BSD-3-Clause
"""Memory tables, slots, logs and inflight regions that lie about sizes, offsets, numbers and
descriptors."""

import fcntl
import os
import socket
import tempfile
from contextlib import suppress

import pytest

from scene import expect_refusal
from vhostuser import (Closed, DirtyLog, F, GuestMemory, Inflight, PF, Queue, Refused, Region, Req,
                       pattern)
from vhostuser import blk
from vhostuser import protocol as p

TOP = 1 << 64
PAGE = 4096
MB = 1 << 20

#: name: (guest address, size, user address, offset) of a region whose file has 1 MB
LIES = {
    "no size": (0, 0, 0x7e00_0000_0000, 0),
    "larger than the file": (0, 2 * MB, 0x7e00_0000_0000, 0),
    "one byte too large": (0, MB + 1, 0x7e00_0000_0000, 0),
    "offset at the end": (0, PAGE, 0x7e00_0000_0000, MB),
    "offset and size beyond the file": (0, MB, 0x7e00_0000_0000, PAGE),
    "offset plus size overflows": (0, 2 * PAGE, 0x7e00_0000_0000, TOP - PAGE),
    "offset minus a page": (0, PAGE, 0x7e00_0000_0000, TOP - PAGE),
    "size of everything": (0, TOP - 1, 0x7e00_0000_0000, 0),
    "size half of everything": (0, 1 << 63, 0x7e00_0000_0000, 0),
    "guest address overflows": (TOP - PAGE, MB, 0x7e00_0000_0000, 0),
    "user address overflows": (0, MB, TOP - PAGE, 0),
}


def memfd(size=MB):
    fd = os.memfd_create("fe-lie", os.MFD_CLOEXEC)
    os.ftruncate(fd, size)
    return fd


@pytest.mark.parametrize("lie", list(LIES))
def test_a_table_with_an_impossible_region_is_refused(scene, lie):
    disk = scene.bare()
    fd = memfd()
    expect_refusal(disk, Req.SET_MEM_TABLE, p.MEM_HEADER.pack(1, 0) + p.REGION.pack(*LIES[lie]),
                   [fd])
    os.close(fd)
    scene.reason(r"region|memory|size|range")


@pytest.mark.parametrize("lie", list(LIES))
def test_an_impossible_slot_is_refused(scene, lie):
    disk = scene.open()
    fd = memfd()
    gpa, size, uva, offset = LIES[lie]
    gpa = gpa or 0x9_0000_0000
    outcome = expect_refusal(disk, Req.ADD_MEM_REG, p.U64.pack(0)
                             + p.REGION.pack(gpa, size, uva, offset), [fd])
    os.close(fd)
    scene.reason(r"region|memory|size|range|slot")
    if outcome == "error":
        scene.goes_on(disk)


@pytest.mark.parametrize("second", [(0, MB, 0x7f00_0000_0000), (MB - PAGE, MB, 0x7f00_0000_0000),
                                    (2 * MB, MB, 0x7e00_0000_0000),
                                    (2 * MB, MB, 0x7e00_0000_0000 + MB - 1)])
def test_a_table_whose_regions_overlap_is_refused(scene, second):
    disk = scene.bare()
    fd = memfd()
    table = p.REGION.pack(0, MB, 0x7e00_0000_0000, 0) + p.REGION.pack(*second, 0)
    expect_refusal(disk, Req.SET_MEM_TABLE, p.MEM_HEADER.pack(2, 0) + table, [fd, fd])
    os.close(fd)
    scene.reason(r"overlap|region|memory")


@pytest.mark.parametrize("number, carried, fds",
                         [(9, 8, 8), (0xffffffff, 1, 1), (0x0800_0001, 1, 1), (2, 1, 1),
                                                  (2, 2, 1), (1, 1, 2), (8, 8, 0), (1, 1, 0),
                          (9, 9, 8)])
def test_a_table_whose_numbers_disagree_is_refused(scene, number, carried, fds):
    disk = scene.bare()
    files = [memfd() for _ in range(fds)]
    table = b"".join(p.REGION.pack(i * 2 * MB, MB, 0x7e00_0000_0000 + i * 2 * MB, 0)
                     for i in range(carried))
    expect_refusal(disk, Req.SET_MEM_TABLE, p.MEM_HEADER.pack(number, 0) + table, files)
    for fd in files:
        os.close(fd)
    scene.reason(r"region|descriptor|fds?\b|size|bytes")


def unmappable():
    """Descriptors that are no memory: (name, fd)."""
    read_end, write_end = os.pipe()
    os.close(write_end)
    with tempfile.NamedTemporaryFile() as file:
        file.truncate(MB)
        readonly = os.open(file.name, os.O_RDONLY)
        writeonly = os.open(file.name, os.O_WRONLY)
    sealed = os.memfd_create("fe-sealed", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(sealed, MB)
    fcntl.fcntl(sealed, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
    return {
        "pipe": read_end, "eventfd": os.eventfd(0), "socket": socket.socketpair()[0].detach(),
        "readonly": readonly,
        "writeonly": writeonly, "sealed": sealed, "directory": os.open("/tmp", os.O_RDONLY),
        "/dev/null": os.open("/dev/null", os.O_RDWR), "/dev/zero": os.open("/dev/zero", os.O_RDWR),
        "empty": memfd(0),
    }


def test_descriptors_that_are_no_memory_are_refused(scene):
    files = unmappable()
    for name, fd in files.items():
        for request, payload in ((Req.SET_MEM_TABLE, p.MEM_HEADER.pack(1, 0)
                                  + p.REGION.pack(0, MB, 0x7e0000000000, 0)),
                                 (Req.ADD_MEM_REG, p.U64.pack(0)
                                  + p.REGION.pack(0, MB, 0x7e0000000000, 0)),
                                 (Req.SET_LOG_BASE, p.LOG.pack(PAGE, 0)),
                                 (Req.SET_INFLIGHT_FD, p.INFLIGHT.pack(8192, 0, 1, 64))):
            disk = scene.bare()
            expect_refusal(disk, request, payload, [fd])
            disk.close()
        os.close(fd)
    scene.reason(r"region|memory|map|log|inflight")


@pytest.mark.parametrize("request_, payload", [
    (Req.SET_INFLIGHT_FD, p.INFLIGHT.pack(8192, 0, 1, 64)), (Req.SET_LOG_BASE, p.LOG.pack(PAGE, 0)),
    (Req.ADD_MEM_REG, p.U64.pack(0) + p.REGION.pack(0, MB, 0x7e00_0000_0000, 0)),
    (Req.SET_BACKEND_REQ_FD, b""), (Req.SET_LOG_FD, b""),
], ids=lambda value: getattr(value, "name", ""))
def test_surplus_descriptors_are_refused_and_closed(scene, request_, payload):
    disk = scene.bare()
    fds = [memfd() for _ in range(3)]
    expect_refusal(disk, request_, payload, fds)
    for fd in fds:
        os.close(fd)
    scene.reason(r"descriptors?|fds?\b")


def test_tables_set_again_and_again_leak_nothing(scene):
    disk = scene.open()
    scene.goes_on(disk)
    before = scene.stage.figures()
    payload, fds = disk.mem.table()
    other = GuestMemory()
    other_payload, other_fds = other.table()
    assert disk.stop()
    for _ in range(50):
        disk.tell(Req.SET_MEM_TABLE, other_payload, other_fds)
        disk.tell(Req.SET_MEM_TABLE, payload, fds)
    other.close()
    assert scene.stage.wait_settled(before) == ""
    disk.start_queue(disk.queues[0])
    scene.goes_on(disk)


def test_tables_sent_without_waiting_leak_nothing(scene):
    disk = scene.open()
    payload, fds = disk.mem.table()
    for _ in range(100):
        disk.wire.send(Req.SET_MEM_TABLE, payload, fds)
    disk.fence()
    scene.goes_on(disk)


# the dirty log


#: name: (size, offset) with a file of 1 MB
LOG_LIES = {
    "no size": (0, 0),
    "larger than the file": (MB + 1, 0),
    "offset at the end": (PAGE, MB),
    "offset and size beyond the file": (MB, PAGE),
    "overflow": (PAGE, TOP - PAGE),
    "offset plus size is small again": (2 * PAGE, TOP - PAGE),
    "everything": (TOP - 1, 0),
    "half of everything twice": (1 << 63, 1 << 63),
}


@pytest.mark.parametrize("lie", list(LOG_LIES))
def test_an_impossible_log_is_refused(scene, lie):
    disk = scene.open()
    fd = memfd()
    outcome = expect_refusal_of_log(disk, p.LOG.pack(*LOG_LIES[lie]), [fd])
    os.close(fd)
    scene.reason(r"\blog\b|region|file")
    if outcome == "error":
        scene.goes_on(disk)


def expect_refusal_of_log(disk, payload, fds):
    """SET_LOG_BASE has a reply of its own, whose payload says nothing when it is empty: then
    logging must not work."""
    try:
        reply = disk.ask(Req.SET_LOG_BASE, payload, fds)
        assert not reply.payload or reply.u64 != 0, "accepted"
        return "error"
    except Closed:
        return "closed"


def test_log_all_without_a_log_is_contained(scene):
    disk = scene.open()
    with suppress(Closed):
        disk.ack(Req.SET_FEATURES, p.U64.pack(disk.features | p.bits(F.LOG_ALL)))
        disk.wire.send(Req.SET_VRING_ADDR,
                       p.VRING_ADDR.pack(0, p.VRING_F_LOG, *disk.queues[0].ring.addresses(), 0))
        disk.submit([disk.prepare(blk.T_IN, in_bytes=512)])
        disk.reap(timeout=0.1)
        disk.fence()


def test_a_log_that_is_too_small_for_the_memory_is_not_overrun(scene):
    """Memory beyond the log's last bit is written, but never logged behind the log's end."""
    disk = scene.open()
    fd = memfd(2 * PAGE)
    marker = pattern(1, PAGE)
    os.pwrite(fd, marker, PAGE)
    log = p.LOG.pack(8, 0)
    with suppress(Closed):
        reply = disk.ask(Req.SET_LOG_BASE, log, [fd])
        if not reply.payload or reply.u64 == 0:
            disk.ack(Req.SET_FEATURES, p.U64.pack(disk.features | p.bits(F.LOG_ALL)))
            disk.submit([disk.prepare(blk.T_IN, in_bytes=4096)])
            disk.reap(timeout=0.2)
            disk.fence()
    assert os.pread(fd, PAGE, PAGE) == marker
    assert not any(os.pread(fd, PAGE - 8, 8))
    os.close(fd)


@pytest.mark.parametrize("at", [1 << 40, TOP - PAGE, TOP - 1, 1 << 63])
def test_a_log_address_of_a_ring_beyond_the_log_is_contained(scene, at):
    disk = scene.open()
    log = DirtyLog(disk.mem.max_gpa)
    disk.set_log(log)
    with suppress(Closed):
        disk.ack(Req.SET_FEATURES, p.U64.pack(disk.features | p.bits(F.LOG_ALL)))
        disk.ack(Req.SET_VRING_ADDR, p.VRING_ADDR.pack(0, p.VRING_F_LOG,
                                                       *disk.queues[0].ring.addresses(), at))
        disk.submit([disk.prepare(blk.T_IN, in_bytes=512)])
        disk.reap(timeout=0.1)
        disk.fence()
    log.close()


def test_logs_set_again_and_again_leak_nothing(scene):
    disk = scene.open()
    log = DirtyLog(disk.mem.max_gpa)
    disk.set_log(log)
    before = scene.stage.figures()
    for _ in range(100):
        disk.set_log(log)
    assert scene.stage.wait_settled(before) == ""
    log.close()
    scene.goes_on(disk)


# inflight regions


@pytest.mark.parametrize("queues, size", [(0, 64), (1, 0), (0xffff, 0xffff), (5, 64), (1, 65535),
                                          (129, 64), (0xffff, 1),
                                          (256, 32768)])
def test_an_impossible_inflight_region_is_not_made(scene, queues, size):
    disk = scene.bare()
    try:
        reply = disk.ask(Req.GET_INFLIGHT_FD, p.INFLIGHT.pack(0, 0, queues, size))
        if reply.payload and reply.fds:
            mmap_size = p.INFLIGHT.unpack_from(reply.payload)[0]
            assert mmap_size < 64 * MB, "%d bytes for the asking" % mmap_size
            if queues == 0 or size == 0:
                assert mmap_size == 0
        reply.close()
    except Closed:
        scene.reason(r"inflight|queue")


def test_a_flood_of_get_inflight_leaks_nothing(scene):
    disk = scene.bare()
    disk.get_inflight(4, 128).close()
    before = scene.stage.figures()
    for _ in range(300):
        disk.get_inflight(4, 128).close()
    assert scene.stage.figures().growth(before).count("inflight") <= 1
    assert len(scene.stage.figures().fds) <= len(before.fds) + 2


def test_get_inflight_that_nobody_reads_stops_only_that_session(scene):
    disk = scene.bare()
    disk.wire.sock.setblocking(False)
    message = p.HEADER.pack(Req.GET_INFLIGHT_FD, p.VERSION, p.INFLIGHT.size)
    message += p.INFLIGHT.pack(0, 0, 4, 1024)
    try:
        for _ in range(20000):
            disk.wire.sock.send(message)
    except (BlockingIOError, ConnectionError):
        pass
    scene.neighbour.check(scene.neighbour.count)
    assert len(scene.stage.figures().fds) < len(scene.before.fds) + 400
    disk.wire.close()


#: name: (mmap size, offset, queues, queue size) of a SET_INFLIGHT_FD whose file has 1 MB
INFLIGHT_LIES = {
    "larger than the file": (2 * MB, 0, 1, 64),
    "no size": (0, 0, 1, 64),
    "too small for one queue": (1040, 0, 1, 128),
    "too small for its queues": (2112, 0, 4, 128),
    "offset beyond the file": (8192, MB, 1, 64),
    "overflow": (8192, TOP - PAGE, 1, 64),
    "size of everything": (TOP - 1, 0, 1, 64),
    "no queues": (8192, 0, 0, 64),
    "no queue size": (8192, 0, 1, 0),
    "many queues": (MB, 0, 0xffff, 64),
    "a giant queue": (MB, 0, 1, 0xffff),
    "all ones": (TOP - 1, TOP - 1, 0xffff, 0xffff),
}


@pytest.mark.parametrize("lie", list(INFLIGHT_LIES))
def test_an_impossible_inflight_region_is_refused(scene, lie):
    disk = scene.bare()
    fd = memfd()
    with suppress(Closed):
        if disk.ack(Req.SET_INFLIGHT_FD, p.INFLIGHT.pack(*INFLIGHT_LIES[lie]), [fd]) == 0:
            # What is wrong may be seen only by the ring that comes to use it.
            disk.set_mem_table(GuestMemory())
            queue = Queue(0, disk.new_ring(64))
            disk.set_vring_num(0, 64)
            disk.set_vring_addr(0, queue.ring)
            expect_refusal(disk, Req.SET_VRING_KICK, p.U64.pack(0), [queue.kick.fd])
            queue.close()
    os.close(fd)
    scene.reason(r"inflight|region|file")


@pytest.mark.parametrize("packed", [False, True], ids=["split", "packed"])
@pytest.mark.parametrize("ring_size, region_size", [(128, 64), (1024, 2)])
def test_a_ring_larger_than_its_inflight_region_does_not_overrun_it(
        scene, packed, ring_size, region_size):
    disk = scene.open(packed=packed, queues=0)
    region = disk.get_inflight(1, region_size)
    file_size = os.fstat(region.fd).st_size
    disk.set_inflight(region)
    queue = Queue(0, disk.new_ring(ring_size))
    try:
        disk.start_queue(queue)
        for i in range(ring_size):
            disk.read(i % 8, 512)
    except (Closed, Refused):
        scene.reason(r"inflight")
    assert os.fstat(region.fd).st_size == file_size
    region.close()


@pytest.mark.parametrize("packed", [False, True], ids=["split", "packed"])
def test_a_ring_smaller_than_its_inflight_region_is_served(scene, packed):
    """A front end asks for the region with the size it configured; the guest's driver (firmware,
    before the operating system comes) may choose a smaller ring."""
    disk = scene.open(packed=packed, queues=0)
    region = disk.get_inflight(1, 256)
    disk.set_inflight(region)
    disk.start_queue(Queue(0, disk.new_ring(64)))
    for i in range(100):
        disk.read(i % 8, 512)
    region.close()


def started_with(scene, region, packed):
    """Tries to start a ring with this region; the errors a daemon may answer with."""
    disk = scene.open(packed=packed, queues=0)
    disk.set_inflight(region)
    queue = Queue(0, disk.new_ring(16))
    queue.ring.add([(queue.ring.desc_gpa, 16, False), (queue.ring.desc_gpa, 1, True)])
    try:
        disk.start_queue(queue)
        queue.notify()
        disk.reap(timeout=0.05)
        disk.fence()
    except Exception as error:
        assert type(error).__name__ in ("Closed", "Refused", "RingError", "IoError",
                                        "AttributeError"), error
    disk.close()


@pytest.mark.parametrize("header", [(0, 2, 16, 0, 0), (0, 0xffff, 16, 0, 0), (1, 1, 16, 0, 0),
                                    (0, 1, 15, 0, 0),
                                    (0, 1, 0xffff, 0, 0), (0, 1, 0, 0, 0), (0, 1, 16, 0xffff, 0),
                                    (0, 1, 16, 0, 0xffff),
                                    (0, 1, 16, 16, 0x8000)])
def test_a_split_inflight_header_of_nonsense_is_contained(scene, header):
    region = Inflight.create(1, 16)
    region.write_header(0, *header)
    for i in range(16):
        region.write_desc(0, i, 1, 0xffff, i)
    started_with(scene, region, False)
    region.close()


@pytest.mark.parametrize("entries", [[(1, 0xffff, 1)] * 16, [(1, 0, 0xffff_ffff_ffff_ffff)] * 16,
                                     [(255, 5, 7)] * 16,
                                     [(1, i, 1) for i in range(16)]])
def test_split_inflight_entries_of_nonsense_are_contained(scene, entries):
    region = Inflight.create(1, 16)
    for last_batch, used in ((0, 0), (3, 0xfff0), (15, 5)):
        region.write_header(0, 0, 1, 16, last_batch, used)
        for i, entry in enumerate(entries):
            region.write_desc(0, i, *entry)
        started_with(scene, region, False)
    region.close()


@pytest.mark.parametrize("header", [
    (0, 2, 16, 0, 0, 0, 0, 1, 1), (0, 1, 15, 0, 0, 0, 0, 1, 1), (0, 1, 16, 0xffff, 0, 0, 0, 1, 1),
    (0, 1, 16, 0, 0xffff, 0, 0, 1, 1), (0, 1, 16, 0, 0, 0xffff, 0, 1, 1),
    (0, 1, 16, 0, 0, 0, 0xffff, 1, 1),
    (0, 1, 16, 0, 0, 0, 0, 255, 7), (0, 1, 16, 16, 16, 16, 16, 1, 1), (0, 1, 16, 3, 5, 9, 2, 1, 0),
])
def test_a_packed_inflight_header_of_nonsense_is_contained(scene, header):
    region = Inflight.create(1, 16, True)
    region.write_header(0, *header)
    for i in range(16):
        region.write_desc(0, i, 1, i + 1, i, 1, i, i, 0, 4096, 0x1000)
    started_with(scene, region, True)
    region.close()


@pytest.mark.parametrize("entry", [
    (1, 0xffff, 0xffff, 0xffff, 0, 0xffff, 0xffff, 0xffffffff, TOP - 1),
    (1, 0, 0, 0, 0, 0, 0, 0, 0),
    (1, 5, 5, 16, 3, 2, 1, 16, 0x1000), (1, 1, 0, 17, 3, 0, 4, 16, 0x1000),
    (255, 0, 15, 2, 1, 1, 2, 4096, 0xdead00000000),
    (0, 0, 0, 0, 0, 0, 0, 0, 0),
])
def test_packed_inflight_entries_of_nonsense_are_contained(scene, entry):
    """Also a free list that runs in a circle, which is what the last one is."""
    region = Inflight.create(1, 16, True)
    for used, old in ((0, 0), (3, 0)):
        region.write_header(0, 0, 1, 16, 0, 0, used, old, 1, 1)
        for i in range(16):
            region.write_desc(0, i, *entry)
        started_with(scene, region, True)
    region.close()


def test_the_inflight_region_scribbled_over_while_rings_run_is_contained(scene):
    for packed in (False, True):
        disk = scene.open(packed=packed, queues=0, size=64)
        region = disk.get_inflight(1, 64)
        disk.set_inflight(region)
        disk.start_queue(Queue(0, disk.new_ring(64)))
        try:
            for i in range(200):
                region.map[:] = os.urandom(16) * (len(region.map) // 16)
                requests = disk.submit([disk.prepare(blk.T_IN, 0, in_bytes=512) for _ in range(4)])
                region.map[:] = b"\xff" * len(region.map)
                disk.reap(timeout=0.02)
                for request in requests:
                    if request.done:
                        disk.release(request)
            disk.fence()
        except Exception as error:
            assert type(error).__name__ in ("Closed", "RingError", "IndexError"), error
        region.close()
        disk.close()


def test_a_front_end_without_the_slot_feature_cannot_use_slots(scene):
    disk = scene.bare(drop=(PF.CONFIGURE_MEM_SLOTS,))
    region = Region(0, MB, 0x7e00_0000_0000)
    expect_refusal(disk, Req.ADD_MEM_REG, p.U64.pack(0) + region.payload(), [region.fd])
    region.close()
    scene.reason(r"not supported|negotiated|feature")
