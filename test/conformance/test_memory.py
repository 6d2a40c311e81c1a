# SPDX-License-Identifier: BSD-3-Clause
"""Guest memory: the table, the slots, and their changes while rings run."""

import os

import pytest

from vhostuser import BlkDisk, GuestMemory, Queue, Region, Refused, Req, pattern
from vhostuser import blk
from vhostuser import protocol as p

both_kinds = pytest.mark.parametrize("packed", [False, True], ids=["split", "packed"])
MB = 1 << 20


@pytest.fixture
def agreed(stage, opened):
    """A session after negotiation, without memory."""
    disk = BlkDisk(stage.path("plain"))
    opened.later(disk)
    disk.negotiate()
    return disk


def io_at(disk, gpa, seed, size=4096):
    """Writes from, and reads into, guest memory at this address."""
    data = pattern(seed, size)
    disk.mem.write(gpa, data)
    request = disk.prepare(blk.T_OUT, 8, out=bytes(size))
    request.data = [(gpa, size)]
    disk.wait(disk.submit([request]))
    assert request.status == blk.S_OK
    disk.mem.fill(gpa, size, 0)
    request = disk.prepare(blk.T_IN, 8, in_bytes=size)
    request.data = [(gpa, size)]
    disk.wait(disk.submit([request]))
    assert request.status == blk.S_OK
    assert disk.mem.read(gpa, size) == data


@both_kinds
def test_eight_regions_in_any_order(plain, packed):
    layout = [((7 - i) * 0x1_0000_0000, 2 * MB, 0x7e00_0000_0000 + (i * 5 % 8) * 0x10_0000_0000,
               i * 0x1000)
              for i in range(8)]
    disk = plain(packed=packed, mem=GuestMemory(layout))
    for i, region in enumerate(disk.mem.regions):
        io_at(disk, region.end - 4096, i)


def test_user_addresses_are_only_those_of_the_table(plain):
    """Guest address 0 of one region is the user address of another: mixing them up would be
    seen."""
    mem = GuestMemory(((0x10_0000, 4 * MB, 0x4000_0000, 0), (0x4000_0000, 4 * MB, 0x10_0000, 0)))
    disk = plain(mem=mem, regions=(0, 1, 0))
    io_at(disk, 0x10_0000 + 3 * MB, 1)
    io_at(disk, 0x4000_0000 + 3 * MB, 2)


def test_an_offset_into_the_file_need_not_be_a_page(plain):
    """hugetlbfs files are mapped at huge page boundaries; the offset of a region may lie
    anywhere."""
    fd = os.memfd_create("fe-ram", os.MFD_CLOEXEC)
    os.ftruncate(fd, 8 * MB)
    mem = GuestMemory(((0, 4 * MB, 0x7e00_0000_0000, 0),))
    extra = Region(0x1_0000_0000, MB, 0x7e80_0000_0000, 0x5000, fd)
    os.close(fd)
    mem.regions.append(extra)
    disk = plain(mem=mem, regions=(0, 0, 0))
    io_at(disk, 0x1_0000_0000 + 0x2345, 3)


@both_kinds
def test_a_larger_table_reaches_running_rings(plain, packed):
    disk = plain(packed=packed)
    disk.read(0, 512)
    disk.mem.regions.append(Region(0x2_0000_0000, MB, 0x7e90_0000_0000))
    disk.set_mem_table(disk.mem)
    io_at(disk, 0x2_0000_0000 + 8192, 4)
    io_at(disk, disk.mem.regions[0].end - 8192, 5)


@both_kinds
def test_a_replaced_region_is_used_at_once(plain, packed):
    disk = plain(packed=packed, regions=(0, 0, 0))
    last = disk.mem.regions[2]
    io_at(disk, last.end - 4096, 6)
    new = Region(last.gpa, last.size, last.uva, 0x8000)
    disk.mem.regions[2] = new
    disk.set_mem_table(disk.mem)
    new.view[new.size - 4096:] = bytes(4096)
    io_at(disk, new.end - 4096, 7)
    assert last.view[last.size - 4096:].tobytes() == pattern(6, 4096)
    last.close()


