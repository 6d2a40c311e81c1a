# SPDX-License-Identifier: BSD-3-Clause
"""Rings full of lies: addresses, lengths, heads, links, loops, indexes, indirect tables, flags, and
a guest that changes what the device has already looked at. Each breaks that ring, tells so on its
err fd, and leaves the other rings alone."""

import random
import threading
import time

import pytest

from hold import wait_taken
from test_inflight import start, tracked
from vhostuser import PATIENCE, BlkDisk, DirtyLog, F, GuestMemory
from vhostuser import blk
from vhostuser import protocol as p
from vhostuser.memory import bad_places
from vhostuser.packed import DESC_AVAIL, DESC_USED
from vhostuser.ring import DESC_INDIRECT, DESC_NEXT, DESC_WRITE

MAXU32 = 0xffffffff
both_kinds = pytest.mark.parametrize("packed", [False, True], ids=["split", "packed"])


@pytest.fixture
def duo(scene):
    """Two queues: 0 is abused, 1 must go on."""
    made = []

    def open_(**keywords):
        disk = scene.open(queues=2, **keywords)
        made.append(disk)
        scene.goes_on(disk, queue=0)
        scene.goes_on(disk, queue=1)
        return disk

    yield open_
    for disk in made:
        scene.goes_on(disk, queue=1)
        assert disk.queues[1].err.count() == 0


def put(disk, chain, indirect=False):
    """Puts this chain into queue 0 as it stands, and kicks whatever the device says."""
    queue = disk.queues[0]
    queue.ring.add(chain, indirect=indirect)
    queue.ring.publish()
    queue.kick.signal()


def parts(disk):
    """(header, data, status) of a read that would be fine: [(gpa, length, write)] each."""
    request = disk.prepare(blk.T_IN, 0, in_bytes=4096)
    return ((request.header[0][0], 16, False), (request.data[0][0], 4096, True),
            (request.status_gpa, 1, True))


PLACES = ["nowhere", "in a hole", "over the end", "from before", "over everything",
          "over two regions and the hole between", "overflow", "the top", "user address"]
ADDRESS = r"address|memory|outside|range"


@both_kinds
@pytest.mark.parametrize("indirect", [False, True], ids=["direct", "indirect"])
@pytest.mark.parametrize("part", [0, 1, 2], ids=["header", "data", "status"])
@pytest.mark.parametrize("place", PLACES)
def test_a_descriptor_outside_of_memory(scene, duo, packed, indirect, part, place):
    disk = duo(packed=packed, indirect=indirect)
    chain = list(parts(disk))
    gpa, length = bad_places(disk.mem)[place]
    chain[part] = (gpa, length, chain[part][2])
    put(disk, chain, indirect)
    scene.broken(disk, ADDRESS + "|long")


@both_kinds
def test_a_bad_descriptor_in_the_middle_of_a_good_burst(scene, duo, packed):
    """The good ones before it may be served; nothing behind it is."""
    disk = duo(packed=packed, size=256)
    good = [disk.prepare(blk.T_IN, 0, in_bytes=512) for _ in range(40)]
    for i, request in enumerate(good):
        if i == 20:
            disk.queues[0].ring.add([(0xdead_0000_0000, 16, False), (0xdead_0000_0000, 1, True)])
        disk.queues[0].ring.add(disk.chain(request), request)
    disk.queues[0].ring.publish()
    disk.queues[0].kick.signal()
    scene.broken(disk, ADDRESS)
    time.sleep(0.02)
    assert all(request.status == blk.PENDING for request in good[20:])


@both_kinds
@pytest.mark.parametrize("part", [0, 1, 2], ids=["header", "data", "status"])
def test_a_descriptor_of_no_length(scene, duo, packed, part):
    disk = duo(packed=packed)
    chain = list(parts(disk))
    chain[part] = (chain[part][0], 0, chain[part][2])
    put(disk, chain)
    scene.broken(disk, r"length|zero|empty")


@both_kinds
def test_a_descriptor_of_no_length_while_the_dirty_log_is_on(scene, duo, packed):
    """Its last byte is the one before its first: a log that trusted that would mark half the memory."""
    disk = duo(packed=packed)
    log = DirtyLog(disk.mem.max_gpa)
    disk.set_log(log)
    disk.set_features(disk.features | p.bits(F.LOG_ALL))
    log.clear()
    header, data, status = parts(disk)
    put(disk, [header, (data[0], 0, True), status])
    scene.broken(disk, r"length|zero|empty")
    assert len(log.pages()) <= 4
    log.close()


