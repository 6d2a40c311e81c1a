# SPDX-License-Identifier: BSD-3-Clause
"""What `uring` disks can be asked for beside plain io_urings: guest memory that is registered (pin=on), and
a thread of the kernel's that submits (sqpoll=on), with queues on two lcores. test/unit/blk/test_blk_uring_pins.c
holds which I/O goes by a registration; here it is that the guest notices none of it.
"""

import os
import re
import time
from pathlib import Path

import pytest

from module_daemon import ModuleDaemon, started, watched
from vhostuser import PATIENCE, Closed, F, GuestMemory, Model, Region, wait_until
from vhostuser import blk

both_kinds = pytest.mark.parametrize("packed", [False, True], ids=["split", "packed"])
MB = 1 << 20
QUEUES = 4
DISKS = {name: "driver=uring,path={folder}/%s,queues=4,lcores=2,%s" % (name, keys) for name, keys in {
    "pinned": "direct=auto,pin=on",
    "cached": "direct=off,pin=on",
    "cut": "direct=auto,pin=on",
    "sqpoll": "sqpoll=on,sqpoll_idle_ms=1",
    "both": "direct=off,sqpoll=on,sqpoll_idle_ms=1,sqpoll_cpu=0,pin=on",
}.items()}


class Modes(ModuleDaemon):
    """What registered memory is asked for."""

    def times_pinned(self, name):
        """That the daemon has told so of a disk, which it does ten times at once."""
        return self.daemon.log.count("/%s: 16 MiB of guest memory are pinned" % name)

    def pinned_kb(self):
        status = Path("/proc/%d/status" % self.daemon.pid).read_text(encoding="ascii")
        return int(re.search(r"VmPin:\s+(\d+) kB", status).group(1))

    def wait_pinned(self, wanted, why):
        wait_until(lambda: wanted(self.pinned_kb()), lambda: (why, self.pinned_kb()))


@pytest.fixture(scope="module")
def running_modes(tmp_path_factory):
    yield from started(Modes(tmp_path_factory.mktemp("u"), DISKS, images=dict.fromkeys(DISKS, 16 * MB)))


@pytest.fixture
def modes(running_modes, request):
    yield from watched(running_modes, request)


def models_of(disk, align):
    return [Model(disk, queue, at=queue * Model.SECTORS, align=align) for queue in range(QUEUES)]


def total_kb(disk):
    return sum(region.size for region in disk.mem.regions) // 1024


