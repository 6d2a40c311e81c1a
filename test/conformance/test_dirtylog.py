# SPDX-License-Identifier: BSD-3-Clause
"""The dirty log marks exactly the pages that the device wrote ("Migration" in the
specification)."""

import pytest

from hold import wait_taken
from test_inflight import start, tracked
from vhostuser import F, GuestMemory, Refused, Region, pages_of
from vhostuser import blk
from vhostuser import protocol as p
from vhostuser.dirtylog import start_logging, stop_logging

FORMATS = {
    "split": {},
    "split-event_idx": {"event_idx": True},
    "split-indirect": {"indirect": True},
    "packed": {"packed": True},
    "packed-event_idx": {"packed": True, "event_idx": True},
    "packed-indirect": {"packed": True, "indirect": True},
    "packed-in_order": {"packed": True, "in_order": True},
}
every_format = pytest.mark.parametrize("format_", list(FORMATS.values()), ids=list(FORMATS))
PAGE = p.LOG_PAGE


def lone(disk, kind, sector=0, size=0):
    """A request whose data and status have pages of their own, each with an unused page before
    it."""
    request = disk.prepare(kind, sector)
    request.header = [(disk.mem.alloc(16, PAGE), 16)]
    disk.mem.write(request.header[0][0], blk.HEADER.pack(kind, 0, sector))
    disk.mem.alloc(PAGE, PAGE)
    if size:
        request.data = [(disk.mem.alloc(size + PAGE, PAGE) + PAGE // 2, size)]
        request.writes = kind != blk.T_OUT
    disk.mem.alloc(PAGE, PAGE)
    request.status_gpa = disk.mem.alloc(PAGE, PAGE) + 77
    disk.mem.alloc(PAGE, PAGE)
    return request


def used_pages(disk):
    """The page that holds the whole used ring (split) or descriptor ring (packed) of a small
    queue."""
    return {disk.queues[0].ring.log_gpa // PAGE}


def just(disk, log, expected):
    """These pages are marked and no others; but for that of a packed ring's event structure, which
    a device writes or not."""
    ring = disk.queues[0].ring
    either = {ring.device_gpa // PAGE} if ring.packed else set()
    assert log.pages() | either == expected | either


@every_format
def test_a_read_marks_its_data_its_status_and_the_used_ring(plain, log_of, format_):
    disk = plain(size=64, **format_)
    log = log_of(disk)
    start_logging(disk, log)
    for size in (512, 4096, 8192, 65536):
        log.clear()
        request = lone(disk, blk.T_IN, 0, size)
        disk.wait(disk.submit([request]))
        assert request.status == blk.S_OK
        expected = pages_of(*request.data[0]) | pages_of(request.status_gpa, 1) | used_pages(disk)
        just(disk, log, expected)


@every_format
def test_a_write_marks_only_its_status_and_the_used_ring(plain, log_of, format_):
    disk = plain(size=64, **format_)
    log = log_of(disk)
    start_logging(disk, log)
    log.clear()
    request = lone(disk, blk.T_OUT, 0, 8192)
    disk.wait(disk.submit([request]))
    just(disk, log, pages_of(request.status_gpa, 1) | used_pages(disk))


@every_format
def test_without_the_flag_of_the_ring_the_used_ring_is_not_marked(plain, log_of, format_):
    disk = plain(size=64, **format_)
    log = log_of(disk)
    start_logging(disk, log, used=False)
    log.clear()
    request = lone(disk, blk.T_IN, 0, 4096)
    disk.wait(disk.submit([request]))
    assert log.pages() == pages_of(*request.data[0]) | pages_of(request.status_gpa, 1)


@pytest.mark.parametrize("packed", [False, True], ids=["split", "packed"])
def test_the_used_ring_is_marked_at_its_log_address(plain, log_of, packed):
    """Which may lie outside of guest memory, so long as the log has a bit for it."""
    disk = plain(size=64, packed=packed)
    at = disk.mem.max_gpa + 0x12000
    log = log_of(disk, size_for=at + 0x10000)
    start_logging(disk, log, at=at)
    log.clear()
    request = lone(disk, blk.T_OUT, 0, 512)
    disk.wait(disk.submit([request]))
    just(disk, log, pages_of(request.status_gpa, 1) | {at // PAGE})


def test_the_event_suppression_may_lie_in_the_last_page_of_memory(plain, log_of):
    """QEMU tells its address as that of the used ring, and has a log for its memory. Of a packed ring the
    descriptors are longer, and elsewhere."""
    mem = GuestMemory()
    mem.alloc(mem.regions[2].size - PAGE, PAGE, region=2)
    disk = plain(size=1024, packed=True, mem=mem, regions=(0, 0, 2))
    queue, log = disk.queues[0], log_of(disk)
    at = queue.ring.device_gpa
    assert at + PAGE == mem.max_gpa

    def is_logged():
        log.clear()
        request = lone(disk, blk.T_OUT, 0, 512)
        disk.wait(disk.submit([request]))
        just(disk, log, pages_of(request.status_gpa, 1) | used_pages(disk))

    start_logging(disk, log, at=at)
    is_logged()
    # With a ring that is to be logged from the start, and one that is when the log is switched on.
    base = disk.get_vring_base(0)
    disk.set_vring_base(0, base)
    disk.set_vring_kick(0, queue.kick)
    is_logged()
    disk.set_features(disk.features & ~p.bits(F.LOG_ALL))
    disk.set_features(disk.features | p.bits(F.LOG_ALL))
    is_logged()


def test_a_log_without_the_descriptors_of_a_packed_ring_is_refused(plain, log_of):
    disk = plain(size=1024, packed=True, regions=(2, 0, 0))
    log = log_of(disk, size_for=disk.mem.regions[1].end)
    with pytest.raises(Refused):
        start_logging(disk, log, at=disk.queues[0].ring.device_gpa)
    disk.read(0, 512)


@pytest.mark.parametrize("packed", [False, True], ids=["split", "packed"])
def test_the_page_of_the_entry_is_marked_in_a_used_ring_of_many_pages(plain, log_of, packed):
    size = 4096
    disk = plain(size=size, packed=packed)
    ring = disk.queues[0].ring
    log = log_of(disk)
    start_logging(disk, log)
    seen = set()
    for i in range(30):
        log.clear()
        batch = [disk.prepare(blk.T_FLUSH) for _ in range(size // 16)]
        first = ring.next_used if packed else ring.next_used % size
        disk.wait(disk.submit(batch))
        entry, count = (16, 2 * len(batch)) if packed else (8, len(batch))
        offset = 0 if packed else 4
        written = set()
        for j in range(0, count, 2 if packed else 1):
            at = (first + j) % size
            written |= pages_of(ring.log_gpa + offset + at * entry, entry)
        if not packed:
            written |= pages_of(ring.log_gpa, 4)
        status = set()
        for request in batch:
            status |= pages_of(request.status_gpa, 1)
            disk.release(request)
        just(disk, log, written | status)
        seen |= written
    assert len(seen) >= 8


def test_data_in_several_pieces_marks_the_pages_of_each(plain, log_of):
    disk = plain(size=64)
    log = log_of(disk)
    start_logging(disk, log)
    request = lone(disk, blk.T_IN, 0, 8192)
    a, b = disk.mem.alloc(3 * PAGE, PAGE, region=0), disk.mem.alloc(3 * PAGE, PAGE, region=2)
    request.data = [(a + 4000, 200), (b + 100, 8192 - 200)]
    log.clear()
    disk.wait(disk.submit([request]))
    assert log.pages() == (pages_of(a + 4000, 200) | pages_of(b + 100, 7992)
                           | pages_of(request.status_gpa, 1)
                           | used_pages(disk))


def test_get_id_marks_its_buffer(plain, log_of):
    disk = plain(size=64)
    log = log_of(disk)
    start_logging(disk, log)
    log.clear()
    request = lone(disk, blk.T_GET_ID, 0, 20)
    disk.wait(disk.submit([request]))
    data, status = pages_of(*request.data[0]), pages_of(request.status_gpa, 1)
    assert log.pages() == data | status | used_pages(disk)


def test_nothing_is_marked_without_log_all(plain, log_of):
    disk = plain(size=64)
    log = log_of(disk)
    disk.set_log(log)
    disk.read(0, 4096)
    assert log.pages() == set()


@pytest.mark.parametrize("packed", [False, True], ids=["split", "packed"])
def test_logging_is_switched_on_and_off_on_running_rings(plain, log_of, packed):
    disk = plain(size=64, packed=packed)
    log = log_of(disk)
    for _ in range(5):
        disk.read(0, 4096)
        start_logging(disk, log)
        log.clear()
        disk.read(0, 4096)
        assert log.pages()
        stop_logging(disk)
        log.clear()
        disk.read(0, 4096)
        assert log.pages() == set()


def test_what_is_in_flight_when_logging_begins_is_marked(stage, opened, log_of):
    disk = tracked(opened, stage.path("held"), False)
    start(disk)
    log = log_of(disk)
    with stage.hold():
        requests = disk.submit([lone(disk, blk.T_IN, i, 512) for i in range(4)])
        wait_taken(disk, 4)
        start_logging(disk, log)
        log.clear()
    disk.wait(requests)
    for request in requests:
        assert pages_of(request.status_gpa, 1) <= log.pages()


def test_the_log_starts_at_its_offset(plain, log_of):
    for offset in (4096, 0x10000, 100 * 4096):
        disk = plain(size=64)
        log = log_of(disk, offset)
        start_logging(disk, log)
        log.clear()
        request = lone(disk, blk.T_IN, 0, 4096)
        disk.wait(disk.submit([request]))
        data, status = pages_of(*request.data[0]), pages_of(request.status_gpa, 1)
        assert log.pages() == data | status | used_pages(disk)
        assert not any(log.before())
        disk.close()


def test_a_new_log_takes_over_while_rings_run(plain, log_of):
    disk = plain(size=64)
    first, second = log_of(disk), log_of(disk)
    start_logging(disk, first)
    disk.read(0, 4096)
    disk.set_log(second)
    first.clear()
    second.clear()
    disk.read(0, 4096)
    assert first.pages() == set()
    assert second.pages()


def test_a_region_added_later_is_logged_after_a_larger_log_came(plain, log_of):
    """The order of QEMU: the log first, then the memory."""
    disk = plain(size=64, regions=(0, 0, 0))
    start_logging(disk, log_of(disk))
    extra = Region(0x3_0000_0000, 1 << 20, 0x7e90_0000_0000)
    disk.mem.regions.append(extra)
    log = log_of(disk)
    disk.set_log(log)
    disk.add_region(extra)
    request = lone(disk, blk.T_IN, 0, 512)
    request.data = [(extra.gpa + 0x5000, 512)]
    log.clear()
    disk.wait(disk.submit([request]))
    assert (extra.gpa + 0x5000) // PAGE in log.pages()


def test_a_stopped_device_marks_nothing(plain, log_of):
    disk = plain(size=64)
    log = log_of(disk)
    start_logging(disk, log)
    disk.read(0, 4096)
    disk.stop()
    log.clear()
    disk.submit([disk.prepare(blk.T_IN, in_bytes=512)])
    disk.queues[0].kick.signal()
    assert disk.reap(timeout=0.2) == []
    assert log.pages() == set()


def test_several_queues_mark_one_log(plain, log_of):
    disk = plain(size=64, queues=4)
    log = log_of(disk)
    start_logging(disk, log)
    log.clear()
    expected = set()
    for queue in range(4):
        request = lone(disk, blk.T_IN, 0, 4096)
        disk.wait(disk.submit([request], queue=queue), queue=queue)
        expected |= pages_of(*request.data[0]) | pages_of(request.status_gpa, 1)
        expected.add(disk.queues[queue].ring.log_gpa // PAGE)
    assert log.pages() == expected
