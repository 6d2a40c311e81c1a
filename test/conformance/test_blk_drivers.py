# SPDX-License-Identifier: BSD-3-Clause
"""What every block driver's disks must do, seen by a guest: one suite, run for each driver.

The driver alone is held by test/unit/blk/driver_suite.c; here it is under whole disks. Each driver has
one disk as it is and three with `unruly` (test/tools) around it, which delays, reorders and fails.
"""

import os
import subprocess
import tempfile
from contextlib import ExitStack
from pathlib import Path

import pytest

from control import Control
from hold import Hold, wait_in_flight, wait_taken
from stage import Figures
from test_suspend import opened_disk
from vhostuser import F, GuestMemory, Model, Region, pattern, wait_until
from vhostuser import blk
from vhubd import Vhubd, build_dir

MB = 1 << 20
SIZE = 4 * MB
CAPACITY = SIZE // 512
TOP = 1 << 64
FAIL_EVERY = 7
KINDS = {"": "", "shuffled": "shuffle=on", "held": "hold={hold}", "failing": "fail_every=%d" % FAIL_EVERY}
RANGES = {"discard": (blk.T_DISCARD, F.BLK_DISCARD), "write_zeroes": (blk.T_WRITE_ZEROES, F.BLK_WRITE_ZEROES),
          "secure_erase": (blk.T_SECURE_ERASE, F.BLK_SECURE_ERASE)}
ROOT = os.geteuid() == 0
LOOPS = ROOT and os.path.exists("/dev/loop-control")

#: by name: keys of a disk, {image}: a file of its own, {memory}: one in memory, {loop}: a device over one
DRIVERS = {
    "null": "null,size=4M",
    "malloc": "malloc,size=4M",
    "file": "uring,path={image}",
    "cache": "uring,path={image},direct=off",
    "tmpfs": "uring,path={memory}",
    **({"loop": "uring,path={loop}"} if LOOPS else {}),
    "pinned": "uring,path={image},direct=off,pin=on",
    "sqpoll": "uring,path={image},sqpoll=on,sqpoll_idle_ms=1",
    "faulty": "faulty,size=4M",         # which is no part of vhub: vhubd --load brings it
}
both_kinds = pytest.mark.parametrize("packed", [False, True], ids=["split", "packed"])


def run(*words):
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


class Places:
    """Images in two folders, and devices over them: once let go of, a device is there as long as
    somebody has it open."""

    def __init__(self, folder, memory):
        self.folder, self.memory_folder = folder, memory
        self.made = ExitStack()
        self.count = 0

    def let_go(self):
        self.made.close()

    def _file(self, folder):
        self.count += 1
        path = folder / ("image%d" % self.count)
        with open(path, "wb") as file:
            file.truncate(SIZE)
        return path

    def image(self):
        return self._file(self.folder)

    def memory(self):
        return self._file(self.memory_folder)

    def loop(self):
        device = run("losetup", "--find", "--show", self.memory())
        self.made.callback(run, "losetup", "--detach", device)
        return device

    def full(self):
        """A sparse file that is larger than its file system."""
        place = self.folder / "full"
        place.mkdir()
        run("mount", "-t", "tmpfs", "-o", "size=2M", "none", place)
        self.made.callback(run, "umount", "--lazy", place)
        return self._file(place)

    def keys(self, text):
        for name in ("image", "memory", "loop"):
            if "{%s}" % name in text:
                text = text.replace("{%s}" % name, str(getattr(self, name)()))
        return text


class Disks:
    """The daemon, with four disks of each driver."""

    def __init__(self, folder, memory):
        self.folder = folder
        self.images = {}
        self.hold = Hold(folder / "hold")       # keeps those that are "held" from answering
        places = Places(folder, memory)
        try:
            self.daemon = self.start(places)
        finally:
            places.let_go()
        self.control = Control(folder / "control.sock")

    def start(self, places):
        specs = []
        for driver, keys in DRIVERS.items():
            for kind, how in KINDS.items():
                text = places.keys(keys)
                self.images[driver, kind] = text.partition("path=")[2].partition(",")[0]
                how = how.format(hold=self.hold.path)
                specs.append(self.spec(driver + kind, "driver=unruly,over=%s,%s" % (text, how) if how
                                       else "driver=" + text))
        if ROOT:
            specs.append(self.spec("full", "driver=uring,path=%s" % places.full()))
        tools = build_dir() / "test/tools"
        return Vhubd(*specs, folder=self.folder, loads=[tools / "faulty.so", tools / "unruly.so"],
                     args=["--control", str(self.folder / "control.sock")]).start()

    def spec(self, name, keys):
        return "%s,socket=%s,%s,queues=2" % (name, self.path(name), keys)

    def path(self, name):
        return self.folder / (name + ".sock")

    def wait_in_flight(self, name, count):
        wait_in_flight(self.control, name, count)

    def close(self):
        try:
            self.daemon.stop()
        finally:
            self.daemon.kill()