@both_kinds
def test_the_table_changes_under_continuous_io(plain, packed):
    disk = plain(packed=packed, size=64, event_idx=True)
    disk.write(0, pattern(1, 32768))
    extra = Region(0x2_0000_0000, MB, 0x7e90_0000_0000)
    with_it = GuestMemory(())
    with_it.regions = disk.mem.regions + [extra]
    for i in range(40):
        requests = disk.submit([disk.prepare(blk.T_IN, 8 * j, in_bytes=4096) for j in range(8)])
        payload, fds = (with_it if i % 2 else disk.mem).table()
        disk.tell(Req.SET_MEM_TABLE, payload, fds)
        disk.wait(requests)
        assert b"".join(request.payload() for request in requests) == pattern(1, 32768)
        for request in requests:
            disk.release(request)
    extra.close()


def test_the_table_changes_while_requests_are_in_flight(stage, opened):
    disk = opened(stage.path("late"))
    requests = disk.submit([disk.prepare(blk.T_IN, i, in_bytes=512) for i in range(8)])
    disk.mem.regions.append(Region(0x2_0000_0000, MB, 0x7e90_0000_0000))
    disk.set_mem_table(disk.mem)
    disk.wait(requests)
    assert {request.status for request in requests} == {blk.S_OK}


def test_memory_may_come_before_and_after_the_ring_is_configured(agreed):
    disk = agreed
    disk.mem = GuestMemory()
    ring = disk.new_ring(16)
    disk.set_vring_num(0, 16)
    disk.set_vring_base(0, 0)
    disk.set_mem_table(disk.mem)
    queue = Queue(0, ring)
    disk.queues[0] = queue
    disk.set_vring_addr(0, ring)
    disk.set_mem_table(disk.mem)
    disk.set_vring_call(0, queue.call)
    disk.set_vring_kick(0, queue.kick)
    disk.set_vring_enable(0)
    disk.read(0, 512)


def test_the_number_of_slots_is_509(agreed):
    assert agreed.ask_u64(Req.GET_MAX_MEM_SLOTS) == 509


@both_kinds
def test_memory_may_come_in_slots_alone(agreed, packed):
    disk = agreed
    if packed:
        disk.set_features(disk.features | p.bits(34))
    disk.mem = GuestMemory()
    for region in disk.mem.regions:
        disk.add_region(region)
    disk.start_queue(Queue(0, disk.new_ring(64)))
    for i, region in enumerate(disk.mem.regions):
        io_at(disk, region.end - 8192, i)


def test_a_slot_may_be_added_and_removed_while_rings_run(plain):
    disk = plain(regions=(0, 0, 0))
    for i in range(10):
        extra = Region(0x2_0000_0000, MB, 0x7e90_0000_0000, i * 4096)
        disk.add_region(extra)
        disk.mem.regions.append(extra)
        io_at(disk, 0x2_0000_0000 + 4096 * i, i)
        disk.mem.regions.remove(extra)
        disk.remove_region(extra)
        extra.close()
    disk.read(0, 512)


