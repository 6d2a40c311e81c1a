# SPDX-License-Identifier: BSD-3-Clause
"""Rings that stop without waiting for their storage: GET_VRING_BASE_SKIP_DRAIN, and GET_VRING_BASE where
GET_VRING_BASE_INFLIGHT alone was agreed. What is in flight stays in the inflight region, whole and once,
and nothing of it is done behind the back of who does it again."""


import pytest

from control import Control
from hold import SILENCE, Hold, wait_in_flight, wait_taken
from test_inflight import SHAPES, SIZE, resume, start, tracked
from vhostuser import BlkDisk, F, NetPort, PF, Req, pattern, wait_until
from vhostuser import blk
from vhostuser import protocol as p
from vhubd import Vhubd, build_dir, worker_arguments

MB = 1 << 20
QUEUES = 4
BOTH = (PF.MQ, PF.REPLY_ACK, PF.CONFIG, PF.STATUS, PF.INFLIGHT_SHMFD, PF.GET_VRING_BASE_INFLIGHT,
        PF.GET_VRING_BASE_SKIP_DRAIN)
FIRST = BOTH[:-1]                       # of a front end that knows the older of the two features

#: What is held back is held far longer than any answer may take; but for what a test lets go.
DISKS = {
    "null": "driver=null,size=64M,latency_us=60000000,queues=4,lcores=2",
    "malloc": "driver=unruly,over=malloc,size=64M,delay_us=60000000,queues=4,lcores=2",
    "image": "driver=unruly,over=uring,path={folder}/image,delay_us=60000000,queues=4,lcores=2",
    "held": "driver=unruly,over=malloc,size=64M,hold={folder}/hold",
}
both_kinds = pytest.mark.parametrize("packed", [False, True], ids=["split", "packed"])
all_shapes = pytest.mark.parametrize("shape", list(SHAPES.values()), ids=list(SHAPES))


class Ends:
    """The source of a migration, and its destination, whose disks are not slow."""

    def __init__(self, folder):
        self.folder = folder
        with open(folder / "image", "wb") as image:
            image.truncate(64 * MB)
        loads = [build_dir() / "test/tools/unruly.so"]
        self.source = Vhubd(*("%s,socket=%s,%s" % (name, self.path(name), keys.format(folder=folder))
                              for name, keys in DISKS.items()),
                            nets=["port,socket=%s,driver=echo" % self.path("port")],
                            folder=folder, eal=worker_arguments(2), loads=loads,
                            args=["--control", str(folder / "control.sock")]).start()
        (folder / "to").mkdir()
        self.destination = Vhubd("image,socket=%s,driver=uring,path=%s/image,queues=4"
                                 % (self.path("to"), folder),
                                 "null,socket=%s,driver=null,size=64M,queues=4" % self.path("tonull"),
                                 folder=folder / "to").start()

    def path(self, name):
        return self.folder / (name + ".sock")

    def hold(self):
        """Keeps the disk "held" from answering."""
        return Hold(self.folder / "hold")

    def wait_in_flight(self, name, count):
        """Where there is no inflight region to tell."""
        with Control(self.folder / "control.sock") as control:
            wait_in_flight(control, name, count)

    def close(self):
        try:
            self.source.stop()
            self.destination.stop()
        finally:
            self.source.kill()
            self.destination.kill()


@pytest.fixture(scope="module")
def running_ends(tmp_path_factory):
    ends = Ends(tmp_path_factory.mktemp("s"))
    yield ends
    ends.close()


@pytest.fixture
def ends(running_ends):
    yield running_ends
    for daemon in (running_ends.source, running_ends.destination):
        assert daemon.running(), daemon.log[-8000:]
        daemon.check_log()


def opened_disk(opened, path, shape, queues=1, protocol=BOTH, size=SIZE, **keywords):
    shape = dict(shape)
    disk = tracked(opened, path, shape.pop("packed", False), size=size, queues=queues, protocol=protocol,
                   **shape, **keywords)
    start(disk, queues=queues, size=size)
    return disk


def writes(disk, count, seed=0, queue=0, first=0):
    requests = [disk.prepare(blk.T_OUT, 8 * (first + i), out=pattern(seed + i, 4096)) for i in range(count)]
    return disk.submit(requests, queue)


def used_index(disk, queue=0):
    """As a base of the ring: what the device has used, and where it goes on."""
    ring = disk.queues[queue].ring
    return ring.base if disk.has(F.RING_PACKED) else ring.used16[1]


