# SPDX-License-Identifier: BSD-3-Clause
"""The inflight region: its contents while requests are under way, and what a back end makes of it
after a crash ("Inflight I/O tracking" in the specification)."""

import os
import time

import pytest

from hold import Hold, wait_taken
from vhostuser import BlkDisk, Inflight, pattern
from vhostuser import blk
from vhostuser import protocol as p
from vhostuser.packed import DESC_AVAIL, DESC_USED
from vhubd import build_dir

both_kinds = pytest.mark.parametrize("packed", [False, True], ids=["split", "packed"])
SIZE = 64


def tracked(opened, path, packed, size=SIZE, queues=1, **keywords):
    """A session whose rings run with an inflight region that the back end made."""
    disk = opened(path, queues=0, packed=packed, size=size, **keywords)
    disk.region = disk.get_inflight(queues, size)
    disk.set_inflight(disk.region)
    return disk


def start(disk, queues=1, size=SIZE):
    from vhostuser import Queue
    for index in range(queues):
        disk.start_queue(Queue(index, disk.new_ring(size)))


def resume(opened, path, old, base=None, **negotiation):
    """A new session for the same guest: its memory, rings and inflight region, as after a
    reconnect."""
    disk = BlkDisk(str(path))
    opened.later(disk)
    features = [bit for bit in range(64) if old.features >> bit & 1 and bit != 30]
    disk.negotiate(features, **negotiation)
    disk.indirect = old.indirect
    disk.set_mem_table(old.mem)
    disk.region = old.region
    disk.set_inflight(disk.region)
    for index, queue in old.queues.items():
        disk.queues[index] = queue
        disk.start_queue(queue, base=base)
    # Both sessions would close what they share.
    old.queues, old.mem = {}, None
    return disk


def adopt(disk, requests):
    for request in requests:
        request.disk = disk


def wait_all(disk, requests, queue=0):
    """Every request comes back; the rings raise an error for one that comes back twice."""
    adopt(disk, requests)
    disk.wait(requests, queue)
    assert disk.reap(queue, timeout=0.1) == []
    assert {request.status for request in requests} == {blk.S_OK}


@both_kinds
def test_the_region_fits_the_queues_and_starts_clean(plain, packed):
    disk = plain(packed=packed)
    for queues, size in ((1, 64), (4, 128), (2, 1024), (4, 256)):
        region = disk.get_inflight(queues, size)
        assert (region.queues, region.queue_size) == (queues, size)
        assert os.fstat(region.fd).st_size >= region.mmap_offset + region.mmap_size
        assert region.mmap_size >= queues * (region.header.size + region.desc.size * size)
        for queue in range(queues):
            assert region.inflight(queue) == []
        region.close()


@both_kinds
def test_requests_under_way_are_marked_with_rising_counters(stage, opened, packed):
    disk = tracked(opened, stage.path("held"), packed)
    start(disk)
    for round_ in range(2):
        with stage.hold():
            requests = disk.submit([disk.prepare(blk.T_IN, i, in_bytes=512) for i in range(6)])
            wait_taken(disk, 6)
            header = disk.region.read_header(0)
            entries = [disk.region.read_desc(0, i) for i in disk.region.inflight(0)]
        assert header[:3] == (0, 1, SIZE)
        assert len(entries) == 6
        counters = [entry.counter for entry in entries]
        assert len(set(counters)) == 6
        if packed:
            # In the order of the counters stand the buffers in the order of submission, whole.
            assert [entry.num for entry in entries] == [3] * 6
            headers = [request.header[0][0] for request in requests]
            assert [entry.addr for entry in entries] == headers
        disk.wait(requests)
        wait_taken(disk, 0)
        header = disk.region.read_header(0)
        if packed:
            _, _, _, free_head, old_free_head, used, old_used, wrap, old_wrap = header
            assert (free_head, used, wrap) == (old_free_head, old_used, old_wrap)
            assert used | wrap << 15 == disk.queues[0].ring.base & 0xffff
        else:
            assert header[4] == disk.queues[0].ring.used16[1]


@both_kinds
def test_an_idle_ring_leaves_a_region_that_resumes_to_nothing(stage, opened, packed):
    disk = tracked(opened, stage.path("plain"), packed)
    start(disk)
    for i in range(100):
        disk.write(i, pattern(i, 512))
    disk.wire.close()
    again = resume(opened, stage.path("plain"), disk)
    assert again.reap(timeout=0.1) == []
    for i in range(100):
        assert again.read(i, 512) == pattern(i, 512)


