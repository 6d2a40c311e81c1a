# SPDX-License-Identifier: BSD-3-Clause
"""DISCARD, WRITE_ZEROES and SECURE_ERASE (VIRTIO 1.2, sections 5.2.3 to 5.2.6): what is offered, what it
does to the disk, and every kind of list that a guest must not send."""

import pytest

from vhostuser import F, pattern
from vhostuser import blk

KINDS = {"discard": (blk.T_DISCARD, F.BLK_DISCARD),
         "write_zeroes": (blk.T_WRITE_ZEROES, F.BLK_WRITE_ZEROES),
         "secure_erase": (blk.T_SECURE_ERASE, F.BLK_SECURE_ERASE)}
#: by disk of the stage
OFFERED = {"plain": ("discard", "write_zeroes", "secure_erase"), "file": ("discard", "write_zeroes"),
           "null": ("discard", "write_zeroes", "secure_erase"), "readonly": ()}
TOP = 1 << 64
PAGE = 8                                # in sectors
both_kinds = pytest.mark.parametrize("packed", [False, True], ids=["split", "packed"])


def bits(name):
    return tuple(KINDS[kind][1] for kind in OFFERED[name])


@pytest.fixture(params=["plain", "file"], ids=["memory", "file"])
def disk_of(request, stage, opened):
    """Opens a session on a disk in memory or in a file, with all that it offers of ranges."""
    def open_(**keywords):
        return opened(stage.path(request.param), features=bits(request.param), **keywords)

    open_.kinds = OFFERED[request.param]
    return open_


@pytest.mark.parametrize("name", OFFERED)
def test_what_a_driver_cannot_is_not_offered(stage, opened, name):
    disk = opened(stage.path(name))
    for kind, (request, feature) in KINDS.items():
        offered = kind in OFFERED[name]
        assert (disk.offered >> feature & 1) == offered, kind
        assert (disk.config("max_%s_sectors" % kind) != 0) == offered
        assert (disk.config("max_%s_seg" % kind) != 0) == offered
        # This session has not negotiated any of them.
        assert disk.ranges(request, [(0, 8)]) == blk.S_UNSUPP
    if "discard" in OFFERED[name]:
        assert disk.config("discard_sector_alignment") * 512 % disk.config("blk_size") == 0
    if "secure_erase" in OFFERED[name]:
        assert disk.config("secure_erase_sector_alignment") > 0


@both_kinds
def test_zeroes_are_where_they_were_asked_for_and_nowhere_else(disk_of, packed):
    disk = disk_of(packed=packed)
    data = pattern(5, 64 * 512)
    for flags in (0, blk.UNMAP):
        for ranges in ([(PAGE, 1)], [(PAGE, PAGE)], [(9, 3), (20, 1), (40, 24)], [(32, 8), (16, 8)],
                       [(8, 16), (12, 8)]):
            disk.write(0, data)
            assert disk.ranges(blk.T_WRITE_ZEROES, ranges, flags) == blk.S_OK
            expected = bytearray(data)
            for sector, count in ranges:
                expected[sector * 512:(sector + count) * 512] = bytes(count * 512)
            assert disk.read(0, len(data)) == expected, (flags, ranges)


@both_kinds
def test_a_discard_touches_nothing_else(disk_of, packed):
    disk = disk_of(packed=packed)
    data = pattern(6, 64 * 512)
    for kind in ("discard", "secure_erase"):
        if kind not in disk_of.kinds:
            continue
        disk.write(0, data)
        assert disk.ranges(KINDS[kind][0], [(16, 8), (32, 8)]) == blk.S_OK
        got = disk.read(0, len(data))
        for begin, end in ((0, 16), (24, 32), (40, 64)):
            assert got[begin * 512:end * 512] == data[begin * 512:end * 512]
        # And what was discarded can be written again.
        disk.write(0, data)
        assert disk.read(0, len(data)) == data


@pytest.mark.parametrize("kind", ["discard", "write_zeroes"])
def test_as_many_and_as_large_as_the_config_space_says(disk_of, kind):
    disk = disk_of()
    count = disk.config("max_%s_seg" % kind)
    most = min(disk.config("max_%s_sectors" % kind), disk.capacity - 1024)
    assert count > 1
    assert disk.ranges(KINDS[kind][0], [(1024 + i * 8, 8) for i in range(count)]) == blk.S_OK
    assert disk.ranges(KINDS[kind][0], [(1024, most)], timeout=30) == blk.S_OK
    assert disk.ranges(KINDS[kind][0], [(0, 8)] * (count + 1)) == blk.S_IOERR


@both_kinds
@pytest.mark.parametrize("pieces", [[48], [16, 32], [1, 47], [15, 17, 16], [8] * 6])
def test_the_list_may_be_in_pieces(disk_of, packed, pieces):
    disk = disk_of(packed=packed)
    disk.write(0, pattern(7, 64 * 512))
    assert disk.ranges(blk.T_WRITE_ZEROES, [(0, 8), (16, 8), (32, 8)], pieces=pieces) == blk.S_OK
    assert disk.read(32, 4096) == bytes(4096)
    assert disk.read(40, 4096) == pattern(7, 64 * 512)[40 * 512:48 * 512]


