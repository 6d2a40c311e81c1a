# SPDX-License-Identifier: BSD-3-Clause
"""virtio-blk requests of every legal shape, and their results (VIRTIO 1.2, section 5.2.6)."""

import pytest

from vhostuser import F, GuestMemory, pattern
from vhostuser import blk


@pytest.fixture(params=["plain", "file"], ids=["memory", "file"])
def plain(request, stage, opened):
    """Every test of this file runs on a disk in memory and on one in a file."""
    def open_(**keywords):
        return opened(stage.path(request.param), **keywords)

    return open_


both_kinds = pytest.mark.parametrize("packed", [False, True], ids=["split", "packed"])


@both_kinds
def test_what_was_written_is_read(plain, packed):
    disk = plain(packed=packed)
    for sector, size in ((0, 512), (8, 4096), (100, 65536), (131071, 512),
                         (131072 - 2048, 1 << 20)):
        disk.write(sector, pattern(sector, size))
        assert disk.read(sector, size) == pattern(sector, size)


@pytest.mark.parametrize("packed, indirect", [(False, False), (False, True), (True, False),
                                              (True, True)])
def test_data_may_be_in_many_pieces_of_any_length(plain, packed, indirect):
    disk = plain(packed=packed, indirect=indirect, size=128)
    data = pattern(7, 8192)
    for pieces in ([8192], [4096, 4096], [1, 8191], [511, 1, 7680], [100] * 81 + [92],
                   [3, 5, 7, 11, 8166]):
        disk.write(64, data, pieces=pieces)
        assert disk.read(64, 8192) == data
        disk.write(64, bytes(8192))
        disk.write(64, data)
        assert disk.read(64, 8192, pieces=pieces) == data


@pytest.mark.parametrize("packed", [False, True], ids=["split", "packed"])
def test_as_many_segments_as_seg_max_says(plain, packed):
    disk = plain(packed=packed, size=512, indirect=True,
                 mem=GuestMemory(((0, 32 << 20, 0x7e10_0000_0000, 0),)))
    count = disk.config("seg_max")
    data = pattern(9, 512 * count)
    for indirect in (False, True):
        disk.write(0, bytes(512 * count))
        disk.write(0, data, pieces=[512] * count, indirect=indirect)
        assert disk.read(0, 512 * count, pieces=[512] * count, indirect=indirect) == data


def test_a_segment_as_long_as_size_max_says(plain):
    disk = plain(mem=GuestMemory(((0, 4 << 20, 0x7e10_0000_0000, 0),
                                  (0x1000_0000, 32 << 20, 0x7e20_0000_0000, 0))))
    size = min(disk.config("size_max"), 8 << 20) & ~511
    data = pattern(3, size)
    disk.write(0, data)
    assert disk.read(0, size) == data


@both_kinds
@pytest.mark.parametrize("header_pieces", [[16], [8, 8], [1, 15], [4, 4, 4, 4], [1] * 16])
def test_the_header_may_be_in_pieces(plain, packed, header_pieces):
    disk = plain(packed=packed)
    disk.write(24, pattern(1, 2048), header_pieces=header_pieces)
    assert disk.read(24, 2048, header_pieces=header_pieces) == pattern(1, 2048)


both_tables = pytest.mark.parametrize("indirect", [False, True], ids=["direct", "indirect"])


@both_kinds
@both_tables
def test_header_and_data_may_share_a_descriptor(plain, packed, indirect):
    """The driver may frame a request as it likes (VIRTIO 1.2, 2.7.4): only the order of the bytes
    counts."""
    disk = plain(packed=packed, indirect=indirect)
    data = pattern(2, 1024)
    request = disk.prepare(blk.T_OUT, 40, out=data)
    block = disk.mem.alloc(16 + 1024)
    disk.mem.write(block, blk.HEADER.pack(blk.T_OUT, 0, 40) + data)
    request.header = [(block, 10), (block + 10, 6 + 1000)]
    request.data = [(block + 1016, 24)]
    disk.wait(disk.submit([request]))
    assert request.status == blk.S_OK
    assert disk.read(40, 1024) == data


@both_kinds
@both_tables
def test_data_and_status_may_share_a_descriptor(plain, packed, indirect):
    disk = plain(packed=packed, indirect=indirect)
    data = pattern(4, 1024)
    disk.write(48, data)
    request = disk.prepare(blk.T_IN, 48, in_bytes=1024)
    block = disk.mem.alloc(1025)
    disk.mem.fill(block, 1025, 0xee)
    disk.queues[0].ring.add([(request.header[0][0], 16, False), (block, 600, True),
                             (block + 600, 425, True)], request, indirect=indirect)
    disk.queues[0].notify()
    disk.wait([request])
    assert disk.mem.read(block, 1025) == data + bytes((blk.S_OK,))
    assert request.length == 1025


@both_kinds
def test_a_buffer_may_cross_from_one_region_into_the_next(plain, packed):
    """Two regions that are neighbours in guest addresses, but neither in user addresses nor in the
    file."""
    mem = GuestMemory(((0, 1 << 20, 0x7e30_0000_0000, 0),
                       (1 << 20, 1 << 20, 0x7e10_0000_0000, 0x3000),
                       (2 << 20, 4 << 20, 0x7e20_0000_0000, 0)))
    disk = plain(packed=packed, mem=mem)
    data = pattern(6, 8192)
    disk.write(0, data)
    request = disk.prepare(blk.T_IN, 0, in_bytes=8192)
    at = (1 << 20) - 3000
    request.data = [(at, 8192)]
    disk.wait(disk.submit([request]))
    assert request.status == blk.S_OK
    assert mem.read(at, 3000) + mem.read(1 << 20, 8192 - 3000) == data
    mem.write(at, data[::-1][:3000])
    mem.write(1 << 20, data[::-1][3000:])
    request = disk.prepare(blk.T_OUT, 16, out=bytes(8192))
    request.data = [(at, 8192)]
    disk.wait(disk.submit([request]))
    assert disk.read(16, 8192) == data[::-1]