@pytest.fixture(scope="module")
def disks():
    with tempfile.TemporaryDirectory(prefix="vhub-d-") as folder, \
            tempfile.TemporaryDirectory(prefix="vhub-d-", dir="/dev/shm") as memory:
        made = Disks(Path(folder), Path(memory))
        try:
            yield made
        finally:
            made.close()


@pytest.fixture(params=list(DRIVERS))
def driver(request):
    return request.param


@pytest.fixture
def disk_of(disks, driver, opened):
    """Opens a session on the driver's disk, as it is or disturbed in one of KINDS."""
    def open_(kind="", **keywords):
        if driver == "pinned" and "mem" not in keywords:
            keywords["mem"] = GuestMemory().allocate()
        return opened(disks.path(driver + kind), **keywords)

    yield open_
    assert disks.daemon.running(), disks.daemon.log[-8000:]


def keeps_data(driver):
    return driver != "null"


def offered_ranges(disk_of):
    """[(request, feature)] of the driver."""
    with disk_of() as disk:
        return [each for each in RANGES.values() if disk.offered >> each[1] & 1]


# ---- the end of the disk

@both_kinds
def test_what_ends_at_the_end_is_done_and_what_goes_past_it_is_an_error(disk_of, driver, packed):
    ranges = offered_ranges(disk_of)
    disk = disk_of(packed=packed, features=[feature for _, feature in ranges])
    assert disk.capacity == CAPACITY
    last = pattern(3, 8192)
    disk.write(CAPACITY - 16, last)
    for sector, size in ((CAPACITY, 512), (CAPACITY - 1, 1024), (CAPACITY - 8, 8192), (0, SIZE + 512),
                         (CAPACITY + 1, 512), (TOP - 1, 512), (TOP - 8, 4096), (1 << 55, 512), (1 << 63, 512)):
        if size <= 8192:
            assert disk.run(blk.T_OUT, sector, out=bytes(size))[0] == blk.S_IOERR, (sector, size)
        assert disk.run(blk.T_IN, sector, in_bytes=size)[0] == blk.S_IOERR, (sector, size)
    for kind, _ in ranges:
        for sector, count in ((CAPACITY, 8), (CAPACITY - 8, 16), (TOP - 8, 8), (0, CAPACITY + 8)):
            assert disk.ranges(kind, [(sector, count)]) == blk.S_IOERR, (kind, sector, count)
    if keeps_data(driver):
        assert disk.read(CAPACITY - 16, 8192) == last
        assert disk.read(CAPACITY - 1, 512) == last[-512:]
    for kind, _ in ranges:
        assert disk.ranges(kind, [(CAPACITY - 8, 8)]) == blk.S_OK
        if kind == blk.T_WRITE_ZEROES and keeps_data(driver):
            assert disk.read(CAPACITY - 16, 8192) == last[:4096] + bytes(4096)
    disk.write(CAPACITY - 8, last[:4096])
    disk.read(CAPACITY - 8, 4096)


# ---- buffers

@both_kinds
def test_buffers_of_a_guest_may_lie_anywhere(disk_of, driver, packed):
    disk = disk_of(packed=packed)
    data = pattern(7, 12288)
    for align, pieces in ((1, None), (1, [511, 1, 4000, 7776]), (512, [512, 11776]), (4096, None)):
        disk.mem.alloc(1)
        disk.write(64, data, align=align, pieces=pieces)
        back = disk.read(64, len(data), align=align, pieces=pieces and pieces[::-1])
        assert not keeps_data(driver) or back == data
        assert not keeps_data(driver) or disk.read(65, 512, align=align) == data[512:1024]


# ---- errors

@both_kinds
def test_an_error_is_that_of_its_own_request_alone(disk_of, driver, packed):
    disk = disk_of("failing", packed=packed)
    count = 4 * FAIL_EVERY
    seed = 1000 * (1 + packed)
    writes = [disk.prepare(blk.T_OUT, 8 * i, out=pattern(seed + i, 4096)) for i in range(count)]
    disk.wait(disk.submit(writes))
    assert sorted(write.status for write in writes) == [blk.S_OK] * (count - 4) + [blk.S_IOERR] * 4
    assert {write.length for write in writes} == {1}
    flushes = [disk.prepare(blk.T_FLUSH) for i in range(FAIL_EVERY)]
    disk.wait(disk.submit(flushes))
    assert sorted(flush.status for flush in flushes) == [blk.S_OK] * (FAIL_EVERY - 1) + [blk.S_IOERR]
    if not keeps_data(driver):
        return
    for i, request in enumerate(writes):
        # A read may be the one that fails, but not twice in a row.
        for _ in range(2):
            status, data, _ = disk.run(blk.T_IN, 8 * i, in_bytes=4096)
            if status == blk.S_OK:
                break
        assert (data == pattern(seed + i, 4096)) == (request.status == blk.S_OK)