@both_kinds
def test_a_readable_descriptor_behind_a_writable_one(scene, duo, packed):
    disk = duo(packed=packed)
    header, data, status = parts(disk)
    put(disk, [header, data, (data[0], 512, False), status])
    scene.broken(disk, r"order|readable|writable")


@both_kinds
def test_more_than_4_gib_in_one_chain(scene, duo, packed):
    disk = duo(packed=packed, size=1024, mem=GuestMemory(((0, 64 << 20, 0x7e30_0000_0000, 0),)))
    header, _, status = parts(disk)
    piece = (16 << 20, 32 << 20, True)
    put(disk, [header] + [piece] * 130 + [status])
    scene.broken(disk, r"long|4 GiB|large|pieces")


# split


@pytest.mark.parametrize("head", [128, 129, 0x7fff, 0xffff])
def test_a_head_beyond_the_table(scene, duo, head):
    disk = duo()
    disk.queues[0].ring.push(head)
    disk.queues[0].kick.signal()
    scene.broken(disk, r"head|table|beyond")


@pytest.mark.parametrize("ahead", [129, 1000, 0x7fff, 0x8000, 0xfff0])
def test_an_available_index_further_ahead_than_the_ring_is_long(scene, duo, ahead):
    disk = duo()
    ring = disk.queues[0].ring
    ring.set_avail_idx(ring.next_avail + ahead)
    disk.queues[0].kick.signal()
    scene.broken(disk, r"available|index|ahead|entries")


def test_an_available_index_that_goes_back(scene, duo):
    disk = duo()
    ring = disk.queues[0].ring
    ring.set_avail_idx(ring.next_avail - 1)
    disk.queues[0].kick.signal()
    scene.broken(disk, r"available|index|ahead|entries")


@pytest.mark.parametrize("next_", [128, 0x8000, 0xffff])
def test_a_link_beyond_the_table(scene, duo, next_):
    disk = duo()
    ring = disk.queues[0].ring
    header, _, _ = parts(disk)
    ring.set_desc(5, header[0], 16, DESC_NEXT, next_)
    ring.push(5)
    disk.queues[0].kick.signal()
    scene.broken(disk, r"next|beyond|table|link")


@pytest.mark.parametrize("length", [1, 2, 3, 128])
def test_a_chain_that_bites_its_tail(scene, duo, length):
    disk = duo()
    ring = disk.queues[0].ring
    header, _, _ = parts(disk)
    for i in range(length):
        ring.set_desc(i, header[0], 16, DESC_NEXT, (i + 1) % length)
    ring.push(0)
    disk.queues[0].kick.signal()
    scene.broken(disk, r"loop|longer|long|circle")


def test_the_same_head_twice_while_it_is_in_flight(stage, opened):
    """Nothing is completed twice; with slow storage the second offer comes while the first is under
    way."""
    disk = tracked(opened, stage.path("held"), False, queues=2)
    start(disk, 2)
    ring = disk.queues[0].ring
    request = disk.prepare(blk.T_IN, 0, in_bytes=512)
    with stage.hold():
        entry = ring.add(disk.chain(request), request)
        ring.publish()
        disk.queues[0].kick.signal()
        wait_taken(disk, 1)
        ring.push(entry.head)
        disk.queues[0].kick.signal()
        assert disk.queues[0].err.wait()
    disk.get_vring_base(0)
    assert (ring.used16[1] - ring.next_used) & 0xffff <= 1
    disk.read(0, 512, queue=1)


@both_kinds
def test_a_chain_with_more_pieces_than_any_request_needs(scene, duo, packed):
    disk = duo(packed=packed, size=1024, mem=GuestMemory(((0, 16 << 20, 0x7e30_0000_0000, 0),)))
    header, data, status = parts(disk)
    put(disk, [header] + [(data[0], 1, True)] * 1000 + [status])
    scene.broken(disk, r"long|pieces|many|segments")


# indirect


