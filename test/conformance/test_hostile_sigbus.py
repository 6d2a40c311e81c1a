# SPDX-License-Identifier: BSD-3-Clause
"""Files that are cut after they were mapped: guest memory, rings, logs, inflight regions. Whoever
touches them first gets a SIGBUS; it must cost that one session and nothing else (design, section
4)."""

import os
import re
import time
from contextlib import suppress

import pytest

from test_inflight import resume, wait_all
from vhostuser import BlkDisk, Closed, DirtyLog, F, GuestMemory, Inflight, IoError, Queue, Req, pattern
from vhostuser import blk
from vhostuser import protocol as p

REASON = r"truncate|SIGBUS|bus error|vanish|lost|gone|fault"
both_kinds = pytest.mark.parametrize("packed", [False, True], ids=["split", "packed"])


def aimed(disk, kind, gpa, size, sector=0):
    """A request whose data lies at this address; header and status stay in the region with the most
    room."""
    request = disk.prepare(kind, sector)
    request.data = [(gpa, size)]
    request.writes = kind != blk.T_OUT
    return request


@both_kinds
@pytest.mark.parametrize("kind", [blk.T_IN, blk.T_OUT], ids=["read", "write"])
def test_data_buffers_are_cut_off_before_the_request(scene, packed, kind):
    disk = scene.open(packed=packed, regions=(0, 0, 0))
    scene.goes_on(disk)
    region = disk.mem.regions[2]
    request = aimed(disk, kind, region.gpa + 65536, 65536)
    disk.mem.write(region.gpa, bytes(region.size))          # every page is there, then none is
    region.truncate(0)
    disk.submit([request])
    scene.ended(disk, REASON)


@both_kinds
def test_data_buffers_are_cut_off_in_the_middle(scene, packed):
    disk = scene.open(packed=packed, regions=(0, 0, 0))
    region = disk.mem.regions[2]
    requests = [aimed(disk, blk.T_IN, region.gpa + i * 65536, 65536, i) for i in range(16)]
    region.truncate(8 * 65536 + 100)
    disk.submit(requests)
    scene.ended(disk, REASON)


@both_kinds
@pytest.mark.parametrize("delay", [0, 0.001, 0.003, 0.01])
def test_memory_is_cut_under_continuous_io(scene, packed, delay):
    disk = scene.open(packed=packed, queues=4, size=256, regions=(0, 0, 0))
    region = disk.mem.regions[2]
    for queue in range(4):
        disk.submit([aimed(disk, blk.T_IN if i % 2 else blk.T_OUT, region.gpa + i % 8 * 262144,
                           262144, i)
                     for i in range(40)], queue=queue)
    time.sleep(delay)
    region.truncate(0)
    # More of the same, should the first lot be done already.
    late = [aimed(disk, blk.T_IN, region.gpa, 262144) for i in range(10)]
    disk.submit(late, queue=1)
    disk.queues[1].kick.signal()
    scene.ended(disk, REASON)


@both_kinds
def test_what_met_lost_pages_is_done_again_by_the_next_session(scene, opened, packed):
    """It has written zeros to the disk, or read into pages that are nobody's: no guest is told that it is done."""
    disk = scene.open(packed=packed, queues=0)
    disk.region = disk.get_inflight(1, 64)
    disk.set_inflight(disk.region)
    disk.start_queue(Queue(0, disk.new_ring(64, regions=(0, 0, 0))))
    disk.write(16, pattern(2, 4096))
    mem, region = disk.mem, disk.mem.regions[2]
    requests = [aimed(disk, blk.T_OUT, region.gpa, 4096, 8), aimed(disk, blk.T_IN, region.gpa + 4096, 4096, 16)]
    region.truncate(0)
    disk.submit(requests)
    scene.ended(disk, REASON)
    assert disk.reap(timeout=0) == []
    region.truncate(region.size)
    mem.write(region.gpa, pattern(1, 4096))
    again = resume(opened, scene.path, disk)
    wait_all(again, requests)
    assert mem.read(region.gpa + 4096, 4096) == pattern(2, 4096)
    assert again.read(8, 4096) == pattern(1, 4096)


@both_kinds
def test_the_ring_itself_is_cut_off(scene, packed):
    disk = scene.open(packed=packed, regions=(2, 2, 2))
    disk.read(0, 512)
    time.sleep(0.05)
    disk.mem.regions[2].truncate(0)
    disk.queues[0].kick.signal()
    scene.ended(disk, REASON)


