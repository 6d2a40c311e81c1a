# SPDX-License-Identifier: BSD-3-Clause
"""What particular VMMs send that is not QEMU's way, and what their guests rely on ("Front ends" in
doc/guides/protocol.rst)."""

import pytest

from hold import SILENCE, wait_taken
from module_daemon import ModuleDaemon, started, watched
from test_inflight import both_kinds, start, tracked
from vhostuser import CloudHypervisor, F, GuestMemory, OpenVmm, PF, Queue, Region, Req, pages_of, pattern
from vhostuser import blk
from vhostuser import protocol as p
from vhostuser.split import SplitRing

MB, GB = 1 << 20, 1 << 30
SIZE = 64
WCE = 32                                # offset of "writeback" in the config space
SUSPENDS = (PF.MQ, PF.REPLY_ACK, PF.INFLIGHT_SHMFD, PF.GET_VRING_BASE_INFLIGHT)

DISKS = {
    "held": "driver=unruly,over=malloc,size=16M,queues=2,hold={folder}/hold",
    "free": "driver=malloc,size=16M,queues=2",
    "saved": "driver=malloc,file={folder}/saved",
    "nothing": "driver=null,size=4G",
}


class Vmms(ModuleDaemon):
    """An acknowledged write to "saved" is in its file at once where the disk writes through."""

    def image(self, name, size):
        with open(self.folder / name, "rb") as file:
            return file.read(size)


@pytest.fixture(scope="module")
def running_vmms(tmp_path_factory):
    yield from started(Vmms(tmp_path_factory.mktemp("v"), DISKS, images={"saved": 4 * MB}))


@pytest.fixture
def vmms(running_vmms, request):
    yield from watched(running_vmms, request)


@pytest.fixture
def cloud(vmms, opened):
    """Opens a disk of Cloud Hypervisor's: cloud("held", mem=...) -> running, with the rings of a driver."""
    def open_(name, rings=2, mem=None, features=(), run=True):
        disk = CloudHypervisor.connect(vmms.path(name))
        opened.later(disk)
        if run:
            mem = mem or GuestMemory()
            disk.activate(mem, [SplitRing(mem, SIZE) for _ in range(rings)], disk.driver(*features))
        return disk

    return open_


def reads(disk, count, queue=0):
    return disk.submit([disk.prepare(blk.T_IN, i, in_bytes=512) for i in range(count)], queue)


# --- the config space

def test_the_config_space_where_rust_vmm_has_it(cloud):
    """Cloud Hypervisor makes no VM without it."""
    disk = cloud("free", run=False)
    assert disk.space == disk.get_config(0, CloudHypervisor.CONFIG_BYTES)
    assert int.from_bytes(disk.space[:8], "little") == 16 * MB // 512


def test_a_byte_that_openvmm_writes_in_a_register_of_four(vmms, opened):
    """Its guest reads the byte back whatever was acknowledged, and sends no flushes any more."""
    disk = OpenVmm.connect(vmms.path("saved"))
    opened.later(disk)
    mem = GuestMemory()
    disk.activate(mem, [SplitRing(mem, SIZE)], F.BLK_CONFIG_WCE, F.BLK_FLUSH)
    before = bytes(disk.space)
    for value in (1, 0, 1, 0):
        assert disk.write_byte(WCE, value) == 0
        assert disk.get_config(0, 256) == bytes(disk.space)
    assert disk.space[:WCE] + disk.space[WCE + 1:] == before[:WCE] + before[WCE + 1:]
    disk.write(0, pattern(1, 4096))
    assert vmms.image("saved", 4096) == pattern(1, 4096)


# --- requests

def wide_memory(gpa):
    """A gibibyte from `gpa` on, of which each quarter is the same memory, and some more for rings."""
    mem = GuestMemory(((0, 4 * MB, 0x7e30_0000_0000, 0),))
    for i in range(4):
        mem.regions.append(Region(gpa + i * GB // 4, GB // 4, 0x7e50_0000_0000 + i * GB,
                                  fd=mem.regions[1].fd if i else None))
        mem.regions[-1].next_free = mem.regions[-1].end
    return mem


def test_a_gibibyte_in_one_segment(vmms, opened):
    """OVMF's driver negotiates neither SIZE_MAX nor SEG_MAX, and asks for as much."""
    gpa = 0x1_0000_0000
    disk = opened(vmms.path("nothing"), mem=wide_memory(gpa), features=(F.BLK_BLK_SIZE, F.BLK_FLUSH, F.BLK_TOPOLOGY))
    for kind in (blk.T_IN, blk.T_OUT):
        request = disk.prepare(kind, 8)
        request.data, request.writes = [(gpa, GB)], kind == blk.T_IN
        disk.wait(disk.submit([request]))
        assert request.status == blk.S_OK
        assert request.length == (GB if request.writes else 0) + 1