def check_left(disk, base, requests, queue=0):
    """The region holds these requests and no others, in their order; the guest was told of none."""
    ring = disk.queues[queue].ring
    assert ring.used() == []
    assert {request.status for request in requests} <= {blk.PENDING}
    entries = disk.region.inflight(queue)
    outstanding = [entry for entry in ring.outstanding.values() if entry.cookie in requests]
    assert len(outstanding) == len(requests) == len(entries)
    if disk.has(F.RING_PACKED):
        found = [disk.region.read_desc(queue, entry).addr for entry in entries]
        assert found == [entry.table[0] if entry.table else entry.cookie.header[0][0] for entry in outstanding]
        assert base >> 16 == used_index(disk, queue) & 0xffff
    else:
        assert entries == [entry.head for entry in outstanding]
        assert base == used_index(disk, queue)


def done_once(disk, requests, queue=0):
    """All of them come back, and nothing else does."""
    for request in requests:
        request.disk = disk
    disk.wait(requests, queue)
    assert disk.reap(queue, timeout=0.02) == []
    assert {request.status for request in requests} == {blk.S_OK}
    wait_taken(disk, 0, queue)


def goes_on_elsewhere(opened, path, disk, requests, queue=0, base=None):
    """The session ends, and another back end has the guest's rings and the region."""
    disk.wire.close()
    again = resume(opened, path, disk, base=base, protocol=BOTH)
    done_once(again, requests, queue)
    return again


# --- the answer

@all_shapes
@pytest.mark.parametrize("name", ["null", "malloc", "image"])
def test_a_ring_is_suspended_at_once_and_its_requests_stay_in_flight(ends, opened, name, shape):
    disk = opened_disk(opened, ends.path(name), shape)
    requests = writes(disk, 9)
    wait_taken(disk, 9)
    base = disk.suspend(0)
    check_left(disk, base, requests)
    # Once more: it stands where it stood.
    assert disk.suspend(0) == disk.get_vring_base(0) == base
    disk.alive()


@both_kinds
def test_the_older_feature_alone_suspends_with_get_vring_base(ends, opened, packed):
    disk = opened_disk(opened, ends.path("null"), {"packed": packed}, protocol=FIRST)
    requests = writes(disk, 5)
    wait_taken(disk, 5)
    check_left(disk, disk.get_vring_base(0), requests)


@both_kinds
def test_with_both_features_get_vring_base_drains(ends, opened, packed):
    disk = opened_disk(opened, ends.path("held"), {"packed": packed})
    with ends.hold() as hold:
        requests = writes(disk, 5)
        wait_taken(disk, 5)
        with hold.let_go_meanwhile():
            base = disk.get_vring_base(0)
    assert len(disk.queues[0].ring.used()) == 5
    assert {request.status for request in requests} == {blk.S_OK}
    wait_taken(disk, 0, 0)
    assert base == (15 | 1 << 15 | 15 << 16 | 1 << 31 if packed else 5)


def test_without_a_region_there_is_nowhere_to_leave_requests_so_they_are_done(ends, opened):
    disk = opened(ends.path("held"), protocol=BOTH)
    with ends.hold() as hold:
        requests = writes(disk, 5)
        ends.wait_in_flight("held", 5)
        with hold.let_go_meanwhile():
            base = disk.suspend(0)
    assert base == len(disk.reap(timeout=0)) == 5
    assert {request.status for request in requests} == {blk.S_OK}
    requests = writes(disk, 5)
    disk.start_queue(disk.queues[0], base=base)
    disk.wait(requests)
    assert {request.status for request in requests} == {blk.S_OK}


def test_a_ring_that_does_not_run_tells_its_base(ends, opened):
    disk = opened(ends.path("null"), queues=0, protocol=BOTH)
    assert disk.suspend(1) == 0
    disk.set_vring_base(1, 77)
    assert disk.suspend(1) == 77
    disk.alive()


@both_kinds
def test_queues_of_two_lcores_are_suspended_each_for_itself(ends, opened, packed):
    disk = opened_disk(opened, ends.path("image"), {"packed": packed}, queues=QUEUES)
    requests = {queue: writes(disk, 3 + queue, queue=queue, first=16 * queue) for queue in range(QUEUES)}
    for queue in range(QUEUES):
        wait_taken(disk, 3 + queue, queue)
    for queue in (2, 0, 3, 1):
        check_left(disk, disk.suspend(queue), requests[queue], queue)
        for other in range(QUEUES):
            assert len(disk.region.inflight(other)) == 3 + other
    again = goes_on_elsewhere(opened, ends.path("to"), disk, requests[0])
    for queue in range(1, QUEUES):
        done_once(again, requests[queue], queue)