def test_many_at_a_time_complete_once_each(disk_of):
    disk = disk_of()
    disk.write(0, pattern(8, 256 * 512))
    requests = [disk.prepare(blk.T_WRITE_ZEROES, out=blk.RANGE.pack(i * 8, 4, 0)
                             + blk.RANGE.pack(i * 8 + 4, 4, 0)) for i in range(30)]
    disk.wait(disk.submit(requests))
    assert all(request.status == blk.S_OK and request.length == 1 for request in requests)
    assert disk.read(0, 240 * 512) == bytes(240 * 512)
    assert disk.read(240, 16 * 512) == pattern(8, 256 * 512)[240 * 512:]


# ---- nonsense

CAPACITY = (4 << 20) // 512             # of the victim
ALL = tuple(feature for _, feature in KINDS.values())
each_kind = pytest.mark.parametrize("kind", [request for request, _ in KINDS.values()],
                                    ids=list(KINDS))


def filled(scene, **keywords):
    disk = scene.open(features=ALL, **keywords)
    disk.write(0, pattern(1, 4096))
    disk.write(CAPACITY - 8, pattern(2, 4096))
    return disk


def unchanged(scene, disk):
    assert disk.read(0, 4096) == pattern(1, 4096)
    assert disk.read(CAPACITY - 8, 4096) == pattern(2, 4096)
    scene.goes_on(disk)


@each_kind
@both_kinds
def test_ranges_beyond_the_end_are_io_errors(scene, kind, packed):
    disk = filled(scene, packed=packed)
    for sector, count in ((CAPACITY, 1), (CAPACITY - 8, 9), (CAPACITY + 1, 0), (0, CAPACITY + 1),
                          (0, 0xffffffff), (8, 0xffffffff), (TOP - 1, 1), (TOP - 8, 8), (TOP - 8, 16),
                          (1 << 55, 8), ((1 << 55) - 8, 8), (1 << 63, 1)):
        assert disk.ranges(kind, [(sector, count)]) == blk.S_IOERR, (sector, count)
        # Nothing of a list is done when a part of it is wrong.
        assert disk.ranges(kind, [(0, 8), (CAPACITY - 8, 8), (sector, count)]) == blk.S_IOERR
    unchanged(scene, disk)


@each_kind
def test_flags_that_nobody_knows_are_not_supported(scene, kind):
    disk = filled(scene)
    for flags in [1 << bit for bit in range(1, 32)] + [0xffffffff, 3]:
        assert disk.ranges(kind, [(0, 8)], flags) == blk.S_UNSUPP, flags
    if kind != blk.T_WRITE_ZEROES:
        assert disk.ranges(kind, [(0, 8)], blk.UNMAP) == blk.S_UNSUPP
    unchanged(scene, disk)


@each_kind
@both_kinds
def test_lists_of_odd_sizes_are_io_errors(scene, kind, packed):
    disk = filled(scene, packed=packed)
    one = blk.RANGE.pack(0, 8, 0)
    for out in (one[:1], one[:15], one + one[:1], one * 2 + one[:8], one * 65, one * 256):
        assert disk.run(kind, out=out)[0] == blk.S_IOERR, len(out)
    assert disk.run(kind)[0] == blk.S_IOERR
    unchanged(scene, disk)


@each_kind
def test_a_list_in_the_wrong_direction_is_not_read(scene, kind):
    disk = filled(scene)
    request = disk.prepare(kind, in_bytes=16)
    disk.mem.scatter(request.data, blk.RANGE.pack(0, 8, 0))
    disk.wait(disk.submit([request]))
    assert request.status == blk.S_IOERR
    assert request.payload() == blk.RANGE.pack(0, 8, 0)
    unchanged(scene, disk)


@each_kind
def test_a_flood_of_long_lists_leaves_others_their_turn(scene, kind):
    """Every slot of a ring asks for as many ranges as may be, all of them nearly the whole disk."""
    disk = scene.open(features=ALL, queues=2)
    out = blk.RANGE.pack(16, CAPACITY - 16, 0) * 64
    requests = [disk.prepare(kind, out=out) for _ in range(10)]
    disk.submit(requests)
    scene.goes_on(disk, queue=1)
    disk.wait(requests, timeout=60)
    assert all(request.status == blk.S_OK for request in requests)


def test_a_read_only_disk_erases_nothing(stage, opened):
    disk = opened(stage.path("readonly"))
    for kind, _ in KINDS.values():
        assert disk.ranges(kind, [(0, 8)]) in (blk.S_UNSUPP, blk.S_IOERR)
    disk.read(0, 4096)