# --- a ring that is disabled

def test_a_paused_guest_has_all_that_its_disk_took_in_memory_and_in_the_log(vmms, cloud):
    """Cloud Hypervisor migrates so: vm.pause() disables the rings, the log is taken for the last time, and the
    connection is closed. What came later would never reach the other side."""
    disk = cloud("held")
    disk.start_dirty_log()
    with vmms.hold() as hold:
        requests = {queue: reads(disk, 5, queue) for queue in (0, 1)}
        for queue in (0, 1):
            wait_taken(disk, 5, queue)
        with hold.let_go_meanwhile():
            disk.pause()
    pages = disk.dirty_log()
    before = [region.map[:] for region in disk.mem.regions]
    for queue in (0, 1):
        assert len(disk.queues[queue].ring.used()) == 5
        assert {request.status for request in requests[queue]} == {blk.S_OK}
        for request in requests[queue]:
            assert pages_of(request.status_gpa, 1) | pages_of(*request.data[0]) <= pages
        assert disk.queues[queue].ring.log_gpa // p.LOG_PAGE in pages
    disk.fence()
    assert [region.map[:] for region in disk.mem.regions] == before
    assert disk.log.pages() == set()


def test_what_a_paused_guest_had_offered_is_done_where_it_goes_on(vmms, cloud):
    """Its disk had not taken that, for limits or by chance. The other side's base is how far the driver is."""
    disk = cloud("held", rings=1)
    disk.wait(reads(disk, 3))
    disk.pause()
    requests = reads(disk, 2)
    disk.wire.close()
    there = cloud("free", run=False)
    there.activate(disk.mem, [disk.queues[0].ring], disk.features)
    disk.mem = None
    for request in requests:
        request.disk = there
    there.wait(requests)
    assert {request.status for request in requests} == {blk.S_OK}
    assert there.read(0, 512) == bytes(512)


def test_a_guest_that_is_resumed_goes_on(cloud):
    disk = cloud("free")
    for i in range(3):
        disk.write(0, pattern(i, 4096))
        disk.pause()
        later = reads(disk, 2)
        assert disk.reap(timeout=SILENCE) == []
        disk.resume()
        disk.wait(later)
        assert disk.read(0, 4096) == pattern(i, 4096)


def test_storage_that_hangs_holds_up_the_answer_and_nothing_else(vmms, cloud):
    disk, other = cloud("held"), cloud("free")
    with vmms.hold() as hold:
        requests = reads(disk, 3)
        wait_taken(disk, 3)
        disk.wire.send(Req.SET_VRING_ENABLE, p.VRING_STATE.pack(0, 0), need_reply=True)
        for i in range(20):
            other.write(i, pattern(i, 512), queue=i % 2)
        other.pause()
        assert vmms.stats("held")["queues"][0]["in_flight"] == 3
        assert disk.wire.silent(SILENCE)
        hold.let_go()
        assert disk.wire.recv_reply(Req.SET_VRING_ENABLE).u64 == 0
    assert len(disk.reap(timeout=0)) == 3
    assert {request.status for request in requests} == {blk.S_OK}


def test_a_front_end_that_leaves_before_the_answer_leaves_a_slot_that_works(vmms, cloud):
    disk = cloud("held")
    with vmms.hold():
        reads(disk, 3)
        wait_taken(disk, 3)
        disk.wire.send(Req.SET_VRING_ENABLE, p.VRING_STATE.pack(0, 0), need_reply=True)
        disk.wire.close()
    cloud("held").write(0, pattern(1, 512))


@both_kinds
def test_who_can_have_requests_left_in_flight_is_not_made_to_wait(vmms, opened, packed):
    """QEMU disables its rings first and asks for the base then, which is where it says whether to wait."""
    disk = tracked(opened, vmms.path("held"), packed, protocol=SUSPENDS)
    start(disk)
    with vmms.hold():
        requests = reads(disk, 3)
        wait_taken(disk, 3)
        disk.set_vring_enable(0, False)
        disk.get_vring_base(0)
        assert len(disk.region.inflight(0)) == 3
        assert disk.queues[0].ring.used() == []
        assert {request.status for request in requests} == {blk.PENDING}