@pytest.mark.parametrize("name", ["file", "cache", "tmpfs"])
def test_an_image_that_was_cut_gives_errors_beyond_the_cut(disks, opened, name):
    disk = opened(disks.path(name))
    disk.write(0, pattern(1, 8192))
    disk.write(CAPACITY - 16, pattern(2, 8192))
    image = disks.images[name, ""]
    os.truncate(image, SIZE // 2)
    try:
        assert disk.read(0, 8192) == pattern(1, 8192)
        for sector, size in ((CAPACITY - 16, 8192), (CAPACITY // 2, 512), (CAPACITY // 2 - 8, 8192)):
            assert disk.run(blk.T_IN, sector, in_bytes=size)[0] == blk.S_IOERR, sector
        assert disk.read(CAPACITY // 2 - 8, 4096) == bytes(4096)
    finally:
        os.truncate(image, SIZE)
    assert disk.read(CAPACITY - 16, 8192) == bytes(8192)


@both_kinds
def test_a_full_file_system_gives_errors_until_there_is_room(disks, opened, packed):
    """The image is sparse and has 4 MiB, its file system 2 MiB."""
    disk = opened(disks.path("full"), packed=packed, features=[F.BLK_DISCARD, F.BLK_WRITE_ZEROES],
                  mem=GuestMemory(((0, 16 * MB, 0x7e30_0000_0000, 0),)))
    step = 256 << 10
    requests = [disk.prepare(blk.T_OUT, i * step // 512, out=pattern(i, step)) for i in range(SIZE // step)]
    disk.wait(disk.submit(requests))
    done = [i for i, request in enumerate(requests) if request.status == blk.S_OK]
    assert {request.status for request in requests} == {blk.S_OK, blk.S_IOERR}
    assert SIZE // step // 4 < len(done) <= 2 * MB // step
    for i in done:
        assert disk.read(i * step // 512, step) == pattern(i, step)
    assert disk.ranges(blk.T_DISCARD, [(0, CAPACITY)]) == blk.S_OK
    disk.write(CAPACITY - step // 512, pattern(9, step))
    assert disk.read(CAPACITY - step // 512, step) == pattern(9, step)
    assert disk.ranges(blk.T_WRITE_ZEROES, [(0, CAPACITY)], blk.UNMAP) == blk.S_OK


if not ROOT:
    del test_a_full_file_system_gives_errors_until_there_is_room  # nobody else may mount one


# ---- order

def completed(disk, count):
    """Requests in flight together: as submitted, and as they came back."""
    requests = [disk.prepare(blk.T_IN, 8 * i, in_bytes=4096) for i in range(count)]
    disk.submit(requests)
    done = []
    while len(done) < count:
        got = disk.reap()
        assert got
        done += got
    assert {request.status for request in requests} == {blk.S_OK}
    return requests, done


@both_kinds
def test_completions_in_any_order_are_those_of_their_requests(disk_of, driver, packed):
    disk = disk_of("shuffled", packed=packed, size=128)
    rounds = [completed(disk, 32) for _ in range(4)]
    assert any(requests != done for requests, done in rounds)
    assert all(sorted(map(id, requests)) == sorted(map(id, done)) for requests, done in rounds)
    if keeps_data(driver):
        model = Model(disk, 11)
        for _ in range(15):
            model.step(most=12)
        assert b"".join(model.sectors) == disk.read(0, 512 * Model.SECTORS)


@both_kinds
def test_a_guest_that_wants_them_in_order_gets_them_so(disk_of, packed):
    disk = disk_of("shuffled", packed=packed, in_order=True, size=128)
    for _ in range(3):
        requests, done = completed(disk, 32)
        assert requests == done


# ---- what ends while requests are in flight

@both_kinds
def test_a_stop_waits_for_what_is_in_flight_and_tells_where_the_ring_stands(disks, disk_of, driver, packed):
    disk = disk_of("held", packed=packed, size=64)
    ring = disk.queues[0].ring
    requests = [disk.prepare(blk.T_OUT, 8 * i, out=pattern(50 + i, 4096)) for i in range(12)]
    with disks.hold as hold:
        disk.submit(requests)
        disks.wait_in_flight(driver + "held", 12)
        assert not ring.used()
        with hold.let_go_meanwhile():
            base = disk.get_vring_base(0)
    # No waiting: they are back before the answer.
    assert len(ring.used()) == 12
    assert {request.status for request in requests} == {blk.S_OK}
    if packed:
        assert base == 36 | 1 << 15 | 36 << 16 | 1 << 31
    else:
        assert base == 12
    disk.start_queue(disk.queues[0], base=base)
    back = disk.read(8 * 11, 4096)
    assert not keeps_data(driver) or back == pattern(61, 4096)


@both_kinds
def test_a_ring_that_is_suspended_again_and_again_does_each_request_once(disks, opened, driver, packed):
    """Wherever they are: in the ring, waiting for the driver, at work, done and not told yet."""
    disk = opened_disk(opened, disks.path(driver), {"packed": packed, "indirect": True}, size=256,
                       mem=GuestMemory(((0, 16 * MB, 0x7e30_0000_0000, 0),)))
    requests = []
    for round_ in range(20):
        batch = [disk.prepare(blk.T_OUT, 32 * (8 * round_ + i), out=pattern(5000 * packed + 8 * round_ + i, 16384))
                 for i in range(8)]
        disk.submit(batch + [disk.prepare(blk.T_FLUSH)])
        requests += batch
        disk.reap(timeout=0)
        base = disk.suspend(0)
        disk.reap(timeout=0)
        # What was told is not in the region, what is in the region was not told.
        assert len(disk.region.inflight(0)) <= len(disk.queues[0].ring.outstanding)
        disk.start_queue(disk.queues[0], base=base)
    disk.wait(requests)
    disk.wait(disk.submit([disk.prepare(blk.T_FLUSH)]))
    assert {request.status for request in requests} == {blk.S_OK}
    wait_taken(disk, 0, 0)
    if keeps_data(driver):
        for i in range(len(requests)):
            assert disk.read(32 * i, 16384) == pattern(5000 * packed + i, 16384)


def test_a_session_that_ends_with_requests_in_flight_leaves_the_disk_as_it_was(disks, disk_of, driver):
    disk = disk_of("held", queues=2)
    with disks.hold:
        disk.submit([disk.prepare(blk.T_OUT, 8 * i, out=pattern(70 + i, 4096)) for i in range(8)])
        disk.submit([disk.prepare(blk.T_IN, 8 * i, in_bytes=4096) for i in range(8)], queue=1)
        disks.wait_in_flight(driver + "held", 16)
        disk.close()
    disk = disk_of("held", packed=True)
    requests = [disk.prepare(blk.T_IN, 8 * i, in_bytes=4096) for i in range(8)]
    disk.wait(disk.submit(requests))
    assert {request.status for request in requests} == {blk.S_OK}
    if keeps_data(driver):
        # They had been taken, so they were done: nobody else could have written there meanwhile.
        assert [request.payload() for request in requests] == [pattern(70 + i, 4096) for i in range(8)]
    # The first session's memory is let go of, which is blocking work and may take longer than those reads.
    wait_until(lambda: len(Figures(disks.daemon.pid).foreign) == len(disk.mem.regions))


def test_new_memory_waits_for_what_is_in_flight(disks, disk_of, driver):
    """Writes from a region that is then replaced by another at the same address: what they store is
    what the first one held."""
    disk = disk_of("held", regions=(0, 0, 0))
    old = disk.mem.regions[2]
    requests = []
    for i in range(8):
        request = disk.prepare(blk.T_OUT, 8 * i, out=bytes(4096))
        request.data = [(old.end - 4096 * (i + 1), 4096)]
        disk.mem.write(request.data[0][0], pattern(90 + i, 4096))
        requests.append(request)
    with disks.hold as hold:
        disk.submit(requests)
        disks.wait_in_flight(driver + "held", 8)
        disk.mem.regions[2] = Region(old.gpa, old.size, old.uva, 0x8000)
        with hold.let_go_meanwhile():
            disk.set_mem_table(disk.mem)
    # Nothing is in flight when a table has been changed.
    disk.queues[0].ring.used()
    assert {request.status for request in requests} == {blk.S_OK}
    request = disk.prepare(blk.T_IN, 0, in_bytes=8 * 4096)
    request.data = [(old.end - 8 * 4096, 8 * 4096)]
    disk.wait(disk.submit([request]))
    assert request.status == blk.S_OK
    if keeps_data(driver):
        assert request.payload() == b"".join(pattern(90 + i, 4096) for i in range(8))
    old.close()