@both_kinds
@pytest.mark.parametrize("part", [0, 1, 2], ids=["descriptors", "available", "used"])
def test_one_part_of_the_ring_is_cut_off(scene, packed, part):
    regions = [0, 0, 0]
    regions[part] = 2
    disk = scene.open(packed=packed, regions=tuple(regions), event_idx=True)
    disk.read(0, 512)
    time.sleep(0.05)
    queue = disk.queues[0]
    if part == 2 or part == 1 and packed:
        # What only completing touches: a request is put before the cut and shown after it.
        request = disk.prepare(blk.T_IN, in_bytes=512)
        queue.ring.add(disk.chain(request), request)
    disk.mem.regions[2].truncate(0)
    if part == 0 and not packed:
        queue.ring.push(0, publish=False)
    if (part, packed) not in ((0, True), (1, False)):       # these two the device reads by itself
        queue.ring.show()
    queue.kick.signal()
    scene.ended(disk, REASON)


@both_kinds
def test_a_polled_ring_is_cut_off(scene, packed):
    disk = scene.open(packed=packed, regions=(2, 2, 2), kick=False)
    disk.read(0, 512)
    time.sleep(0.01)                    # until it is left alone, but for a look at its next offer
    disk.mem.regions[2].truncate(0)
    scene.ended(disk, REASON)


@both_kinds
def test_memory_is_gone_before_the_ring_starts(scene, packed):
    """The control thread looks at the ring when it starts it."""
    disk = scene.bare(features=(F.RING_PACKED,) if packed else ())
    disk.set_mem_table(GuestMemory())
    queue = Queue(0, disk.new_ring(64, regions=(2, 2, 2)))
    base = queue.ring.base
    disk.set_vring_num(0, 64)
    disk.set_vring_base(0, base)
    disk.set_vring_addr(0, queue.ring)
    disk.mem.regions[2].truncate(0)
    with suppress(Closed):  # the first look ends the session
        disk.wire.send(Req.SET_VRING_KICK, p.U64.pack(0), [queue.kick.fd], need_reply=True)
        disk.wire.send(Req.SET_VRING_ENABLE, p.VRING_STATE.pack(0, 1), need_reply=True)
    queue.close()
    scene.ended(disk, REASON)


@both_kinds
def test_memory_is_gone_when_the_ring_stops(scene, packed):
    disk = scene.open(packed=packed, regions=(2, 2, 2))
    disk.read(0, 512)
    time.sleep(0.1)
    disk.mem.regions[2].truncate(0)
    try:
        disk.wire.send(Req.GET_VRING_BASE, p.VRING_STATE.pack(0, 0))
        reply = disk.wire.recv_reply(Req.GET_VRING_BASE)
    except Closed:                      # somebody has looked at the ring before
        scene.ended(disk, REASON)
    else:                               # the base is known without looking at memory
        assert p.VRING_STATE.unpack(reply.payload)[0] == 0 and reply.payload[4:] != bytes(4)


@both_kinds
def test_indirect_tables_are_cut_off(scene, packed):
    disk = scene.open(packed=packed, indirect=True, regions=(0, 0, 0))
    region = disk.mem.regions[2]
    disk.queues[0].ring.add([(region.gpa + 4096, 48, None)])
    ring = disk.queues[0].ring
    if packed:
        slot, word = ring.unshown
        ring.unshown = (slot, word | 4 << 48)
    else:
        ring.set_desc(ring.avail[2 + (ring.next_avail - 1) % ring.size], region.gpa + 4096, 48, 4)
    region.truncate(0)
    disk.queues[0].notify()
    scene.ended(disk, REASON)


@both_kinds
@pytest.mark.parametrize("which", ["header", "status"])
def test_header_or_status_are_cut_off(scene, packed, which):
    disk = scene.open(packed=packed, regions=(0, 0, 0))
    gpa = disk.mem.regions[2].gpa + 512
    request = disk.prepare(blk.T_IN, in_bytes=4096)
    if which == "header":
        request.header = [(gpa, 16)]
    else:
        request.status_gpa = gpa
    disk.mem.regions[2].truncate(0)
    disk.submit([request])
    scene.ended(disk, REASON)


@both_kinds
def test_the_dirty_log_is_cut_off(scene, packed):
    disk = scene.open(packed=packed)
    log = DirtyLog(disk.mem.max_gpa)
    disk.set_log(log)
    disk.set_features(disk.features | p.bits(F.LOG_ALL))
    disk.set_vring_addr(0, disk.queues[0].ring, p.VRING_F_LOG, disk.queues[0].ring.log_gpa)
    disk.read(0, 4096)
    os.ftruncate(log.fd, 0)
    disk.submit([disk.prepare(blk.T_IN, in_bytes=4096)])
    scene.ended(disk, REASON)
    log.close()


