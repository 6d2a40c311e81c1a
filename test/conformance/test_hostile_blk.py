# SPDX-License-Identifier: BSD-3-Clause
"""Block requests of nonsense: places beyond the disk, lengths that are no sectors, headers and
status bytes that are missing, data in the wrong direction. Answered with an error status where
there is a place for one; the storage does not change."""

import pytest

from vhostuser import GuestMemory, pattern
from vhostuser import blk

TOP = 1 << 64
both_kinds = pytest.mark.parametrize("packed", [False, True], ids=["split", "packed"])
#: of the victim
CAPACITY = (4 << 20) // 512


def unharmed(disk):
    for sector in (0, CAPACITY - 8):
        disk.write(sector, pattern(sector, 4096))
        assert disk.read(sector, 4096) == pattern(sector, 4096)


@both_kinds
@pytest.mark.parametrize("sector, size", [
    (CAPACITY, 512), (CAPACITY - 1, 1024), (CAPACITY - 7, 4096), (CAPACITY + 1, 512),
    (1 << 32, 512), (1 << 55, 512),
    ((1 << 55) - 1, 512), ((1 << 55) + 8, 4096), (TOP - 1, 512), (TOP - 1, 1024), (TOP - 8, 4096),
    (TOP // 512, 512),
    (1 << 63, 512),
])
def test_a_sector_beyond_the_end_is_an_io_error(scene, packed, sector, size):
    disk = scene.open(packed=packed)
    unharmed(disk)
    status, _, length = disk.run(blk.T_IN, sector, in_bytes=size)
    assert status == blk.S_IOERR
    assert length <= size + 1
    assert disk.run(blk.T_OUT, sector, out=b"\xff" * size)[0] == blk.S_IOERR
    assert disk.read(0, 4096) == pattern(0, 4096)
    assert disk.read(CAPACITY - 8, 4096) == pattern(CAPACITY - 8, 4096)


@both_kinds
@pytest.mark.parametrize("size", [1, 511, 513, 1023, 4095, 4097])
def test_a_length_that_is_no_multiple_of_a_sector_is_an_io_error(scene, packed, size):
    disk = scene.open(packed=packed)
    unharmed(disk)
    assert disk.run(blk.T_IN, 0, in_bytes=size)[0] == blk.S_IOERR
    assert disk.run(blk.T_OUT, 0, out=b"\xff" * size)[0] == blk.S_IOERR
    assert disk.read(0, 4096) == pattern(0, 4096)


def test_an_odd_length_in_pieces_is_seen_as_a_whole(scene):
    disk = scene.open()
    assert disk.run(blk.T_IN, 0, in_bytes=1000, pieces=[512, 488])[0] == blk.S_IOERR
    assert disk.run(blk.T_OUT, 0, out=bytes(1000), pieces=[1, 999])[0] == blk.S_IOERR
    disk.write(0, pattern(1, 1024), pieces=[1, 1023])


def test_no_data_at_all(scene):
    """A transfer of nothing is answered: with success or an error, but answered."""
    disk = scene.open()
    for kind in (blk.T_IN, blk.T_OUT):
        for sector in (0, CAPACITY, TOP - 1):
            assert disk.run(kind, sector)[0] in (blk.S_OK, blk.S_IOERR)
    scene.goes_on(disk)


def put(disk, chain):
    ring = disk.queues[0].ring
    ring.add(chain, None)
    ring.publish()
    disk.queues[0].kick.signal()


def blocks(disk):
    """Guest addresses of (header, data, status), the header that of a write to sector 0."""
    header, data, status = disk.mem.alloc(16), disk.mem.alloc(4096, 16), disk.mem.alloc(16)
    disk.mem.write(header, blk.HEADER.pack(blk.T_OUT, 0, 0))
    disk.mem.fill(data, 4096, 0xff)
    disk.mem.fill(status, 1, blk.PENDING)
    return header, data, status


REQUEST = r"request|status|header|short|writable"


@both_kinds
@pytest.mark.parametrize("shape", ["header only", "header and data", "status is readable",
                                   "nothing writable",
                                   "header is writable", "one byte"])
def test_a_request_without_a_place_for_its_status_breaks_the_ring(scene, packed, shape):
    disk = scene.open(queues=2, packed=packed)
    unharmed(disk)
    header, data, status = blocks(disk)
    put(disk, {
        "header only": [(header, 16, False)],
        "header and data": [(header, 16, False), (data, 512, False)],
        "status is readable": [(header, 16, False), (data, 512, False), (status, 1, False)],
        "nothing writable": [(header, 16, False)] * 5,
        "one byte": [(header, 1, False)],
        "header is writable": [(header, 16, False), (data, 512, False), (data, 16, False)],
    }[shape])
    scene.broken(disk, REQUEST)
    scene.goes_on(disk, queue=1)
    assert disk.read(0, 4096, queue=1) == pattern(0, 4096)


@both_kinds
@pytest.mark.parametrize("length", [1, 8, 15])
def test_a_short_header_is_an_error_and_writes_nothing(scene, packed, length):
    disk = scene.open(queues=2, packed=packed)
    unharmed(disk)
    header, _, status = blocks(disk)
    put(disk, [(header, length, False), (status, 1, True)])
    contained(disk, status)
    assert disk.read(0, 4096, queue=1) == pattern(0, 4096)


@both_kinds
def test_only_writable_parts_are_an_error_and_write_nothing(scene, packed):
    disk = scene.open(queues=2, packed=packed)
    unharmed(disk)
    _, data, status = blocks(disk)
    put(disk, [(data, 512, True), (status, 1, True)])
    contained(disk, status)
    assert disk.read(0, 4096, queue=1) == pattern(0, 4096)


def contained(disk, status):
    """The request is answered with an error, or the ring is broken."""
    if disk.queues[0].wait_used(0.5):
        assert disk.mem.read(status, 1)[0] in (blk.S_IOERR, blk.S_UNSUPP)
    else:
        assert disk.queues[0].err.count() > 0
    disk.fence()


@both_kinds
def test_a_read_into_readable_data_transfers_nothing(scene, packed):
    disk = scene.open(queues=2, packed=packed)
    unharmed(disk)
    header, data, status = blocks(disk)
    disk.mem.write(header, blk.HEADER.pack(blk.T_IN, 0, 0))
    put(disk, [(header, 16, False), (data, 4096, False), (status, 1, True)])
    contained_or_empty(disk, status)
    assert disk.mem.read(data, 4096) == b"\xff" * 4096


@both_kinds
def test_a_write_from_writable_data_transfers_nothing(scene, packed):
    disk = scene.open(queues=2, packed=packed)
    unharmed(disk)
    header, data, status = blocks(disk)
    put(disk, [(header, 16, False), (data, 4096, True), (status, 1, True)])
    contained_or_empty(disk, status)
    assert disk.read(0, 4096, queue=1) == pattern(0, 4096)


def contained_or_empty(disk, status):
    if disk.queues[0].wait_used(0.5):
        assert disk.mem.read(status, 1)[0] in (blk.S_OK, blk.S_IOERR, blk.S_UNSUPP)
    else:
        assert disk.queues[0].err.count() > 0
    disk.fence()


@pytest.mark.parametrize("size", [1, 8, 19, 21, 64, 4096])
def test_get_id_into_a_buffer_of_another_size_stays_within_it(scene, size):
    disk = scene.open()
    request = disk.prepare(blk.T_GET_ID, in_bytes=size)
    block = disk.mem.alloc(size + 64)
    disk.mem.fill(block, size + 64, 0x5a)
    request.data = [(block, size)]
    disk.wait(disk.submit([request]))
    assert request.status in (blk.S_OK, blk.S_IOERR, blk.S_UNSUPP)
    assert request.length <= size + 1
    assert disk.mem.read(block + size, 64) == b"\x5a" * 64
    if size > 20:
        assert disk.mem.read(block + 20, size - 20) in (b"\x5a" * (size - 20), bytes(size - 20))


def test_a_flush_with_data_is_answered(scene):
    disk = scene.open()
    for shape in ({"in_bytes": 512}, {"out": bytes(512)}):
        status, _, _ = disk.run(blk.T_FLUSH, CAPACITY + 5, **shape)
        assert status in (blk.S_OK, blk.S_IOERR, blk.S_UNSUPP)
    scene.goes_on(disk)


def test_discard_and_zeroes_with_garbage_segments_change_nothing(scene):
    disk = scene.open()
    unharmed(disk)
    garbage = b"\xff" * 16
    for kind in (blk.T_DISCARD, blk.T_WRITE_ZEROES, blk.T_SECURE_ERASE):
        for out in (garbage, garbage * 256, b"\xff" * 15, b"\xff" * 17, bytes(16), b""):
            assert disk.run(kind, 0, out=out)[0] in (blk.S_IOERR, blk.S_UNSUPP)
    assert disk.read(0, 4096) == pattern(0, 4096)
    assert disk.read(CAPACITY - 8, 4096) == pattern(CAPACITY - 8, 4096)


@both_kinds
def test_writing_to_a_read_only_disk_in_every_way(stage, opened, packed):
    disk = opened(stage.path("readonly"), packed=packed, indirect=True)
    for shape in ({}, {"pieces": [1, 511]}, {"header_pieces": [8, 8]}):
        for indirect in (False, True):
            assert disk.run(blk.T_OUT, 0, out=b"x" * 512, indirect=indirect,
                            **shape)[0] == blk.S_IOERR
    for kind in (blk.T_DISCARD, blk.T_WRITE_ZEROES, blk.T_SECURE_ERASE):
        assert disk.run(kind, 0, out=bytes(16))[0] in (blk.S_IOERR, blk.S_UNSUPP)
    assert disk.run(blk.T_FLUSH)[0] == blk.S_OK
    assert disk.read(0, 4096) == bytes(4096)


@both_kinds
def test_a_request_larger_than_size_max_and_the_disk(scene, packed):
    disk = scene.open(packed=packed, mem=GuestMemory(((0, 80 << 20, 0x7e30_0000_0000, 0),)))
    for size in (CAPACITY * 512 + 512, 64 << 20):
        assert disk.run(blk.T_IN, 0, in_bytes=size)[0] == blk.S_IOERR
    scene.goes_on(disk)


@both_kinds
def test_errors_among_good_requests_hit_only_their_own(scene, packed):
    disk = scene.open(packed=packed, size=256)
    disk.write(0, pattern(3, 8192))
    requests = []
    for i in range(40):
        bad = i % 5 == 2
        requests.append(disk.prepare(blk.T_IN, CAPACITY + i if bad else i % 16, in_bytes=512))
    disk.wait(disk.submit(requests))
    for i, request in enumerate(requests):
        if i % 5 == 2:
            assert request.status == blk.S_IOERR
        else:
            assert request.status == blk.S_OK
            assert request.payload() == pattern(3, 8192)[i % 16 * 512:][:512]