@both_kinds
def test_a_disconnect_loses_and_doubles_nothing(stage, opened, packed):
    disk = tracked(opened, stage.path("held"), packed)
    start(disk)
    with stage.hold():
        requests = disk.submit([disk.prepare(blk.T_IN, i, in_bytes=512) for i in range(10)])
        wait_taken(disk, 10)
        disk.wire.close()
        time.sleep(0.02)                # it has been noticed, perhaps
    disk.reap(timeout=0)
    again = resume(opened, stage.path("held"), disk)
    wait_all(again, requests)
    again.read(0, 512)


def crash(daemon):
    daemon.kill()


def restarted(daemon, slow, fast):
    """The same command line, but for the latency of the null driver."""
    daemon.blks = [text.replace(slow, fast) for text in daemon.blks]
    daemon.start()


SHAPES = {
    "split": {}, "split-event_idx-indirect": {"event_idx": True, "indirect": True},
    "split-in_order": {"in_order": True},
    "packed": {"packed": True},
    "packed-event_idx-indirect": {"packed": True, "event_idx": True, "indirect": True},
    "packed-in_order": {"packed": True, "in_order": True},
}


@pytest.mark.parametrize("shape", list(SHAPES.values()), ids=list(SHAPES))
def test_after_kill_9_every_request_completes_exactly_once(vhubd, folder, opened, shape):
    path = folder / "d.sock"
    hold = Hold(folder / "hold")
    daemon = vhubd("d,socket=%s,driver=unruly,over=null,size=64M,queues=2,hold=%s" % (path, hold.path),
                   loads=[build_dir() / "test/tools/unruly.so"])
    shape = dict(shape)
    disk = tracked(opened, path, shape.pop("packed", False), queues=2, **shape)
    start(disk, queues=2)
    # Some complete before the crash, so that the indexes have moved.
    for queue in (0, 1):
        disk.wait(disk.submit([disk.prepare(blk.T_IN, i, in_bytes=512) for i in range(3)], queue),
                  queue)
    requests = {queue: disk.submit([disk.prepare(blk.T_OUT, i, out=pattern(i, 512))
                                    for i in range(4)], queue)
                for queue in (0, 1)}
    # The first batch has come back, and the second is under way.
    for queue in (0, 1):
        disk.wait(requests[queue], queue)
    with hold:
        more = {queue: disk.submit([disk.prepare(blk.T_IN, i, in_bytes=1024) for i in range(5)], queue)
                for queue in (0, 1)}
        for queue in (0, 1):
            wait_taken(disk, 5, queue)
        crash(daemon)
    for queue in (0, 1):
        disk.reap(queue, timeout=0)
    assert not any(request.done for request in more[0] + more[1])
    disk.wire.close()
    daemon.start()
    again = resume(opened, path, disk)
    for queue in (0, 1):
        wait_all(again, requests[queue] + more[queue], queue)
        wait_taken(again, 0, queue)
        for i in range(SIZE):
            again.read(i, 512, queue=queue)


@both_kinds
def test_two_crashes_in_a_row_lose_nothing(vhubd, folder, opened, packed):
    path = folder / "d.sock"
    daemon = vhubd("d,socket=%s,driver=null,size=64M,latency_us=5000000" % path)
    disk = tracked(opened, path, packed)
    start(disk)
    requests = disk.submit([disk.prepare(blk.T_IN, i, in_bytes=512) for i in range(7)])
    time.sleep(0.1)
    crash(daemon)
    disk.wire.close()
    daemon.start()
    disk = resume(opened, path, disk)
    more = disk.submit([disk.prepare(blk.T_IN, i, in_bytes=512) for i in range(3)])
    time.sleep(0.1)
    crash(daemon)
    disk.wire.close()
    restarted(daemon, "latency_us=5000000", "latency_us=0")
    disk = resume(opened, path, disk)
    wait_all(disk, requests + more)


def test_what_was_offered_while_the_back_end_was_away_is_taken(vhubd, folder, opened):
    for packed in (False, True):
        path = folder / "d.sock"
        daemon = vhubd("d,socket=%s,driver=null,size=64M,latency_us=5000000" % path)
        disk = tracked(opened, path, packed)
        start(disk)
        requests = disk.submit([disk.prepare(blk.T_IN, i, in_bytes=512) for i in range(3)])
        time.sleep(0.1)
        crash(daemon)
        requests += disk.submit([disk.prepare(blk.T_IN, i, in_bytes=512) for i in range(4)])
        disk.wire.close()
        restarted(daemon, "latency_us=5000000", "latency_us=0")
        disk = resume(opened, path, disk)
        wait_all(disk, requests)
        disk.close()
        daemon.stop()