def table(disk, rows, bytes_=None):
    """An indirect table from (addr, len, flags, next) rows, split layout; its descriptor."""
    gpa = disk.mem.alloc(16 * max(1, len(rows)), 16)
    view = disk.mem.view(gpa, 16 * max(1, len(rows)), "Q")
    for i, (addr, length, flags, next_) in enumerate(rows):
        view[2 * i] = addr
        view[2 * i + 1] = length | flags << 32 | next_ << 48
    return gpa, 16 * len(rows) if bytes_ is None else bytes_


def packed_table(disk, rows, bytes_=None):
    gpa = disk.mem.alloc(16 * max(1, len(rows)), 16)
    view = disk.mem.view(gpa, 16 * max(1, len(rows)), "Q")
    for i, (addr, length, flags, _) in enumerate(rows):
        view[2 * i] = addr
        view[2 * i + 1] = length | flags << 48
    return gpa, 16 * len(rows) if bytes_ is None else bytes_


def put_table(disk, gpa, bytes_, extra_flags=0, packed=False):
    """A lone descriptor that says "indirect", and whatever else."""
    queue, ring = disk.queues[0], disk.queues[0].ring
    if packed:
        flags = DESC_INDIRECT | extra_flags | ring.flags_avail(ring.avail_wrap)
        slot = ring.next_avail
        ring.set_desc(slot + 1, gpa, 16, 1, ring.flags_avail(ring.avail_wrap))
        ring.set_desc(slot, gpa, bytes_, 1, flags)
    else:
        ring.set_desc(0, gpa, bytes_, DESC_INDIRECT | extra_flags, 1)
        ring.set_desc(1, gpa, 16, 0, 0)
        ring.push(0)
    queue.kick.signal()


def good_rows(disk):
    header, data, status = parts(disk)
    return [(header[0], 16, DESC_NEXT, 1), (data[0], 4096, DESC_NEXT | DESC_WRITE, 2),
            (status[0], 1, DESC_WRITE, 0)]


INDIRECT = r"indirect"


@both_kinds
@pytest.mark.parametrize("bytes_", [0, 1, 15, 17, 47, MAXU32])
def test_an_indirect_table_of_a_size_that_cannot_be(scene, duo, packed, bytes_):
    disk = duo(packed=packed, indirect=True)
    make = packed_table if packed else table
    put_table(disk, *make(disk, good_rows(disk), bytes_), packed=packed)
    scene.broken(disk, INDIRECT + "|memory|long|length")


@both_kinds
def test_an_indirect_table_within_an_indirect_table(scene, duo, packed):
    disk = duo(packed=packed, indirect=True)
    make = packed_table if packed else table
    inner = make(disk, good_rows(disk))
    put_table(disk, *make(disk, [(inner[0], inner[1], DESC_INDIRECT, 0)]), packed=packed)
    scene.broken(disk, INDIRECT)


@both_kinds
def test_an_indirect_table_that_was_not_negotiated(scene, duo, packed):
    disk = duo(packed=packed)
    make = packed_table if packed else table
    put_table(disk, *make(disk, good_rows(disk)), packed=packed)
    scene.broken(disk, INDIRECT)


@both_kinds
def test_an_indirect_descriptor_with_a_next(scene, duo, packed):
    disk = duo(packed=packed, indirect=True)
    make = packed_table if packed else table
    put_table(disk, *make(disk, good_rows(disk)), extra_flags=DESC_NEXT, packed=packed)
    scene.broken(disk, INDIRECT)


@both_kinds
@pytest.mark.parametrize("place", PLACES)
def test_an_indirect_table_outside_of_memory(scene, duo, packed, place):
    disk = duo(packed=packed, indirect=True)
    gpa, _ = bad_places(disk.mem)[place]
    put_table(disk, gpa, 4096, packed=packed)
    scene.broken(disk, ADDRESS + "|indirect|long|length")


@pytest.mark.parametrize("rows", [1, 3])
def test_an_indirect_table_that_bites_its_tail(scene, duo, rows):
    disk = duo(indirect=True)
    header, _, _ = parts(disk)
    put_table(disk, *table(disk, [(header[0], 16, DESC_NEXT, (i + 1) % rows) for i in range(rows)]))
    scene.broken(disk, r"loop|long|longer|circle")


@pytest.mark.parametrize("next_", [3, 0x8000, 0xffff])
def test_a_link_beyond_the_indirect_table(scene, duo, next_):
    disk = duo(indirect=True)
    rows = good_rows(disk)
    rows[1] = (*rows[1][:3], next_)
    put_table(disk, *table(disk, rows))
    scene.broken(disk, r"next|beyond|table|link|indirect")