def test_509_slots_can_be_filled_used_and_emptied(agreed, stage, refused):
    disk = agreed
    slots = 509
    size = 64 << 10
    before = stage.figures()
    fd = os.memfd_create("fe-ram", os.MFD_CLOEXEC)
    os.ftruncate(fd, slots * size)
    mem = GuestMemory(())
    # Added from both ends towards the middle, so that sorting them is of use.
    order = [i // 2 if i % 2 == 0 else slots - 1 - i // 2 for i in range(slots)]
    for i in order:
        region = Region(i * 0x100_0000, size, 0x7e00_0000_0000 + (slots - i) * 0x100_0000, i * size,
                        fd)
        mem.regions.append(region)
        disk.add_region(region)
    disk.mem = mem
    one_more = Region(0x9_0000_0000, size, 0x7ef0_0000_0000)
    if refused(disk, Req.ADD_MEM_REG, p.U64.pack(0) + one_more.payload(),
               [one_more.fd]) == "closed":
        pytest.fail("asking for one slot too many has ended the session")
    one_more.close()
    disk.start_queue(Queue(0, disk.new_ring(16)))
    for i in range(0, slots, 50):
        io_at(disk, i * 0x100_0000 + 32768, i)
    disk.get_vring_base(0)
    for region in mem.regions:
        disk.remove_region(region)
    # Unmapped in the background, but without waiting for the end of the session.
    assert stage.wait_unmapped(before) == []
    os.close(fd)
    disk.close()
    assert stage.wait_settled(before) == ""


@pytest.mark.parametrize("what", ["guest address", "user address", "size"])
def test_removing_a_slot_that_is_not_there_is_refused(plain, refused, what):
    disk = plain()
    region = disk.mem.regions[2]
    wrong = {
        "guest address": p.REGION.pack(region.gpa + 4096, region.size, region.uva, 0),
        "user address": p.REGION.pack(region.gpa, region.size, region.uva + 4096, 0),
        "size": p.REGION.pack(region.gpa, region.size - 4096, region.uva, 0),
    }[what]
    assert refused(disk, Req.REM_MEM_REG, p.U64.pack(0) + wrong) == "error"
    disk.read(0, 512)


def test_the_offset_does_not_matter_when_a_slot_is_removed(plain):
    disk = plain()
    extra = Region(0x2_0000_0000, MB, 0x7e90_0000_0000, 0x3000)
    disk.add_region(extra)
    disk.tell(Req.REM_MEM_REG,
              p.U64.pack(0) + p.REGION.pack(extra.gpa, extra.size, extra.uva, 0x77000))
    disk.add_region(extra)
    disk.remove_region(extra)
    extra.close()


def test_a_descriptor_that_comes_with_the_removal_is_closed(plain, stage):
    disk = plain()
    extra = Region(0x2_0000_0000, MB, 0x7e90_0000_0000)
    before = stage.figures()
    for _ in range(5):
        disk.add_region(extra)
        try:
            disk.tell(Req.REM_MEM_REG, p.U64.pack(0) + extra.payload(), [extra.fd])
        except Refused:
            # "MAY accept": the other answer leaves the region where it is.
            disk.remove_region(extra)
    extra.close()
    assert stage.wait_settled(before) == ""
    disk.read(0, 512)


@pytest.mark.parametrize("gpa, uva", [(0x4000_0000, 0x7ea0_0000_0000),
                                      (0x2_0000_0000, 0x7e10_0000_0000),
                                      (0x4000_0000 + 8 * MB - 4096, 0x7ea0_0000_0000),
                                      (0x4000_0000 - MB + 1, 0x7ea0_0000_0000)],
                         ids=["guest address", "user address", "tail", "head"])
def test_a_slot_that_overlaps_another_is_refused(plain, refused, gpa, uva):
    disk = plain()
    extra = Region(gpa, MB, uva)
    assert refused(disk, Req.ADD_MEM_REG, p.U64.pack(0) + extra.payload(), [extra.fd]) == "error"
    extra.close()
    disk.read(0, 4096)


def test_a_refused_table_leaves_the_former_one(plain, refused):
    disk = plain()
    bad = Region(0, MB, 0x7ea0_0000_0000)
    payload = p.MEM_HEADER.pack(2, 0) + bad.payload() + bad.payload()
    assert refused(disk, Req.SET_MEM_TABLE, payload, [bad.fd, bad.fd]) == "error"
    bad.close()
    io_at(disk, disk.mem.regions[2].end - 4096, 9)


def test_memory_is_given_back_when_the_session_ends(stage, opened):
    before = stage.figures()
    for _ in range(3):
        disk = opened(stage.path("plain"))
        disk.read(0, 4096)
        assert len(stage.figures().foreign) >= 3
        disk.close()
        assert stage.wait_settled(before) == ""
