# SPDX-License-Identifier: BSD-3-Clause
"""The queues of one disk on two lcores: what concerns the session reaches both, each keeps its own
part of the inflight region, and queues that are handed over while they run lose nothing."""

import itertools
import random
import re
import time

import pytest

from control import Control, Refused, vhubctl
from hold import wait_taken
from module_daemon import ModuleDaemon, started, watched
from test_inflight import resume, start, tracked, wait_all
from vhostuser import PATIENCE, F, GuestMemory, Model, NetPort, packets, pages_of, pattern, wait_until
from vhostuser import blk
from vhostuser import protocol as p
from vhostuser.dirtylog import start_logging
from vhostuser.meanwhile import Meanwhile

both_kinds = pytest.mark.parametrize("packed", [False, True], ids=["split", "packed"])
MB = 1 << 20
QUEUES = 4
NOT_MOVED = -32008                       # what queue_move is refused with

DISKS = {
    "two": "driver=malloc,size=64M,queues=4,lcores=2",
    "image": "driver=uring,path={folder}/image,queues=4,lcores=2",
    "pinned": "driver=uring,path={folder}/pinned,queues=4,lcores=2,pin=on",
    "held": "driver=unruly,over=null,size=64M,queues=4,lcores=2,hold={folder}/hold",
    "many": "driver=malloc,size=4M,queues=128,lcores=2",
    "one": "driver=malloc,size=4M,queues=4",
}


class Pair(ModuleDaemon):
    """What lcores and queues of disks are asked for."""

    def owners(self, disk):
        return [queue["lcore"] for queue in self.stats(disk)["queues"]]

    def completions(self, disk):
        return {each["lcore"]: each["completions"] for each in self.stats(disk)["lcores"]}

    def lcore(self, number):
        return self.control.call("lcore_list")[number - 1]


@pytest.fixture(scope="module")
def running_pair(tmp_path_factory):
    yield from started(Pair(tmp_path_factory.mktemp("p"), DISKS, {"port": "driver=echo,queues=2"},
                            {"image": 64 * MB, "pinned": 64 * MB}))


@pytest.fixture
def pair(running_pair, request):
    yield from watched(running_pair, request)
    for disk in ("two", "image", "held"):       # as they were
        for queue in range(QUEUES):
            running_pair.move(disk, queue, 1 + queue % 2)


def each_queue_works(disk, seed=0):
    for queue in disk.queues:
        data = pattern(seed + queue, 4096)
        disk.write(8 * queue, data, queue=queue)
        assert disk.read(8 * queue, 4096, queue=queue) == data


# --- where the queues are

@both_kinds
def test_the_queues_of_a_disk_take_its_lcores_in_turn(pair, opened, packed):
    assert pair.owners("two") == [1, 2, 1, 2]
    assert pair.owners("one") in ([1] * 4, [2] * 4)
    before = pair.completions("two")
    disk = opened(pair.path("two"), queues=QUEUES, packed=packed)
    for queue in range(QUEUES):
        disk.wait(disk.submit([disk.prepare(blk.T_IN, i, in_bytes=512) for i in range(10 + queue)], queue),
                  queue)
    after = pair.completions("two")
    assert {lcore: after[lcore] - before[lcore] for lcore in after} == {1: 10 + 12, 2: 11 + 13}


@both_kinds
def test_a_disk_has_up_to_128_queues_each_with_its_own_part_of_the_inflight_region(pair, opened, packed):
    disk = opened(pair.path("many"), queues=0, packed=packed, indirect=True,
                  mem=GuestMemory(((0, 16 * MB, 0x7e30_0000_0000, 0),)))
    disk.region = disk.get_inflight(128, 8)
    disk.set_inflight(disk.region)
    start(disk, queues=128, size=8)
    before = pair.completions("many")
    requests = [disk.submit([disk.prepare(blk.T_OUT, 8 * queue, out=pattern(queue, 4096))], queue)[0]
                for queue in range(128)]
    for queue in range(128):
        disk.wait([requests[queue]], queue)
        assert disk.read(8 * queue, 4096, queue=127 - queue) == pattern(queue, 4096)
    after = pair.completions("many")
    assert {lcore: after[lcore] - before.get(lcore, 0) for lcore in after} == {1: 128, 2: 128}
    for queue in range(128):
        header = disk.region.read_header(queue)
        assert header[:3] == (0, 1, 8)
        wait_taken(disk, 0, queue)
        # Two requests went through each queue, and into no other's part.
        counters = [disk.region.read_desc(queue, i).counter for i in range(8)]
        assert max(counters) == min(filter(None, counters)) + 1 or counters.count(0) == 7


