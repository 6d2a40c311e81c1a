# SPDX-License-Identifier: BSD-3-Clause
"""Rings on which nothing comes for long: they are not polled any more, and whatever comes in the end,
from the guest, from another guest or from the session, finds them."""

import time

import pytest

from module_daemon import ModuleDaemon, started, watched
from vhostuser import PATIENCE, NF, EventFd, GuestMemory, NetPort, ctrl, packets, pattern, wait_until
from vhostuser.meanwhile import Meanwhile

both_kinds = pytest.mark.parametrize("packed", [False, True], ids=["split", "packed"])
MB = 1 << 20
IDLE = 64

#: All on the first worker, whose turn it is for each but the "two", which are on both.
DISKS = {
    "busy": "driver=malloc,size=1M",
    "two": "driver=malloc,size=4M,queues=2,lcores=2",
    **{"idle%d" % i: "driver=malloc,size=1M" for i in range(IDLE)},
}
PORTS = {
    "echo": "driver=echo,queues=2",
    "left": "driver=patch,patch=w,queues=2",
    "right": "driver=patch,patch=w,queues=2",
}


class Crowd(ModuleDaemon):
    """It does not sleep before long, so that nobody is woken by a kick."""

    def figure(self, device, name):
        return self.stats(device)["figures"][name]

    def wait_figure(self, device, name, value):
        wait_until(lambda: self.figure(device, name) == value, lambda: (name, self.figure(device, name)))

    def wait_parked(self, but=0):
        """Until all rings that are started are left alone, but for so many. An lcore that sleeps has none parked."""
        deadline = time.monotonic() + PATIENCE
        while True:
            lcores = self.control.call("lcore_list")
            polled = sum(each["pollers"] - each["parked"] for each in lcores)
            if polled <= but:
                return
            assert time.monotonic() < deadline, lcores
            time.sleep(0.001)


@pytest.fixture(scope="module")
def running_crowd(tmp_path_factory):
    yield from started(Crowd(tmp_path_factory.mktemp("i"), DISKS, PORTS, args=["--idle-us", "1000000"]))


@pytest.fixture
def crowd(running_crowd, request):
    yield from watched(running_crowd, request)


class Busy(Meanwhile):
    """A disk that always has something in flight."""

    def __init__(self, disk):
        super().__init__()
        self.disk = disk

    def step(self):
        requests = [self.disk.prepare(0, i, in_bytes=512) for i in range(8)]
        self.disk.wait(self.disk.submit(requests))
        for request in requests:
            self.disk.release(request)
        self.count += 1


@both_kinds
def test_the_first_request_after_long_is_answered_beside_a_busy_disk(crowd, opened, packed):
    mem = lambda: GuestMemory([(0, MB, 0x7e00_0000_0000, 0)])   # noqa: E731
    disks = [opened(crowd.path("idle%d" % i), packed=packed, size=16, mem=mem()) for i in range(IDLE)]
    with Busy(opened(crowd.path("busy"), packed=packed)) as busy:
        for round_ in range(2):
            crowd.wait_parked(but=1)
            for i, disk in enumerate(disks):
                data = pattern(round_ * IDLE + i, 512)
                disk.write(i, data)
                assert disk.read(i, 512) == data
        crowd.wait_parked(but=1)
        # All at once, and each goes on.
        asked = [disk.submit([disk.prepare(0, i, in_bytes=512)]) for i, disk in enumerate(disks)]
        for i, disk in enumerate(disks):
            disk.wait(asked[i])
            assert asked[i][0].payload() == pattern(IDLE + i, 512)
        assert busy.count > 0


class Changing(Meanwhile):
    """A guest that takes packets by one pair, by two, by one, and so on."""

    def __init__(self, session):
        super().__init__()
        self.guest = ctrl.Control(session)

    def step(self):
        self.count += 1
        self.guest.pairs(1 + self.count % 2)