@both_kinds
@pytest.mark.parametrize("name", ["pinned", "cached", "both"])
def test_memory_changes_under_verified_io_on_two_lcores(modes, opened, name, packed):
    """The region in which the data lies is replaced by another file at the same place, which the next I/O
    has to meet, before it is registered and afterwards; queues change their lcore meanwhile."""
    disk = opened(modes.path(name), queues=QUEUES, packed=packed, regions=(0, 0, 0), mem=GuestMemory().allocate())
    models = models_of(disk, 4096)
    modes.wait_pinned(lambda kb: kb >= total_kb(disk), "the first table")
    for round_ in range(24):
        for queue, model in enumerate(models):
            model.step(queue)
        if round_ % 4 == 1:
            old = disk.mem.regions[1]
            new = Region(old.gpa, old.size, old.uva, (round_ % 3) * 0x8000).allocate()
            new.next_free = old.next_free
            disk.mem.regions[1] = new
            disk.set_mem_table(disk.mem)
            old.close()
        elif round_ % 4 == 2:
            modes.move(name, round_ % QUEUES, 1 + round_ // 4 % 2)
        elif round_ % 4 == 3:
            modes.wait_pinned(lambda kb: kb >= total_kb(disk), "another table")
    disk.close()
    modes.wait_pinned(lambda kb: kb == 0, "the session is over")


def test_memory_slots_come_and_go(modes, opened):
    """As with hot plug: the rest of the memory stays what it was."""
    disk = opened(modes.path("pinned"), regions=(0, 0, 0), mem=GuestMemory().allocate())
    model = Model(disk, 1, align=4096)
    modes.wait_pinned(lambda kb: kb >= total_kb(disk), "the first table")
    for round_ in range(6):
        more = Region(0x2_0000_0000, 4 * MB, 0x7e50_0000_0000).allocate()
        disk.mem.regions.append(more)
        disk.set_mem_table(disk.mem)
        model.step()
        if round_ % 2:
            modes.wait_pinned(lambda kb: kb == total_kb(disk), "with more memory")
        request = disk.prepare(blk.T_IN, in_bytes=8192)
        request.data = [(more.gpa + 4096 * round_, 8192)]
        disk.wait(disk.submit([request]))
        assert request.payload() == b"".join(model.sectors[:16])
        disk.mem.regions.remove(more)
        disk.set_mem_table(disk.mem)
        more.close()
        model.step()
        if round_ % 2:
            modes.wait_pinned(lambda kb: kb == total_kb(disk), "without it")


def test_memory_without_pages_is_neither_pinned_nor_filled(modes, opened):
    modes.wait_pinned(lambda kb: kb == 0, "nobody is there")
    disk = opened(modes.path("pinned"), regions=(0, 0, 0))
    model = Model(disk, 2, align=4096)
    for _ in range(20):
        model.step()
    assert modes.pinned_kb() == 0
    assert sum(os.fstat(region.fd).st_blocks for region in disk.mem.regions) * 512 < 4 * MB


def test_memory_whose_pages_went_is_neither_pinned_nor_filled(modes, opened):
    """A front end has the pages of one region at a time, and describes many."""
    disk = opened(modes.path("pinned"), regions=(0, 0, 0), mem=GuestMemory().allocate())
    model = Model(disk, 5, align=4096)
    modes.wait_pinned(lambda kb: kb == total_kb(disk), "the first table")
    empty = [Region(0x2_0000_0000 + i * 0x100_0000, 4 * MB, 0x7e50_0000_0000 + i * 0x100_0000) for i in range(8)]
    for region in empty:
        disk.add_region(region.allocate())
        region.punch()
    full = Region(0x3_0000_0000, 6 * MB, 0x7e60_0000_0000)
    disk.add_region(full.allocate())
    modes.wait_pinned(lambda kb: kb == total_kb(disk) + full.size // 1024, "what has its pages")
    assert [os.fstat(region.fd).st_blocks for region in empty] == [0] * len(empty)
    model.step()
    for region in [*empty, full]:
        region.close()


@both_kinds
def test_pinned_memory_that_is_cut_costs_the_session_alone(modes, opened, packed):
    """What was pinned is still there for the kernel; whoever else touches it ends the session."""
    neighbour = opened(modes.path("cached"), mem=GuestMemory().allocate())
    model = Model(neighbour, 3, align=4096)
    told = modes.times_pinned("cut")
    disk = opened(modes.path("cut"), packed=packed, regions=(0, 0, 0), mem=GuestMemory().allocate())
    # From then on all goes by the registration.
    wait_until(lambda: modes.times_pinned("cut") != told)
    region = disk.mem.regions[2]                        # headers and statuses lie in another one
    requests = [disk.prepare(blk.T_IN, 8 * i, in_bytes=4096) for i in range(32)]
    for i, request in enumerate(requests):
        request.data = [(region.gpa + 4096 * i + 65536, 4096)]
    late = disk.prepare(blk.T_IN, in_bytes=512)
    late.data = [(region.gpa + 1, 512)]                 # which takes a copy of ours
    region.truncate(0)
    disk.wait(disk.submit(requests))
    assert {request.status for request in requests} == {blk.S_OK}
    model.step()
    disk.submit([late])
    deadline = time.monotonic() + PATIENCE
    with pytest.raises((Closed, OSError)):
        while time.monotonic() < deadline:
            disk.config("capacity")
    model.step()
    neighbour.close()
    disk.close()
    modes.wait_pinned(lambda kb: kb == 0, "both are over")
    again = opened(modes.path("cut"), packed=packed, mem=GuestMemory().allocate())
    Model(again, 4, align=4096).step()


@both_kinds
@pytest.mark.parametrize("name", ["sqpoll", "both"])
def test_the_kernels_thread_sleeps_and_wakes(modes, opened, name, packed):
    """On both lcores, which sleep as well, and with what it cannot do for the guest: discard, zeroes."""
    disk = opened(modes.path(name), queues=QUEUES, packed=packed, mem=GuestMemory().allocate(),
                  features=[F.BLK_DISCARD, F.BLK_WRITE_ZEROES])
    models = models_of(disk, 16 if name == "sqpoll" else 4096)
    for round_ in range(24):
        for queue, model in enumerate(models):
            model.step(queue)
        if round_ % 4 == 0:
            time.sleep(0.005)
        elif round_ % 4 == 1:
            disk.flush(round_ % QUEUES)
            assert disk.ranges(blk.T_WRITE_ZEROES, [(16384, 64)], queue=round_ % QUEUES) == blk.S_OK
            assert disk.ranges(blk.T_DISCARD, [(16384, 64)], queue=round_ % QUEUES) == blk.S_OK
        elif round_ % 4 == 2:
            modes.move(name, round_ % QUEUES, 1 + round_ // 4 % 2)


def fds_of(pid, kind):
    """{number: what it is} of those of a process that are of a kind."""
    found = {}
    for fd in Path("/proc/%d/fd" % pid).iterdir():
        try:
            link = os.readlink(fd)
        except OSError:                 # it has gone meanwhile
            continue
        if link.startswith(kind):
            found[fd.name] = link
    return found


def test_rings_keep_the_connection_open(modes, opened):
    """So that a front end hears of the end of vhubd only when the kernel has nothing in flight any more, which
    test/unit/blk/test_blk_uring.c holds of a ring that has one."""
    pid = modes.daemon.pid
    before = fds_of(pid, "socket:").values()
    disk = opened(modes.path("cut"), queues=QUEUES)
    disk.read(0, 4096)
    connection, = set(fds_of(pid, "socket:").values()) - set(before)
    rings = [Path("/proc/%d/fdinfo/%s" % (pid, fd)) for fd in fds_of(pid, "anon_inode:[io_uring]")]
    assert len(rings) == 2              # one on each lcore
    # While a ring is at work it tells nothing.
    text = wait_until(lambda: [text for ring in rings if "UserFiles" in (text := ring.read_text(encoding="ascii"))])
    if str(modes.folder / "cut") not in text[0]:
        pytest.skip("this kernel tells no paths of a ring's files")
    for ring in rings:
        wait_until(lambda path=ring: connection in path.read_text(encoding="ascii"),
                   lambda path=ring: path.read_text(encoding="ascii"))