@both_kinds
def test_the_inflight_region_is_cut_off(scene, packed):
    disk = scene.open(packed=packed, queues=0)
    region = disk.get_inflight(1, 64)
    disk.set_inflight(region)
    disk.start_queue(Queue(0, disk.new_ring(64)))
    disk.read(0, 512)
    try:
        os.ftruncate(region.fd, 0)
    except PermissionError:
        region.close()                  # sealed by the daemon: it cannot happen
        return
    disk.submit([disk.prepare(blk.T_IN, in_bytes=512)])
    scene.ended(disk, REASON)
    region.close()


@both_kinds
def test_the_front_ends_own_inflight_region_is_cut_off_before_the_ring_starts(scene, packed):
    disk = scene.open(packed=packed, queues=0)
    region = Inflight.create(1, 64, packed)
    disk.set_inflight(region)
    os.ftruncate(region.fd, 0)
    try:
        disk.start_queue(Queue(0, disk.new_ring(64)))
        disk.submit([disk.prepare(blk.T_IN, in_bytes=512)])
    except Exception as error:
        assert type(error).__name__ in ("Closed", "Refused"), error
    scene.ended(disk, REASON + "|inflight")
    region.close()


@both_kinds
def test_the_inflight_region_is_cut_off_when_the_disk_notes_its_cache_there(scene, packed):
    disk = scene.open(packed=packed, queues=0, features=(F.BLK_CONFIG_WCE, F.BLK_FLUSH))
    made = disk.get_inflight(1, 64)
    fd = os.memfd_create("fe-inflight", os.MFD_CLOEXEC)
    os.pwrite(fd, made.map, 0)                  # as the daemon made it, and not sealed
    region = Inflight(made.payload, fd, packed)
    made.close()
    disk.set_inflight(region)
    os.ftruncate(fd, 0)
    with suppress(Closed):
        disk.set_config(32, b"\0")
    scene.ended(disk, REASON)
    region.close()


def test_memory_that_is_cut_and_grows_again_does_not_come_back(scene):
    """What the daemon put in the place of the lost pages is its own; the session is over all the
    same."""
    disk = scene.open(regions=(0, 0, 0))
    region = disk.mem.regions[2]
    request = aimed(disk, blk.T_IN, region.gpa, 65536)
    region.truncate(0)
    region.truncate(region.size)
    region.truncate(0)
    disk.submit([request])
    scene.ended(disk, REASON)


def test_cut_memory_of_an_idle_session_does_no_harm(scene):
    disk = scene.open()
    disk.read(0, 512)
    for region in disk.mem.regions:
        region.truncate(0)
    count = scene.neighbour.count
    time.sleep(0.2)
    scene.neighbour.check(count)


@both_kinds
def test_cutting_again_costs_the_slot_more_each_time(scene, packed):
    # A test before may have left this slot with a time that is not forgotten yet.
    closed_for = r"(\d+)"
    for _ in range(2):
        disk = scene.open(packed=packed, regions=(0, 0, 0))
        region = disk.mem.regions[2]
        request = aimed(disk, blk.T_OUT, region.gpa, 65536)
        region.truncate(0)
        disk.submit([request])
        scene.ended(disk, REASON)
        disk.close()
        said = scene.reason(r"closed for %s s\b" % closed_for)
        closed_for = 2 * int(re.search(r"closed for (\d+) s", said).group(1))


@both_kinds
@pytest.mark.parametrize("kind", [blk.T_IN, blk.T_OUT], ids=["read", "write"])
def test_data_of_a_file_disk_is_cut_off(stage, opened, packed, kind):
    """There the kernel meets the lost pages first: the requests fail, or the session is ended; the
    disk takes the next front end."""
    disk = opened(stage.path("file"), packed=packed, regions=(0, 0, 0), queues=2)
    region = disk.mem.regions[2]
    before = [aimed(disk, kind, region.gpa + i * 65536, 65536, 128 * i) for i in range(16)]
    region.truncate(100 * 1024)
    disk.submit(before)
    try:
        disk.wait(before)
        assert {request.status for request in before} <= {blk.S_OK, blk.S_IOERR}
        assert disk.read(0, 4096, queue=1) is not None
    except (Closed, IoError):
        assert disk.wire.wait_closed()
    disk.close()
    again = opened(stage.path("file"), packed=packed)
    again.write(0, bytes(4096))
    assert again.read(0, 4096) == bytes(4096)