def test_writes_to_a_file_survive_the_crash_and_are_replayed(vhubd, folder, opened):
    """With real storage: what the guest was told is written, and what it was not told is written
    once it was replayed."""
    image = folder / "image"
    image.write_bytes(bytes(8 << 20))
    path = folder / "d.sock"
    daemon = vhubd("d,socket=%s,driver=uring,path=%s" % (path, image))
    disk = tracked(opened, path, False, size=128)
    start(disk, size=128)
    requests = []
    for round_ in range(20):
        batch = [disk.prepare(blk.T_OUT, (round_ * 16 + i) * 8, out=pattern(round_ * 16 + i, 4096))
                 for i in range(16)]
        requests += batch
        disk.submit(batch)
        if round_ == 19:
            crash(daemon)
        else:
            disk.wait(batch)
    disk.reap(timeout=0)
    disk.wire.close()
    daemon.start()
    disk = resume(opened, path, disk)
    wait_all(disk, requests)
    for i in range(320):
        assert disk.read(i * 8, 4096) == pattern(i, 4096)


# What a crashed back end can leave, made by hand.


def offer(disk, count, base=0):
    """Reads put into the ring, which the device does not know of yet."""
    requests = [disk.prepare(blk.T_IN, i, in_bytes=512) for i in range(count)]
    entries = [disk.queues[0].ring.add(disk.chain(request), request) for request in requests]
    disk.queues[0].ring.publish()
    return requests, entries


def crafted(opened, path, packed):
    """A session that has done all but start its ring, and an empty region of our own."""
    from vhostuser import Queue
    disk = opened(path, queues=0, packed=packed)
    disk.region = Inflight.create(1, 16, packed)
    disk.queues[0] = Queue(0, disk.new_ring(16))
    return disk


def run_crafted(disk, base):
    disk.set_inflight(disk.region)
    disk.start_queue(disk.queues[0], base=base)


def order_of_completion(disk, count):
    done = []
    while len(done) < count:
        got = disk.reap()
        assert got, "%d of %d came back" % (len(done), count)
        done += got
    assert disk.reap(timeout=0.1) == []
    return done


def test_split_requests_are_resubmitted_in_the_order_of_their_counters(stage, opened):
    disk = crafted(opened, stage.path("plain"), False)
    requests, entries = offer(disk, 5)
    disk.region.write_header(0, 0, 1, 16, 0, 0)
    for entry, counter in zip(entries, (30, 10, 50, 20, 40)):
        disk.region.write_desc(0, entry.head, 1, 0, counter)
    run_crafted(disk, 0)
    done = order_of_completion(disk, 5)
    assert [requests.index(request) for request in done] == [1, 3, 0, 4, 2]


def test_split_requests_not_in_flight_are_taken_from_the_available_ring_after_the_others(
        stage, opened):
    disk = crafted(opened, stage.path("plain"), False)
    requests, entries = offer(disk, 5)
    disk.region.write_header(0, 0, 1, 16, 0, 0)
    disk.region.write_desc(0, entries[1].head, 1, 0, 7)
    disk.region.write_desc(0, entries[0].head, 1, 0, 8)
    run_crafted(disk, 0)
    done = order_of_completion(disk, 5)
    assert [requests.index(request) for request in done] == [1, 0, 2, 3, 4]


def test_a_split_batch_that_reached_the_guest_is_not_resubmitted(stage, opened):
    """The crash came after the used index was stored and before the entries were cleared."""
    disk = crafted(opened, stage.path("plain"), False)
    requests, entries = offer(disk, 4)
    ring = disk.queues[0].ring
    # The device had used entries 2 and 0, in this order: it linked 2, then 0 in front of it.
    for at, i in ((0, 2), (1, 0)):
        ring.used32[2 * at] = entries[i].head
        ring.used32[2 * at + 1] = 513
        disk.mem.write(requests[i].status_gpa, bytes((blk.S_OK,)))
    ring.used16[1] = 2
    disk.region.write_header(0, 0, 1, 16, entries[0].head, 0)
    for i, counter in enumerate((1, 2, 3, 4)):
        next_ = entries[2].head if i == 0 else 0
        disk.region.write_desc(0, entries[i].head, 1, next_, counter)
    run_crafted(disk, 2)
    done = order_of_completion(disk, 4)
    assert [requests.index(request) for request in done] == [2, 0, 1, 3]
    assert disk.region.read_header(0)[4] == ring.used16[1]