@both_kinds
def test_a_ring_that_was_never_enabled_does_not_begin_when_it_is_disabled(vmms, opened, packed):
    """Neither with what the guest offers nor with what another back end has left in flight."""
    disk = tracked(opened, vmms.path("held"), packed, protocol=SUSPENDS)
    start(disk)
    with vmms.hold():
        requests = reads(disk, 3)
        wait_taken(disk, 3)
        base = disk.get_vring_base(0)
    later = reads(disk, 2)
    disk.set_vring_enable(0, False)
    disk.tell(Req.SET_PROTOCOL_FEATURES, p.U64.pack(p.bits(PF.MQ, PF.REPLY_ACK, PF.INFLIGHT_SHMFD)))
    disk.start_queue(disk.queues[0], base=base, enable=False)
    disk.set_vring_enable(0, False)
    assert len(disk.region.inflight(0)) == 3
    assert disk.reap(timeout=SILENCE) == []
    disk.set_vring_enable(0)
    disk.wait(requests + later)
    assert {request.status for request in requests + later} == {blk.S_OK}


# --- a driver's reset

RESETS = (CloudHypervisor.reset_by_disabling, CloudHypervisor.reset_owner, CloudHypervisor.reset_by_base)


@pytest.mark.parametrize("reset", RESETS, ids=lambda reset: reset.__name__)
@pytest.mark.parametrize("name", ["free", "held"])
def test_one_driver_follows_another(vmms, cloud, name, reset):
    """Firmware, then a system, and again: with other features, and more or fewer rings elsewhere. Those of the
    driver before are not touched any more."""
    disk = cloud(name, run=False)
    mem = GuestMemory()
    system = (F.EVENT_IDX, F.INDIRECT_DESC, F.BLK_FLUSH, F.BLK_CONFIG_WCE)
    for features, rings, size in (((), 1, 16), (system, 2, 128), ((), 1, 16), (system, 2, 32), (system, 2, 64)):
        disk.activate(mem, [SplitRing(mem, size, event_idx=F.EVENT_IDX in features) for _ in range(rings)],
                      disk.driver(*features))
        for queue in disk.queues:
            for i in range(2 * size):
                disk.write(i, pattern(size + i, 512), queue=queue)
            assert disk.read(0, 1024, queue=queue) == pattern(size, 512) + pattern(size + 1, 512)
        before = [queue.ring.used16[:] for queue in disk.queues.values()]
        reset(disk)
        for queue in disk.queues.values():
            queue.ring.avail[1] += 1
            queue.kick.signal()
        disk.fence()
        assert [queue.ring.used16[:] for queue in disk.queues.values()] == before
    assert disk.wire.silent(0)


def test_a_reset_waits_for_what_the_driver_had_in_flight(vmms, cloud):
    disk = cloud("held")
    with vmms.hold() as hold:
        requests = reads(disk, 3)
        wait_taken(disk, 3)
        with hold.let_go_meanwhile():
            disk.reset_by_disabling()
    assert {request.status for request in requests} == {blk.S_OK}
    mem = disk.mem
    disk.activate(mem, [SplitRing(mem, SIZE)], disk.driver(F.EVENT_IDX))
    assert disk.region.inflight(0) == []


def test_the_next_driver_may_get_its_inflight_region_first(cloud, refused):
    disk = cloud("free")
    region = disk.get_inflight(1, SIZE)
    disk.set_vring_enable(0, False)
    assert refused(disk, Req.SET_INFLIGHT_FD, region.payload, [region.fd]) == "error"
    disk.set_vring_enable(1, False)
    disk.set_inflight(region)
    region.close()
    disk.activate(disk.mem, [SplitRing(disk.mem, SIZE)], disk.features)
    disk.write(0, pattern(1, 512))


def test_a_ring_may_be_set_up_anew_beside_another_that_goes_on(vmms, opened, refused):
    disk = opened(vmms.path("free"), queues=2)
    disk.read(0, 512, queue=1)
    disk.set_vring_enable(1, False)
    assert refused(disk, Req.SET_VRING_NUM, p.VRING_STATE.pack(0, 32)) == "error"
    features = p.U64.pack(disk.features ^ p.bits(F.EVENT_IDX))
    assert refused(disk, Req.SET_FEATURES, features) == "error"
    disk.queues[1].close()
    disk.start_queue(Queue(1, disk.new_ring(32)))
    for queue in (0, 1):
        disk.write(0, pattern(queue, 512), queue=queue)


def test_a_ring_that_is_not_enabled_yet_is_not_set_up_anew(vmms, opened, refused):
    """Nobody would start it again."""
    disk = opened(vmms.path("free"), enable=False)
    for request in (Req.SET_VRING_NUM, Req.SET_VRING_BASE):
        assert refused(disk, request, p.VRING_STATE.pack(0, 0 if request == Req.SET_VRING_BASE else 128)) == "error"
    disk.set_vring_enable(0)
    disk.read(0, 512)


def test_a_paused_guest_may_begin_to_migrate(cloud):
    """Rings that are only paused stay where they are."""
    disk = cloud("free")
    disk.write(0, pattern(1, 512))
    disk.pause()
    disk.start_dirty_log()
    disk.resume()
    assert disk.read(0, 512) == pattern(1, 512)
    assert disk.dirty_log()