def test_a_guest_that_changes_its_pairs_wakes_no_neighbour(crowd, opened):
    mem = lambda: GuestMemory([(0, MB, 0x7e00_0000_0000, 0)])   # noqa: E731
    disks = [opened(crowd.path("idle%d" % i), size=16, mem=mem()) for i in range(IDLE)]
    session = opened(crowd.path("echo"), NetPort, pairs=2, features=(NF.CTRL_VQ,))
    with Changing(session) as changing:
        crowd.wait_parked(but=5)
        for _ in range(50):
            assert sum(each["parked"] for each in crowd.control.call("lcore_list")) >= IDLE
            before = changing.count
            while changing.count < before + 3:
                time.sleep(0.0001)
    for i, disk in enumerate(disks):
        disk.write(i, pattern(i, 512))
    for pair in range(2):
        changing.guest.pairs(2)
        session.send(packets.plain(pair, 100), pair)
        assert session.receive(pair).frame == packets.swapped(packets.plain(pair, 100))


@both_kinds
def test_a_ring_that_is_never_kicked_is_served_lap_after_lap(crowd, opened, packed):
    disk = opened(crowd.path("idle0"), packed=packed, size=4, kick=False)
    for i in range(40):
        crowd.wait_parked()
        disk.write(i, pattern(i, 512))


@both_kinds
def test_the_session_reaches_an_idle_ring(crowd, opened, packed):
    """Each of these comes to rings that are left alone, which are served afterwards."""
    disk = opened(crowd.path("two"), packed=packed, queues=2)
    sector = 0

    def works():
        nonlocal sector
        for queue in range(2):
            sector += 8
            disk.write(sector, pattern(sector, 4096), queue=queue)
            assert disk.read(sector, 4096, queue=queue) == pattern(sector, 4096)
        crowd.wait_parked()

    works()
    disk.set_mem_table(disk.mem)
    works()
    # Rings and buffers are the same, where they are mapped is another place.
    region = disk.mem.regions[-1]
    disk.remove_region(region)
    disk.add_region(region)
    works()
    for queue in (0, 1):
        base = disk.get_vring_base(queue)
        assert base == disk.queues[queue].ring.base
        disk.start_queue(disk.queues[queue])
    works()
    # Disabled while it is left alone: nothing is taken until it is enabled.
    disk.set_vring_enable(0, False)
    crowd.wait_parked()
    request = disk.submit([disk.prepare(0, 8, in_bytes=512)])
    time.sleep(0.01)
    disk.reap(timeout=0)
    assert not request[0].done
    disk.set_vring_enable(0, True)
    disk.wait(request)
    works()
    call = EventFd()
    disk.set_vring_call(0, call)
    disk.queues[0].call.close()
    disk.queues[0].call = call
    works()
    for lcore in (2, 1):
        for queue in (0, 1):
            crowd.move("two", queue, lcore)
            crowd.wait_parked()
        works()
    crowd.move("two", 1, 2)
    crowd.control.call("device_resize", name="two", size=8 * MB)
    crowd.wait_parked()
    disk.write(8192, pattern(3, 4096))
    crowd.control.call("device_resize", name="two", size=4 * MB)
    works()
    disk.set_status(0)


@both_kinds
def test_one_queue_works_while_the_others_of_its_disk_are_idle(crowd, opened, packed):
    """Whoever is polled reaps for all of them, whichever that is."""
    crowd.move("two", 1, 1)
    disk = opened(crowd.path("two"), packed=packed, queues=2)
    for round_ in range(6):
        crowd.wait_parked()
        queue = round_ % 2
        requests = [disk.prepare(0, i, in_bytes=512) for i in range(20)]
        disk.wait(disk.submit(requests, queue), queue)
        other = disk.submit([disk.prepare(0, 1, in_bytes=512)], 1 - queue)
        disk.wait(other, 1 - queue)
        for request in requests + other:
            disk.release(request)
    crowd.move("two", 1, 2)