def test_buffers_need_no_alignment(plain):
    disk = plain()
    base = disk.mem.alloc(16384, 4096)
    for offset in (1, 3, 511, 513, 4095):
        data = pattern(offset, 4096)
        disk.mem.write(base + offset, data)
        request = disk.prepare(blk.T_OUT, 8, out=bytes(4096))
        request.data = [(base + offset, 4096)]
        disk.wait(disk.submit([request]))
        assert request.status == blk.S_OK
        assert disk.read(8, 4096) == data


def test_nothing_but_the_buffer_is_written_by_a_read(plain):
    disk = plain()
    disk.write(0, pattern(1, 4096))
    base = disk.mem.alloc(12288, 4096)
    disk.mem.fill(base, 12288, 0x5a)
    request = disk.prepare(blk.T_IN, 0, in_bytes=4096)
    request.data = [(base + 4096, 4096)]
    disk.wait(disk.submit([request]))
    assert disk.mem.read(base, 12288) == b"\x5a" * 4096 + pattern(1, 4096) + b"\x5a" * 4096


def test_a_write_does_not_change_its_buffer(plain):
    disk = plain()
    data = pattern(8, 4096)
    request = disk.prepare(blk.T_OUT, 8, out=data)
    disk.wait(disk.submit([request]))
    assert request.payload() == data


def test_flush_succeeds(plain):
    plain(features=(F.BLK_FLUSH,)).flush()


def test_get_id_is_a_padded_string(plain):
    name = plain().get_id()
    assert len(name) == 20
    text = name.split(b"\0")[0]
    assert text and all(0x20 < byte < 0x7f for byte in text)
    assert set(name[len(text):]) <= {0}


def test_two_disks_have_different_ids(stage, opened):
    assert opened(stage.path("plain")).get_id() != opened(stage.path("victim0")).get_id()


@pytest.mark.parametrize("kind", [2, 3, 7, 9, 10, 99, 0x7fffffff, 0xffffffff])
def test_an_unknown_request_type_is_answered_unsupported(plain, kind):
    disk = plain()
    for shape in ({"in_bytes": 512}, {"out": bytes(512)}, {}):
        status, _, length = disk.run(kind, 0, **shape)
        assert status == blk.S_UNSUPP
        assert length <= shape.get("in_bytes", 0) + 1
    disk.read(0, 512)


@both_kinds
def test_the_used_length_counts_data_read_and_status(plain, packed):
    disk = plain(packed=packed)
    assert disk.run(blk.T_IN, 0, in_bytes=1536)[2] == 1537
    assert disk.run(blk.T_OUT, 0, out=bytes(1536))[2] == 1
    assert disk.run(blk.T_FLUSH)[2] == 1
    assert disk.run(blk.T_GET_ID, in_bytes=20)[2] == 21


def test_the_whole_disk_can_be_read_and_its_last_sector_written(plain):
    disk = plain(mem=GuestMemory(((0, 16 << 20, 0x7e30_0000_0000, 0),)))
    capacity = disk.capacity
    disk.write(capacity - 1, pattern(5, 512))
    step = 2048
    last = b""
    for sector in range(capacity - 4 * step, capacity, step):
        last = disk.read(sector, step * 512)
    assert last[-512:] == pattern(5, 512)


def test_the_storage_outlives_the_session(plain):
    disk = plain()
    disk.write(5000, pattern(77, 4096))
    disk.stop()
    disk.close()
    assert plain(packed=True).read(5000, 4096) == pattern(77, 4096)


@both_kinds
def test_a_disk_of_larger_blocks_takes_nothing_less_than_a_block(stage, opened, packed):
    """Sectors have 512 bytes whatever the size of a block (VIRTIO 1.2, 5.2.4)."""
    kinds = {blk.T_DISCARD: F.BLK_DISCARD, blk.T_WRITE_ZEROES: F.BLK_WRITE_ZEROES,
             blk.T_SECURE_ERASE: F.BLK_SECURE_ERASE}
    disk = opened(stage.path("blocks"), packed=packed, features=(F.BLK_BLK_SIZE, *kinds.values()))
    assert disk.config("blk_size") == 4096
    assert disk.capacity == (16 << 20) // 512
    data = pattern(12, 16384)
    disk.write(0, data)
    for sector, size in ((0, 512), (0, 3584), (0, 4608), (1, 4096), (7, 4096), (4, 8192), (8, 512)):
        assert disk.run(blk.T_IN, sector, in_bytes=size)[0] == blk.S_IOERR, (sector, size)
        assert disk.run(blk.T_OUT, sector, out=bytes(size))[0] == blk.S_IOERR, (sector, size)
        for kind in kinds:
            assert disk.ranges(kind, [(sector, size // 512)]) == blk.S_IOERR, (kind, sector, size)
    assert disk.read(0, 16384) == data
    assert disk.read(8, 4096, pieces=[1, 511, 3584]) == data[4096:8192]
    disk.write(disk.capacity - 8, data[:4096])
    assert disk.ranges(blk.T_WRITE_ZEROES, [(8, 8)]) == blk.S_OK
    assert disk.read(0, 16384) == data[:4096] + bytes(4096) + data[8192:]