def packed_region(disk, counters, chains):
    """The region of a back end that has taken `chains` chains of three descriptors, with these
    counters."""
    ring, region = disk.queues[0].ring, disk.region
    for i in range(16):
        region.write_desc(0, i, 0, i + 1, 0, 0, 0, 0, 0, 0, 0)
    for k in range(chains):
        for j in range(3):
            slot = 3 * k + j
            addr, word = ring.desc[2 * slot], ring.desc[2 * slot + 1]
            head = j == 0
            region.write_desc(0, slot, int(head), slot + 1, 3 * k + 2 if head else 0, 3 if head
                              else 0,
                              counters[k] if head else 0, word >> 32 & 0xffff, word >> 48,
                              word & 0xffffffff, addr)
    region.write_header(0, 0, 1, 16, 3 * chains, 3 * chains, 0, 0, 1, 1)


#: A packed base that says what an ignorant front end says after a crash: the ring as new.
STALE = 0x80008000


def test_packed_requests_are_resubmitted_in_the_order_of_their_counters(stage, opened):
    disk = crafted(opened, stage.path("plain"), True)
    requests, _ = offer(disk, 5)
    packed_region(disk, (30, 10, 20), 3)
    run_crafted(disk, STALE)
    done = order_of_completion(disk, 5)
    assert [requests.index(request) for request in done] == [1, 2, 0, 3, 4]
    disk.read(0, 512)


def half_pushed(disk, requests, entries):
    """The device has recorded that the first chain is used, and has not cleared its entry."""
    packed_region(disk, (1, 2, 3), 3)
    region = disk.region
    last = region.read_desc(0, 2)
    region.write_desc(0, 2, 0, 9, 0, 0, 0, last.id, last.flags, last.len, last.addr)
    # free_head is the freed entry, used index has moved by its three descriptors; the old_ values
    # have not.
    region.write_header(0, 0, 1, 16, 0, 9, 3, 0, 1, 1)


def test_a_packed_update_that_did_not_reach_the_guest_is_rolled_back(stage, opened):
    disk = crafted(opened, stage.path("plain"), True)
    requests, entries = offer(disk, 4)
    half_pushed(disk, requests, entries)
    run_crafted(disk, STALE)
    done = order_of_completion(disk, 4)
    assert [requests.index(request) for request in done] == [0, 1, 2, 3]
    for i in range(20):
        disk.read(i, 512)


def test_a_packed_update_that_reached_the_guest_is_committed(stage, opened):
    disk = crafted(opened, stage.path("plain"), True)
    requests, entries = offer(disk, 4)
    half_pushed(disk, requests, entries)
    ring = disk.queues[0].ring
    disk.mem.write(requests[0].status_gpa, bytes((blk.S_OK,)))
    ring.set_desc(0, ring.desc[0], 513, entries[0].head, DESC_AVAIL | DESC_USED)
    run_crafted(disk, STALE)
    done = order_of_completion(disk, 4)
    assert [requests.index(request) for request in done] == [0, 1, 2, 3]
    for i in range(20):
        disk.read(i, 512)


@both_kinds
def test_a_zeroed_region_is_a_new_one(stage, opened, packed):
    disk = crafted(opened, stage.path("plain"), packed)
    run_crafted(disk, disk.queues[0].ring.base)
    for i in range(40):
        disk.read(i, 512)
    assert disk.region.read_header(0)[1:3] == (1, 16)


def test_the_region_may_be_set_again_and_replaced(plain, stage):
    disk = plain(inflight=True)
    before = stage.figures()
    for _ in range(5):
        region = disk.get_inflight(1, 128)
        disk.get_vring_base(0)
        disk.set_inflight(region)
        disk.start_queue(disk.queues[0])
        disk.read(0, 512)
        region.close()
    growth = stage.figures().growth(before)
    assert growth.count("inflight") <= 2, growth


def test_a_region_in_the_middle_of_a_file_is_used_at_its_offset(plain):
    disk = plain(queues=0)
    from vhostuser import Queue
    own = Inflight.create(1, 16)
    fd = os.memfd_create("fe-inflight", os.MFD_CLOEXEC)
    os.ftruncate(fd, 8192 + own.mmap_size)
    region = Inflight(p.INFLIGHT.pack(own.mmap_size, 8192, 1, 16), fd)
    own.close()
    disk.set_inflight(region)
    disk.start_queue(Queue(0, disk.new_ring(16)))
    disk.read(0, 512)
    assert region.read_header(0)[1:3] == (1, 16)
    assert not any(os.pread(fd, 8192, 0))
    region.close()


def test_get_inflight_gives_a_new_region_each_time(plain):
    disk = plain()
    first, second = disk.get_inflight(1, 64), disk.get_inflight(1, 64)
    first.write_desc(0, 0, 1, 0, 99)
    assert second.read_desc(0, 0).inflight == 0
    first.close()
    second.close()
    disk.alive()