@both_kinds
def test_a_front_end_leaves_while_its_rings_are_idle(crowd, opened, packed):
    for _ in range(5):
        disk = opened(crowd.path("two"), packed=packed, queues=2)
        disk.read(0, 512, queue=1)
        crowd.wait_parked()
        disk.close()


@both_kinds
def test_a_ring_that_broke_is_left_alone_and_starts_again(crowd, opened, packed):
    disk = opened(crowd.path("two"), packed=packed, queues=2)
    ring = disk.queues[0].ring
    ring.add([(1 << 50, 16, None)])
    disk.queues[0].notify()
    crowd.wait_parked()
    disk.read(0, 512, queue=1)
    disk.get_vring_base(0)
    disk.close()
    again = opened(crowd.path("two"), packed=packed, queues=2)
    again.read(0, 512)


@both_kinds
def test_ports_are_left_alone_too(crowd, opened, packed):
    port = opened(crowd.path("echo"), NetPort, packed=packed, pairs=2)
    for round_ in range(4):
        crowd.wait_parked()
        frame = packets.plain(round_, 100)
        assert port.echo(frame, pair=round_ % 2) == packets.swapped(frame)


@both_kinds
def test_packets_reach_an_idle_guest_from_the_same_lcore_and_from_another(crowd, opened, packed):
    left, right = (opened(crowd.path(name), NetPort, packed=packed, pairs=2) for name in ("left", "right"))
    for lcore in (1, 2):
        for queue in (0, 1):
            crowd.move("right", queue, lcore)
        for round_ in range(4):
            for sender, receiver in ((left, right), (right, left)):
                crowd.wait_parked()
                # Each pair has a flow of its own, for one comes back by the pair that has sent it.
                frame = bytes((2, round_ % 2)) + packets.plain(10 * lcore + round_, 200)[2:]
                sender.send(frame, pair=round_ % 2)
                assert receiver.receive(pair=round_ % 2).frame == frame


@both_kinds
def test_packets_that_wait_for_an_idle_guest_reach_it(crowd, opened, packed):
    """There is no buffer at first: what is kept for it is tried again though nothing else comes."""
    left = opened(crowd.path("left"), NetPort, packed=packed)
    right = opened(crowd.path("right"), NetPort, packed=packed, buffers=0)
    crowd.wait_parked()
    frames = [packets.plain(i, 100) for i in range(8)]
    dropped = crowd.figure("right", "dropped_ring_full")
    for frame in frames:
        left.send(frame)
    crowd.wait_figure("right", "dropped_ring_full", dropped + len(frames))      # kept for some turns
    crowd.wait_parked()
    right.post(count=8)
    for frame in frames:
        left.send(frame)
        assert right.receive().frame == frame


@both_kinds
def test_the_control_queue_is_left_alone_and_what_it_changes_reaches_idle_pairs(crowd, opened, packed):
    """By another lcore than the second pair's."""
    port = opened(crowd.path("echo"), NetPort, packed=packed, pairs=2, features=(*ctrl.FEATURES, NF.STATUS))
    guest = ctrl.Control(port)
    for pairs in (2, 1, 2):
        crowd.wait_parked()
        guest.pairs(pairs)
        crowd.wait_parked()
        for pair in range(pairs):
            frame = packets.plain(pair, 100)
            assert port.echo(frame, pair=pair) == packets.swapped(frame)
    port.wait_sent([port.send(packets.plain(9, 100), pair=1)], pair=1)


@both_kinds
def test_a_link_that_changes_reaches_idle_pairs(crowd, opened, packed):
    left, right = (opened(crowd.path(name), NetPort, packed=packed) for name in ("left", "right"))
    frame = packets.plain(1, 100)
    for state in ("down", "up") * 2:
        crowd.wait_parked()
        crowd.control.call("port_set_link", name="right", state=state)
        # Its lcore may not have looked yet.
        deadline = time.monotonic() + PATIENCE
        passes = None
        while passes != (state == "up"):
            assert time.monotonic() < deadline, state
            left.send(frame)
            passes = not right.quiet(seconds=0.05)