@both_kinds
def test_a_giant_indirect_table(scene, duo, packed):
    disk = duo(packed=packed, indirect=True, mem=GuestMemory(((0, 16 << 20, 0x7e30_0000_0000, 0),)))
    header, data, _ = parts(disk)
    make = packed_table if packed else table
    rows = [(header[0], 16, DESC_NEXT, 1)] + [(data[0], 16, DESC_NEXT | DESC_WRITE,
                                               (i + 2) & 0xffff)
                                              for i in range(65534)]
    put_table(disk, *make(disk, rows), packed=packed)
    scene.broken(disk, r"long|pieces|indirect|many")


# packed


@pytest.mark.parametrize("buffer_id", [128, 0x8000, 0xffff])
def test_a_packed_buffer_id_beyond_the_ring(scene, duo, buffer_id):
    """The id is the driver's own: it is given back as it came or refused, never used as an
    index."""
    disk = duo(packed=True)
    ring = disk.queues[0].ring
    header, data, status = parts(disk)
    at, flags = ring.next_avail, ring.flags_avail(1)
    ring.set_desc(at + 2, status[0], 1, buffer_id, DESC_WRITE | flags)
    ring.set_desc(at + 1, data[0], 4096, buffer_id, DESC_WRITE | DESC_NEXT | flags)
    ring.set_desc(at, header[0], 16, buffer_id, DESC_NEXT | flags)
    disk.queues[0].kick.signal()
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        word = ring.desc[2 * at + 1]
        if word >> 48 & DESC_USED:
            assert word >> 32 & 0xffff == buffer_id
            return
        if disk.queues[0].err.count():
            return
        time.sleep(0.005)
    pytest.fail("neither used nor refused")


def test_the_same_packed_buffer_id_twice_in_flight(stage, opened):
    disk = opened(stage.path("late"), packed=True, queues=2)
    ring = disk.queues[0].ring
    for i in range(4):
        header, data, status = parts(disk)
        at, flags = 3 * i, ring.flags_avail(1)
        ring.set_desc(at + 2, status[0], 1, 7, DESC_WRITE | flags)
        ring.set_desc(at + 1, data[0], 4096, 7, DESC_WRITE | DESC_NEXT | flags)
        ring.set_desc(at, header[0], 16, 7, DESC_NEXT | flags)
    disk.queues[0].kick.signal()
    time.sleep(0.5)
    disk.read(0, 512, queue=1)
    disk.fence()


def test_a_packed_chain_without_an_end(scene, duo):
    disk = duo(packed=True)
    ring = disk.queues[0].ring
    header, _, _ = parts(disk)
    start = ring.next_avail
    for i in list(range(start + 1, 128)) + list(range(start)) + [start]:
        wrap = 1 if i >= start else 0
        ring.set_desc(i, header[0], 16, 3, DESC_NEXT | ring.flags_avail(wrap))
    disk.queues[0].kick.signal()
    scene.broken(disk, r"loop|long|longer|end")


def test_a_packed_chain_whose_rest_is_not_available(scene, duo):
    """The head says there is more, and what follows belongs to the device still."""
    disk = duo(packed=True)
    ring = disk.queues[0].ring
    header, _, _ = parts(disk)
    at = ring.next_avail
    ring.set_desc(at + 1, 0, 0, 0, DESC_AVAIL | DESC_USED)
    ring.set_desc(at, header[0], 16, 3, DESC_NEXT | ring.flags_avail(1))
    disk.queues[0].kick.signal()
    time.sleep(0.1)
    disk.fence()


@pytest.mark.parametrize("off_wrap, flags", [(0xffff, 2), (0x7fff, 2), (128, 2), (0x8000 | 5000, 2),
                                             (0, 3), (0, 0xffff)])
def test_packed_event_structures_of_nonsense(scene, duo, off_wrap, flags):
    disk = duo(packed=True, event_idx=True)
    ring = disk.queues[0].ring
    ring.driver[0] = off_wrap
    ring.driver[1] = flags
    for i in range(10):
        request = disk.prepare(blk.T_IN, i, in_bytes=512)
        ring.add(disk.chain(request), request)
        ring.publish()
        disk.queues[0].kick.signal()
        disk.queues[0].poll_done(request)