# --- what comes after it

@all_shapes
def test_what_was_left_is_done_once_by_another_back_end_and_by_nobody_later(ends, opened, shape):
    """The source's driver is about to do the same writes: had it kept them, they would overwrite what
    the guest has written since."""
    disk = opened_disk(opened, ends.path("held"), shape)
    with ends.hold():
        requests = writes(disk, 7, seed=100)
        wait_taken(disk, 7)
        base = disk.suspend(0)
        check_left(disk, base, requests)
        disk.start_queue(disk.queues[0], base=base)
        # The same back end is another life, too. Of the first life nothing may come any more.
        for request in requests:
            disk.mem.scatter(request.data, pattern(200, 4096))
        assert disk.reap(timeout=SILENCE) == []
    done_once(disk, requests)
    reads = disk.submit([disk.prepare(blk.T_IN, 8 * i, in_bytes=4096) for i in range(7)])
    done_once(disk, reads)
    assert {read.payload() for read in reads} == {pattern(200, 4096)}


@all_shapes
def test_another_process_does_what_was_left(ends, opened, shape):
    disk = opened_disk(opened, ends.path("image"), shape)
    requests = writes(disk, 12, seed=300)
    wait_taken(disk, 12)
    base = disk.suspend(0)
    check_left(disk, base, requests)
    # The source's session lives on; it has given the image back.
    again = BlkDisk(str(ends.path("to")))
    opened.later(again)
    again.negotiate([bit for bit in range(64) if disk.features >> bit & 1 and bit != 30], protocol=BOTH)
    again.set_mem_table(disk.mem)
    again.region = disk.region
    again.set_inflight(again.region)
    again.queues[0] = disk.queues[0]
    again.start_queue(disk.queues[0], base=base)
    done_once(again, requests)
    for i in range(12):
        assert again.read(8 * i, 4096) == pattern(300 + i, 4096)
    disk.alive()
    disk.wire.close()
    disk.queues, disk.mem = {}, None


@both_kinds
def test_what_was_left_outlives_status_0(ends, opened, packed):
    """QEMU suspends all rings, sets the status to 0, and saves the region then."""
    disk = opened_disk(opened, ends.path("image"), {"packed": packed})
    requests = writes(disk, 9)
    wait_taken(disk, 9)
    base = disk.suspend(0)
    disk.set_status(0)
    disk.alive()
    check_left(disk, base, requests)
    goes_on_elsewhere(opened, ends.path("to"), disk, requests, base=base)


@both_kinds
@pytest.mark.parametrize("reset", ["status", "device"])
def test_nothing_outlives_a_reset_where_nothing_was_left(ends, opened, packed, reset):
    disk = opened_disk(opened, ends.path("held"), {"packed": packed}, protocol=(*BOTH, PF.RESET_DEVICE))
    disk.wait(writes(disk, 3))
    disk.suspend(0)
    if reset == "status":
        disk.set_status(0)
    else:
        disk.tell(Req.RESET_DEVICE)
    disk.alive()
    assert not any(disk.region.rings)


@both_kinds
@pytest.mark.parametrize("counted", [False, True], ids=["used", "available"])
def test_a_base_may_count_what_is_in_flight_or_not(ends, opened, packed, counted):
    """Back ends differ in what they told of a split ring that stopped with requests in flight."""
    disk = opened_disk(opened, ends.path("null"), {"packed": packed})
    requests = writes(disk, 6)
    wait_taken(disk, 6)
    base = disk.suspend(0) + (6 if counted and not packed else 0)
    requests += writes(disk, 3)
    goes_on_elsewhere(opened, ends.path("tonull"), disk, requests, base=base)


@both_kinds
def test_what_the_driver_had_no_room_for_is_left_as_well(ends, opened, packed):
    """It holds 256 of them, a burst waits for room, the others were not taken."""
    disk = opened_disk(opened, ends.path("malloc"), {"packed": packed, "indirect": True}, size=512)
    requests = writes(disk, 400)
    wait_until(lambda: len(disk.region.inflight(0)) > 256)
    base = disk.suspend(0)
    left = disk.region.inflight(0)
    assert 256 < len(left) < 400
    check_left(disk, base, requests[:len(left)])
    goes_on_elsewhere(opened, ends.path("tonull"), disk, requests)


@both_kinds
def test_a_ring_is_suspended_while_it_replays(ends, opened, packed):
    """What was not even taken again stays in the region like the rest."""
    disk = opened_disk(opened, ends.path("null"), {"packed": packed, "indirect": True}, size=512)
    requests = writes(disk, 300)
    wait_taken(disk, 300)
    disk.suspend(0)
    for _ in range(3):
        disk.start_queue(disk.queues[0], base=used_index(disk))
        check_left(disk, disk.suspend(0), requests)
    goes_on_elsewhere(opened, ends.path("tonull"), disk, requests)


