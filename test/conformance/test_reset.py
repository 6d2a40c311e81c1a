# SPDX-License-Identifier: BSD-3-Clause
"""SET_STATUS 0 and RESET_DEVICE: rings and features go, what belongs to the session stays (design,
section 2)."""

import pytest

from vhostuser import BackendChannel, BlkDisk, DirtyLog, F, GuestMemory, Queue, Req, Status, pattern
from vhostuser import blk
from vhostuser import protocol as p

RUNNING = Status.ACKNOWLEDGE | Status.DRIVER | Status.FEATURES_OK | Status.DRIVER_OK


def by_status(disk):
    disk.set_status(0)


def by_request(disk):
    disk.tell(Req.RESET_DEVICE)


resets = pytest.mark.parametrize("reset", [by_status, by_request], ids=["status_0", "reset_device"])


def start_again(disk, features=None):
    """What a driver does after a reset: features and rings, nothing that the session keeps."""
    disk.set_features(disk.features if features is None else features)
    ring = disk.new_ring(32)
    disk.start_queue(Queue(0, ring))


def test_the_status_is_what_was_set(plain):
    disk = plain()
    for status in (1, 3, 11, 15):
        disk.set_status(status)
        assert disk.get_status() == status


def test_the_status_of_a_new_session_is_0(stage, opened):
    with BlkDisk.open(stage.path("plain")) as disk:
        disk.set_status(RUNNING)
    other = BlkDisk(stage.path("plain"))
    opened.later(other)
    other.negotiate()
    assert other.get_status() == 0


@resets
def test_a_reset_clears_the_status(plain, reset):
    disk = plain()
    disk.set_status(RUNNING)
    reset(disk)
    assert disk.get_status() == 0


@resets
def test_a_reset_stops_and_forgets_the_rings(plain, reset):
    disk = plain(size=16)
    for _ in range(3):
        disk.read(0, 512)
    reset(disk)
    request, = disk.submit([disk.prepare(blk.T_IN, in_bytes=512)])
    disk.queues[0].kick.signal()
    assert disk.reap(timeout=0.2) == []
    disk.set_vring_base(0, 0)
    assert disk.get_vring_base(0) == 0


@pytest.mark.parametrize("packed", [False, True], ids=["split", "packed"])
def test_after_status_0_the_rings_tell_where_they_were(plain, packed):
    """In the order of QEMU up to 7.2 when a guest is paused: STATUS 0, disable, GET_VRING_BASE; and when it
    goes on, everything from the features on."""
    disk = plain(size=16, packed=packed, queues=2)
    for round_ in range(3):
        for i in range(3 + round_):
            disk.read(0, 512, queue=i % 2)
        disk.set_status(0)
        bases = []
        for index, queue in disk.queues.items():
            disk.set_vring_enable(index, False)
            bases.append(disk.get_vring_base(index))
            assert bases[index] == queue.ring.base
        disk.set_features(disk.features)
        for index, queue in list(disk.queues.items()):
            disk.start_queue(queue, base=bases[index])
        disk.set_status(RUNNING)


def test_after_reset_device_the_rings_begin_anew(plain):
    disk = plain(size=16)
    disk.read(0, 512)
    by_request(disk)
    assert disk.get_vring_base(0) == 0


@resets
def test_memory_and_protocol_features_outlive_a_reset(plain, reset):
    disk = plain()
    disk.write(0, pattern(1, 4096))
    reset(disk)
    disk.alive()                                 # REPLY_ACK is still agreed
    start_again(disk)
    assert disk.read(0, 4096) == pattern(1, 4096)
    assert disk.config("num_queues") == 4        # and so is CONFIG


@resets
def test_other_features_may_be_chosen_after_a_reset(plain, reset):
    disk = plain()
    for extra in ((F.RING_PACKED,), (F.EVENT_IDX,), (F.RING_PACKED, F.IN_ORDER, F.EVENT_IDX), ()):
        reset(disk)
        start_again(disk, p.bits(F.VERSION_1, F.PROTOCOL_FEATURES, *extra))
        disk.write(0, pattern(2, 512))
        assert disk.read(0, 512) == pattern(2, 512)


@resets
def test_rings_are_disabled_after_a_reset_until_enabled(plain, reset):
    disk = plain()
    disk.read(0, 512)
    reset(disk)
    disk.set_features(disk.features)
    disk.start_queue(Queue(0, disk.new_ring(16)), enable=False)
    request, = disk.submit([disk.prepare(blk.T_IN, in_bytes=512)])
    assert disk.reap(timeout=0.2) == []
    disk.set_vring_enable(0)
    disk.wait([request])


@resets
def test_the_dirty_log_outlives_a_reset(plain, reset):
    disk = plain()
    log = DirtyLog(disk.mem.max_gpa)
    disk.set_log(log)
    reset(disk)
    start_again(disk, disk.features | p.bits(F.LOG_ALL))
    request = disk.prepare(blk.T_IN, in_bytes=4096, align=4096)
    disk.wait(disk.submit([request]))
    assert request.data[0][0] // 4096 in log.pages()
    log.close()


@resets
def test_the_back_end_channel_outlives_a_reset(plain, reset):
    disk = plain()
    channel = BackendChannel()
    disk.tell(Req.SET_BACKEND_REQ_FD, b"", [channel.remote_fd])
    channel.handed_over()
    reset(disk)
    start_again(disk)
    disk.read(0, 512)
    assert channel.wire.silent(0.1), "the back end has closed its end or said something"
    channel.close()


@resets
def test_a_reset_waits_for_what_is_in_flight(stage, opened, reset):
    disk = opened(stage.path("late"))
    requests = disk.submit([disk.prepare(blk.T_IN, i, in_bytes=512) for i in range(4)])
    reset(disk)
    before = [request.status for request in requests]
    # Whatever became of them, the device does not touch guest memory afterwards.
    disk.reap(timeout=0.6)
    assert [request.status for request in requests] == before


@resets
def test_the_inflight_region_is_not_used_after_a_reset_unless_given_again(plain, reset):
    disk = plain(inflight=True, size=32)
    disk.get_vring_base(0)
    disk.set_inflight(disk.inflight)
    disk.start_queue(disk.queues[0])
    disk.read(0, 512)
    reset(disk)
    start_again(disk)
    for i in range(40):
        disk.read(i, 512)


@resets
def test_a_reset_before_anything_else_is_fine(stage, opened, reset):
    disk = BlkDisk(stage.path("plain"))
    opened.later(disk)
    disk.negotiate()
    reset(disk)
    reset(disk)
    disk.set_features(disk.features)
    disk.set_mem_table(GuestMemory())
    disk.start_queue(Queue(0, disk.new_ring(16)))
    disk.read(0, 512)


def test_reset_owner_ends_neither_session_nor_memory(plain):
    """Deprecated: ignored, or it disables the rings, but it is no disconnect."""
    disk = plain()
    disk.write(0, pattern(3, 512))
    disk.tell(Req.RESET_OWNER)
    disk.set_vring_enable(0)
    assert disk.read(0, 512) == pattern(3, 512)


@resets
def test_write_through_is_no_less_after_a_reset(plain, reset):
    """A guest that has chosen it sends no flushes, and may know nothing of the reset, which was its front
    end's (stop and cont of QEMU). test_write_through.py has more."""
    disk = plain(features=(F.BLK_CONFIG_WCE, F.BLK_FLUSH))
    assert disk.set_config(32, b"\0") == 0
    reset(disk)
    assert disk.config("writeback") == 0