def test_split_events_of_nonsense(scene, duo):
    disk = duo(event_idx=True)
    ring = disk.queues[0].ring
    for event in (0xffff, 0x8000, 1234):
        ring.avail[2 + ring.size] = event
        ring.avail[0] = 0xffff
        ring.used16[0] = 0xffff
        ring.used16[2 + 4 * ring.size] = event
        request = disk.prepare(blk.T_IN, 0, in_bytes=512)
        ring.add(disk.chain(request), request)
        ring.publish()
        disk.queues[0].kick.signal()
        disk.queues[0].poll_done(request)


def test_used_ring_and_index_scribbled_over_by_the_guest(scene, duo):
    """The used ring is the device's to write and the guest's to read: what the guest writes there
    must not matter to others."""
    disk = duo()
    ring = disk.queues[0].ring
    for i in range(50):
        ring.used16[1] = i * 777 & 0xffff
        for j in range(0, len(ring.used32), 7):
            ring.used32[j] = MAXU32
        request = disk.prepare(blk.T_IN, 0, in_bytes=512)
        try:
            ring.add(disk.chain(request), request)
        except IndexError:
            break
        ring.publish()
        disk.queues[0].kick.signal()
        time.sleep(0.002)
    disk.fence()


# a guest that changes its mind


@both_kinds
@pytest.mark.parametrize("indirect", [False, True], ids=["direct", "indirect"])
def test_descriptors_that_change_while_the_device_reads_them(scene, packed, indirect):
    """Lengths, addresses and links flip between good and bad as fast as can be: every outcome is
    right but a crash, a wild access or a neighbour that suffers."""
    chance = random.Random(5)
    end = time.monotonic() + 1.0
    rounds = 0
    while time.monotonic() < end:
        disk = BlkDisk.open(scene.path, packed=packed, indirect=indirect, size=128)
        scene.sessions.append(disk)
        ring = disk.queues[0].ring
        stop = threading.Event()
        requests = [disk.prepare(blk.T_IN, 0, in_bytes=65536) for _ in range(16)]
        for request in requests:
            ring.add(disk.chain(request), request, indirect)
        words = ring.desc
        tables = [entry.table for entry in ring.outstanding.values() if entry.table]
        views = [disk.mem.view(gpa, size, "Q") for gpa, size in tables] or [words]

        def scribble():
            while not stop.is_set():
                view = chance.choice(views)
                i = chance.randrange(min(len(view), 96))
                old = view[i]
                view[i] = old ^ chance.choice((0xffff0000, 1 << 40, 0xff << 48, MAXU32, 1 << 63,
                                               4 << 32, 3 << 48))
                view[i] = old

        scribbler = threading.Thread(target=scribble)
        scribbler.start()
        try:
            ring.publish()
            disk.queues[0].kick.signal()
            disk.reap(timeout=0.05)
            disk.fence()
        except Exception as error:
            assert type(error).__name__ in ("Closed", "RingError", "IoError"), error
        finally:
            stop.set()
            scribbler.join()
        disk.close()
        rounds += 1
    assert rounds >= 3


@both_kinds
def test_a_ring_of_random_bytes(scene, packed):
    chance = random.Random(9)
    for _ in range(15):
        disk = BlkDisk.open(scene.path, packed=packed, size=64)
        scene.sessions.append(disk)
        ring = disk.queues[0].ring
        for i in range(len(ring.desc)):
            ring.desc[i] = chance.getrandbits(64)
        if not packed:
            for i in range(2, len(ring.avail)):
                ring.avail[i] = chance.getrandbits(16)
            ring.set_avail_idx(chance.getrandbits(16))
        disk.queues[0].kick.signal()
        time.sleep(0.02)
        disk.fence()
        disk.close()


@both_kinds
def test_a_ring_that_lies_within_its_own_buffers(scene, packed):
    """The data of a read are the ring itself: the device overwrites what it works from."""
    disk = scene.open(packed=packed, size=64)
    ring = disk.queues[0].ring
    disk.write(0, bytes(range(256)) * 4)
    request = disk.prepare(blk.T_IN, 0, in_bytes=512)
    request.data = [(ring.desc_gpa, 1024)]
    ring.add(disk.chain(request), request)
    ring.publish()
    disk.queues[0].kick.signal()
    time.sleep(0.05)
    for _ in range(5):
        disk.queues[0].kick.signal()
        time.sleep(0.005)
    disk.fence()