# --- what concerns the session reaches both lcores

@both_kinds
def test_the_memory_table_changes_under_both(pair, opened, packed):
    disk = tracked(opened, pair.path("held"), packed, queues=QUEUES)
    start(disk, QUEUES)
    with pair.hold() as hold:
        requests = [disk.submit([disk.prepare(blk.T_IN, in_bytes=512)], queue)[0] for queue in range(QUEUES)]
        for queue in range(QUEUES):
            wait_taken(disk, 1, queue)
        with hold.let_go_meanwhile():
            disk.set_mem_table(disk.mem)
    # All of it has completed, for it was drained on both.
    for queue in range(QUEUES):
        disk.reap(queue, timeout=0)
        assert requests[queue].done and requests[queue].status == blk.S_OK
    busy = opened(pair.path("two"), queues=QUEUES, packed=packed)
    models = [Model(busy, queue, at=queue * Model.SECTORS) for queue in range(QUEUES)]
    for round_ in range(15):
        for queue, model in enumerate(models):
            model.step(queue)
        busy.set_mem_table(busy.mem)


@both_kinds
def test_the_log_is_switched_on_both(pair, opened, log_of, packed):
    disk = opened(pair.path("two"), queues=QUEUES, packed=packed)
    log = log_of(disk)
    # A lcore that goes to sleep marks that it asks for kicks, on each of its rings.
    rings = {gpa // 4096 for queue in disk.queues.values()
             for gpa in (queue.ring.log_gpa, queue.ring.device_gpa if packed else queue.ring.log_gpa)}
    for on in (True, False, True):
        if on:
            start_logging(disk, log)
        else:
            disk.set_features(disk.features & ~(1 << 26))
        for queue in range(QUEUES):
            log.clear()
            request = disk.prepare(blk.T_IN, 8, in_bytes=8192, align=4096)
            disk.wait(disk.submit([request], queue), queue)
            ring = disk.queues[queue].ring
            written = set().union(*(pages_of(gpa, length) for gpa, length in request.data),
                                  pages_of(request.status_gpa, 1), {ring.log_gpa // 4096})
            if on:
                assert written <= log.pages() <= written | rings
            else:
                assert not log.pages()


class Migration:
    """What a migration makes of guest memory: a copy, renewed page by page as the log tells. A new log
    takes over each time, so the one that is read is complete. What the driver writes, which a hypervisor
    sees by itself, is copied byte by byte, so that it hides nothing of the device's."""

    def __init__(self, disk, log_of):
        self.disk = disk
        self.log_of = log_of
        self.log = log_of(disk)
        start_logging(disk, self.log)
        for index, queue in disk.queues.items():
            if queue.ring.packed:       # QEMU tells where the event suppression is, not the descriptors
                disk.set_vring_addr(index, queue.ring, p.VRING_F_LOG, queue.ring.device_gpa)
        self.copies = {region: bytearray(region.view) for region in disk.mem.regions}

    def _take(self, gpa, size):
        region = self.disk.mem.find(gpa, size)
        at = gpa - region.gpa
        self.copies[region][at:at + size] = region.view[at:at + size]

    def submit(self, requests, queue):
        """Afterwards, if the rings were empty, only the device has still to write descriptors."""
        ring = self.disk.queues[queue].ring
        for request in requests:
            for part in request.header + [(request.status_gpa, 1)] + request.data * (not request.writes):
                self._take(*part)
            ring.add(self.disk.chain(request), request)
        if ring.packed:
            self._take(ring.desc_gpa, ring.parts()["desc_gpa"])
        self.disk.queues[queue].notify()

    def _renew(self):
        for page in self.log.pages():
            region = next((r for r in self.copies if r.gpa <= page * 4096 < r.end), None)
            if region is not None:
                self._take(page * 4096, 4096)

    def sync(self):
        before, self.log = self.log, self.log_of(self.disk)
        self.disk.set_log(self.log)
        after, self.log = self.log, before
        self._renew()
        self.log = after
        before.close()

    def has(self, gpa, size):
        region = self.disk.mem.find(gpa, size)
        at = gpa - region.gpa
        return self.copies[region][at:at + size] == region.view[at:at + size]

    def end(self):
        """The rings have stopped. The pages that the copy has wrong."""
        for queue in self.disk.queues.values():
            for name, size in queue.ring.parts().items():
                if name in ("avail_gpa", "driver_gpa") or (name == "desc_gpa" and not queue.ring.packed):
                    self._take(getattr(queue.ring, name), size)
        self._renew()
        return [hex(gpa) for region in self.copies for gpa in range(region.gpa, region.end, 4096)
                if not self.has(gpa, 4096)]


def any_request(disk, rng):
    """Mostly a read of any shape; some fail, some need no storage, some write nothing but a status."""
    size = 512 * rng.choice((1, 3, 8, 8, 17, 64))
    kind = rng.choice((blk.T_IN,) * 9 + (blk.T_OUT, blk.T_GET_ID, blk.T_DISCARD, blk.T_FLUSH))
    if kind == blk.T_IN:
        sector = disk.capacity_sectors if rng.random() < 0.1 else rng.randrange(4096 - size // 512)
        pieces = None if rng.random() < 0.5 else [size - 100, 100]
        return disk.prepare(kind, sector, in_bytes=size, pieces=pieces, align=rng.choice((16, 4096)))
    if kind == blk.T_OUT:
        return disk.prepare(kind, rng.randrange(4096), out=rng.randbytes(512))
    if kind == blk.T_DISCARD:
        ranges = [blk.RANGE.pack(8192 + 8 * i, 8, 0) for i in range(rng.choice((1, 3)))]
        return disk.prepare(kind, out=b"".join(ranges))
    return disk.prepare(kind, in_bytes=20 if kind == blk.T_GET_ID else 0)


@pytest.mark.parametrize("end", ["bases", "status_0"])
@pytest.mark.parametrize("name", ["two", "image", "pinned"])
@both_kinds
def test_a_copy_renewed_by_the_log_is_guest_memory(pair, opened, log_of, packed, name, end):
    """Nothing is written that the log does not tell of, in time: under load on both lcores, while queues
    are handed over and the memory table is set, and up to the end of what was in flight at the end."""
    mem = GuestMemory().allocate() if name == "pinned" else GuestMemory()
    disk = opened(pair.path(name), queues=QUEUES, packed=packed, event_idx=True, features=(F.BLK_DISCARD,), mem=mem)
    disk.capacity_sectors = disk.capacity
    rng = random.Random(name + end)
    for sector in range(0, 4096, 128):
        disk.write(sector, rng.randbytes(65536))
    migration = Migration(disk, log_of)
    seen = set()

    def submit():
        last = []
        for queue in range(QUEUES):
            left = 16 - len(disk.queues[queue].ring.outstanding)
            requests = [any_request(disk, rng) for _ in range(left)]
            migration.submit(requests, queue)
            last.append(requests)
        return last

    def reap(*all_of):
        """Those that the guest has been told of are in the copy by the next time."""
        done = [request for queue in range(QUEUES) for request in disk.reap(queue)]
        for queue in all_of:
            while disk.queues[queue].ring.outstanding:
                done += disk.reap(queue)
        migration.sync()
        for request in done:
            seen.add(request.status)
            for part in request.data + [(request.status_gpa, 1)]:
                assert migration.has(*part)
            disk.release(request)

    for round_ in range(30):
        submit()
        if round_ % 10 == 3:
            pair.move(name, round_ % QUEUES, 1 + round_ // 10 % 2)
        if round_ % 10 == 7:
            disk.set_mem_table(disk.mem)
        reap()
    submit()
    reap(*range(QUEUES))
    deadline = time.monotonic() + PATIENCE
    for requests in submit():           # each queue has begun; nothing is written to look for that
        while all(request.status == blk.PENDING for request in requests):
            assert time.monotonic() < deadline
    if end == "status_0":               # as QEMU 7.2 does it
        disk.set_status(0)
    disk.stop()
    assert migration.end() == []
    assert seen == {blk.S_OK, blk.S_IOERR}


@both_kinds
def test_one_queue_is_stopped_while_the_others_run(pair, opened, packed):
    disk = opened(pair.path("two"), queues=QUEUES, packed=packed)
    models = [Model(disk, queue, at=queue * Model.SECTORS) for queue in range(QUEUES)]
    for round_ in range(8):
        stopped = round_ % QUEUES
        base = disk.get_vring_base(stopped)
        assert base == disk.queues[stopped].ring.base
        for queue, model in enumerate(models):
            if queue != stopped:
                model.step(queue)
        disk.start_queue(disk.queues[stopped])
        models[stopped].step(stopped)


@both_kinds
def test_a_disconnect_drains_both(pair, opened, packed):
    disk = tracked(opened, pair.path("held"), packed, queues=QUEUES)
    start(disk, QUEUES)
    with pair.hold():
        requests = [disk.submit([disk.prepare(blk.T_IN, i, in_bytes=512) for i in range(3 + queue)], queue)
                    for queue in range(QUEUES)]
        for queue in range(QUEUES):
            wait_taken(disk, 3 + queue, queue)
        disk.wire.close()
        time.sleep(0.02)                # it has been noticed, perhaps
    for queue in range(QUEUES):
        disk.reap(queue, timeout=0)
    again = resume(opened, pair.path("held"), disk)
    for queue in range(QUEUES):
        wait_all(again, requests[queue], queue)
        wait_taken(again, 0, queue)


@both_kinds
def test_a_hostile_ring_breaks_only_itself(pair, opened, packed):
    disk = opened(pair.path("two"), queues=QUEUES, packed=packed)
    request = disk.prepare(blk.T_IN, in_bytes=512)
    request.data = [(0x7fff_0000_0000, 512)]
    disk.submit([request], 2)
    assert disk.queues[2].err.wait()
    for queue in (0, 1, 3):
        disk.read(0, 4096, queue=queue)
    # Broken as it is it can be handed over, and stays broken there.
    pair.move("two", 2, 2)
    disk.submit([disk.prepare(blk.T_IN, in_bytes=512)], 2)
    assert disk.reap(2, timeout=0.1) == []
    for queue in (0, 1, 3):
        disk.read(0, 4096, queue=queue)
    assert disk.queues[2].err.count() == 0
    disk.get_vring_base(2)
    disk.queues[2].ring = disk.new_ring(64)
    disk.start_queue(disk.queues[2])
    each_queue_works(disk)


# --- queues that are handed over

class Mover(Meanwhile):
    """Hands the queues of a disk to one lcore and the other, all the while."""

    def __init__(self, pair, disk):
        super().__init__()
        self.control = Control(pair.folder / "control.sock")
        self.disk = disk

    def step(self):
        try:
            self.control.call("queue_move", name=self.disk, queue=self.count % QUEUES,
                              lcore=1 + (self.count + self.count // QUEUES) % 2)
        except Refused as refused:
            # Other programs keep the storage busy.
            if refused.code != NOT_MOVED or "did not complete" not in str(refused):
                raise
            return
        self.count += 1
        time.sleep(0.002)

    def __exit__(self, *exc):
        try:
            super().__exit__(*exc)
        finally:
            self.control.sock.close()


@pytest.mark.parametrize("name", ["two", "image"])
@both_kinds
def test_queues_are_handed_over_under_verified_load(pair, opened, packed, name):
    disk = opened(pair.path(name), queues=QUEUES, packed=packed, event_idx=True, indirect=packed)
    models = [Model(disk, queue, at=queue * Model.SECTORS) for queue in range(QUEUES)]
    before = pair.completions(name)
    with Mover(pair, name) as mover:
        deadline = time.monotonic() + PATIENCE
        for round_ in itertools.count():
            for queue, model in enumerate(models):
                model.step(queue)
            if round_ >= 40 and mover.count >= 100:
                break
            assert time.monotonic() < deadline, "only %d moves" % mover.count
    after = pair.completions(name)
    assert all(after[lcore] > before[lcore] for lcore in (1, 2))
    for queue, model in enumerate(models):
        assert disk.read(model.at, 512 * Model.SECTORS, queue=queue) == b"".join(model.sectors)


@both_kinds
def test_a_move_takes_what_is_in_flight_to_its_end(pair, opened, packed):
    disk = tracked(opened, pair.path("held"), packed, queues=QUEUES)
    start(disk, QUEUES)
    with pair.hold() as hold:
        requests = disk.submit([disk.prepare(blk.T_IN, i, in_bytes=512) for i in range(6)])
        wait_taken(disk, 6)
        with hold.let_go_meanwhile():
            pair.move("held", 0, 2)
    assert pair.owners("held")[0] == 2
    disk.reap(timeout=0)
    assert all(request.done for request in requests)
    # There it is tracked as before: a front end that comes back has the rest done.
    with pair.hold():
        requests = disk.submit([disk.prepare(blk.T_IN, i, in_bytes=512) for i in range(6)])
        wait_taken(disk, 6)
        disk.wire.close()
    disk.reap(timeout=0)
    again = resume(opened, pair.path("held"), disk)
    assert pair.owners("held")[0] == 2
    wait_all(again, requests)


def test_with_storage_that_does_not_answer_the_queue_stays(pair, opened):
    disk = tracked(opened, pair.path("held"), False, queues=2)
    start(disk, 2)
    with pair.hold():
        requests = disk.submit([disk.prepare(blk.T_IN, i, in_bytes=512) for i in range(3)])
        wait_taken(disk, 3)
        with pytest.raises(Refused) as refusal:
            pair.move("held", 0, 2)
        assert refusal.value.code == NOT_MOVED
        assert "queue=0 stays where it was" in str(refusal.value)
        assert pair.owners("held") == [1, 2, 1, 2]
    wait_all(disk, requests)
    pair.move("held", 0, 2)
    assert pair.owners("held") == [2, 2, 1, 2]


def test_lcores_that_own_nothing_sleep(pair, opened):
    """All queues go to one lcore; the other has no poller then, and is not busy."""
    disk = opened(pair.path("two"), queues=QUEUES, event_idx=True)
    pollers = [pair.lcore(number)["pollers"] for number in (1, 2)]
    for queue in range(QUEUES):
        pair.move("two", queue, 1)
    wait_until(lambda: pair.lcore(2)["asleep"], lambda: pair.lcore(2))
    assert [pair.lcore(number)["pollers"] for number in (1, 2)] == [pollers[0] + 2, pollers[1] - 2]
    before = [pair.lcore(number) for number in (1, 2)]
    model = Model(disk, 1)
    for round_ in range(40):
        model.step(round_ % QUEUES)
    after = [pair.lcore(number) for number in (1, 2)]
    busy = [now["busy_cycles"] - then["busy_cycles"] for then, now in zip(before, after)]
    assert busy[0] > 0 and after[1]["asleep"]
    assert after[1]["turns"] - before[1]["turns"] < (after[0]["turns"] - before[0]["turns"]) / 10
    # And wakes when a queue comes back.
    pair.move("two", 1, 2)
    time.sleep(0.05)
    each_queue_works(disk)
    assert pair.lcore(2)["busy_cycles"] > after[1]["busy_cycles"]


@pytest.mark.parametrize("params, code", [
    ({"name": "none", "queue": 0, "lcore": 1}, -32001),
    ({"name": "two", "queue": 4, "lcore": 1}, -32602),
    ({"name": "two", "queue": -1, "lcore": 1}, -32602),
    ({"name": "two", "queue": 0, "lcore": 0}, -32602),
    ({"name": "two", "queue": 0, "lcore": 3}, -32602),
    ({"name": "two", "queue": "0", "lcore": 1}, -32602),
    ({"name": "two", "queue": 0}, -32602),
    ({"device": "two", "queue": 4, "lcore": 1}, -32602),        # its former name
])
def test_a_move_that_cannot_be_is_refused(pair, params, code):
    with pytest.raises(Refused) as refusal:
        pair.control.call("queue_move", **params)
    assert refusal.value.code == code
    assert pair.owners("two") == [1, 2, 1, 2]


def test_the_queues_of_a_port_go_as_pairs(pair, opened):
    port = opened(pair.path("port"), NetPort, pairs=2)
    for round_ in range(8):
        for queue in (0, 1):
            frame = packets.plain(round_ + queue, 200)
            assert port.echo(frame, queue) == packets.swapped(frame)
        pair.move("port", round_ % 2, 1 + round_ // 2 % 2)
    assert pair.owners("port") == [2, 2]


def test_vhubctl_moves_queues_and_shows_where_they_are(pair):
    path = pair.folder / "control.sock"
    done = vhubctl(path, "move", "two", 0, 2)
    assert (done.returncode, done.stdout) == (0, "queue 0 of two is served by lcore 2\n")
    shown = vhubctl(path, "stats", "two").stdout
    assert re.search(r"^lcore +2 +2 +1 +2$", shown, re.M), shown
    refused = vhubctl(path, "move", "two", 0, 7)
    assert refused.returncode == 1 and "lcore=7" in refused.stderr