@both_kinds
def test_requests_of_all_kinds_are_left(ends, opened, packed):
    features = [F.BLK_DISCARD, F.BLK_WRITE_ZEROES]
    disk = opened_disk(opened, ends.path("image"), {"packed": packed, "features": features})
    ranges = b"".join(blk.RANGE.pack(800 + 16 * i, 8, 0) for i in range(5))
    requests = disk.submit(
        [disk.prepare(blk.T_IN, 0, in_bytes=4096), disk.prepare(blk.T_FLUSH)]
        + [disk.prepare(kind, out=ranges) for kind in (blk.T_DISCARD, blk.T_WRITE_ZEROES) for _ in range(9)])
    wait_taken(disk, 20)
    check_left(disk, disk.suspend(0), requests)
    goes_on_elsewhere(opened, ends.path("to"), disk, requests)


@both_kinds
def test_other_rings_of_the_disk_go_on(ends, opened, packed):
    """Rings of one lcore share the driver's queue: what the others have in flight is not given up."""
    disk = opened_disk(opened, ends.path("image"), {"packed": packed}, queues=3)
    kept = writes(disk, 4, queue=2)
    left = writes(disk, 4, queue=0)
    wait_taken(disk, 4, 2)
    wait_taken(disk, 4, 0)
    check_left(disk, disk.suspend(0), left, 0)
    assert len(disk.region.inflight(2)) == 4
    check_left(disk, disk.suspend(2), kept, 2)


# --- what is agreed, and what is not

def test_disks_offer_both_features_and_ports_none(ends, opened):
    bits = p.bits(PF.GET_VRING_BASE_INFLIGHT, PF.GET_VRING_BASE_SKIP_DRAIN)
    for name in DISKS:
        assert opened(ends.path(name), queues=0).protocol_offered & bits == bits, name
    assert opened(ends.path("port"), NetPort).protocol_offered & bits == 0


@pytest.mark.parametrize("features", [(PF.GET_VRING_BASE_INFLIGHT,), (PF.GET_VRING_BASE_SKIP_DRAIN,),
                                      (PF.GET_VRING_BASE_SKIP_DRAIN, PF.INFLIGHT_SHMFD),
                                      (PF.GET_VRING_BASE_SKIP_DRAIN, PF.GET_VRING_BASE_INFLIGHT)],
                         ids=lambda features: "+".join(each.name for each in features))
def test_features_without_those_that_they_need_are_refused(scene, features):
    disk = scene.bare()
    refused = p.bits(PF.MQ, PF.REPLY_ACK, *features)
    assert disk.ack(Req.SET_PROTOCOL_FEATURES, p.U64.pack(refused)) != 0
    scene.reason("needs")
    disk.alive()


def test_the_message_without_its_feature_is_refused(scene, refused):
    disk = scene.open()
    payload = p.VRING_STATE.pack(0, 0)
    assert refused(disk, Req.GET_VRING_BASE_SKIP_DRAIN, payload) == "error"
    disk.write(0, pattern(1, 512))
    # Nobody who did not ask for an acknowledgement can be told.
    disk.wire.send(Req.GET_VRING_BASE_SKIP_DRAIN, payload)
    assert disk.wire.wait_closed()
    scene.reason("not supported")


@pytest.mark.parametrize("index", [4, 255, 256, 0xffffffff])
def test_a_ring_that_is_not_there_ends_the_session(scene, refused, index):
    disk = scene.open(protocol=BOTH)
    assert refused(disk, Req.GET_VRING_BASE_SKIP_DRAIN, p.VRING_STATE.pack(index, 0)) == "closed"
    scene.reason("there is no ring")


def test_a_flood_of_suspensions_and_starts_costs_nobody_anything(scene):
    disk = scene.open(protocol=BOTH, queues=0)
    disk.region = disk.get_inflight(1, SIZE)
    disk.set_inflight(disk.region)
    start(disk)
    for i in range(60):
        requests = writes(disk, 8, seed=i)
        base = disk.suspend(0)
        disk.suspend(0)
        disk.start_queue(disk.queues[0], base=base)
        disk.wait(requests)
        assert {request.status for request in requests} == {blk.S_OK}
        assert disk.read(8 * 7, 4096) == pattern(i + 7, 4096)
        for request in requests:
            disk.release(request)
