# SPDX-License-Identifier: BSD-3-Clause
"""Virtqueues in every format: order, wrap, notification, start, stop, bases, changes on a running
ring."""

import random
import time

import pytest

from hold import wait_taken
from test_inflight import start, tracked
from vhostuser import PATIENCE, EventFd, GuestMemory, Model, Queue, pattern
from vhostuser import blk

FORMATS = {
    "split": {},
    "split-event_idx": {"event_idx": True},
    "split-indirect": {"indirect": True},
    "split-in_order": {"in_order": True},
    "split-all": {"event_idx": True, "indirect": True, "in_order": True},
    "packed": {"packed": True},
    "packed-event_idx": {"packed": True, "event_idx": True},
    "packed-indirect": {"packed": True, "indirect": True},
    "packed-in_order": {"packed": True, "in_order": True},
    "packed-all": {"packed": True, "event_idx": True, "indirect": True, "in_order": True},
}
every_format = pytest.mark.parametrize("format_", list(FORMATS.values()), ids=list(FORMATS))
both_kinds = pytest.mark.parametrize("packed", [False, True], ids=["split", "packed"])


def packed_base(next_avail, avail_wrap, next_used, used_wrap):
    return next_avail | avail_wrap << 15 | next_used << 16 | used_wrap << 31


@every_format
def test_random_requests_read_back_what_was_written(plain, format_):
    disk = plain(size=64, **format_)
    model = Model(disk, 1)
    for _ in range(120):
        model.step()
    assert disk.read(0, 512 * Model.SECTORS) == b"".join(model.sectors)


@every_format
def test_a_small_ring_wraps_many_times(plain, format_):
    disk = plain(size=8, **format_)
    model = Model(disk, 2)
    for _ in range(150):
        model.step(most=1)


@pytest.mark.parametrize("format_", [{"indirect": True}, {"indirect": True, "packed": True}],
                         ids=["split", "packed"])
def test_direct_and_indirect_chains_may_be_mixed(plain, format_):
    disk = plain(size=64, **format_)
    model = Model(disk, 3)
    for i in range(60):
        model.step(indirect=bool(i % 2))


@every_format
def test_a_full_ring_completes(plain, format_):
    disk = plain(size=128, **format_)
    each = 1 if format_.get("indirect") else 3
    for round_ in range(5):
        requests = [disk.prepare(blk.T_OUT, 8 * i, out=pattern(1000 * round_ + i, 512))
                    for i in range(128 // each)]
        disk.wait(disk.submit(requests))
        assert {request.status for request in requests} == {blk.S_OK}
        for i, request in enumerate(requests):
            disk.release(request)
            if i % 16 == 0:
                assert disk.read(8 * i, 512) == pattern(1000 * round_ + i, 512)


def test_in_order_devices_complete_in_order(plain):
    for packed in (False, True):
        disk = plain(packed=packed, in_order=True, size=64)
        requests = [disk.prepare(blk.T_IN, 8 * i, in_bytes=512 * (1 + i % 4)) for i in range(20)]
        disk.submit(requests)
        done = []
        while len(done) < len(requests):
            got = disk.reap()
            assert got
            done += got
        assert done == requests
        disk.close()


@pytest.mark.parametrize("size", [1 << order for order in range(16)])
def test_split_rings_of_any_power_of_two(plain, size):
    disk = plain(size=size, indirect=True, mem=big_memory() if size > 1024 else None)
    model = Model(disk, size)
    for _ in range(20):
        model.step(most=1)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100, 1000, 32767, 32768])
def test_packed_rings_of_any_size(plain, size):
    disk = plain(size=size, packed=True, indirect=True, mem=big_memory() if size > 1024 else None)
    model = Model(disk, size)
    for _ in range(max(20, min(size, 1000) // 10)):
        model.step(most=1)


@pytest.mark.parametrize("packed", [False, True], ids=["split", "packed"])
def test_the_largest_ring_can_be_full(plain, packed):
    """A request in each of its 32768 slots, and a second round."""
    size = 32768
    disk = plain(size=size, packed=packed, indirect=True, mem=big_memory())
    request = disk.prepare(blk.T_IN, in_bytes=512)
    for _ in range(2):
        for _ in range(size):
            disk.queues[0].ring.add(disk.chain(request), request, indirect=True)
        disk.queues[0].notify()
        left = size
        while left:
            done = disk.queues[0].wait_used(10)
            assert done
            left -= len(done)
    assert request.status == blk.S_OK


def big_memory():
    return GuestMemory(((0, 16 << 20, 0x7e30_0000_0000, 0),))


def test_the_split_index_wraps_at_16_bits(plain):
    disk = plain(size=16, start=65530)
    for i in range(20):
        disk.write(i, pattern(i, 512))
        assert disk.read(i, 512) == pattern(i, 512)
    assert disk.get_vring_base(0) == (65530 + 40) & 0xffff


@pytest.mark.parametrize("start, wrap", [(0, 0), (5, 1), (5, 0), (15, 1), (15, 0)])
def test_a_packed_ring_starts_at_any_base(plain, start, wrap):
    disk = plain(size=16, packed=True, start=start, wrap=wrap)
    for i in range(30):
        disk.write(i, pattern(i, 512))
        assert disk.read(i, 512) == pattern(i, 512)


def test_ring_parts_may_lie_in_different_regions(plain):
    for packed in (False, True):
        for regions in ((0, 1, 2), (2, 0, 1), (1, 2, 0)):
            disk = plain(packed=packed, event_idx=True, regions=regions)
            disk.write(0, pattern(5, 4096))
            assert disk.read(0, 4096) == pattern(5, 4096)
            disk.close()


# start and stop


@both_kinds
def test_a_ring_is_looked_at_when_it_starts_without_a_kick(stage, opened, packed):
    disk = opened(stage.path("plain"), queues=0, packed=packed)
    queue = Queue(0, disk.new_ring(16))
    disk.queues[0] = queue
    request = disk.prepare(blk.T_IN, in_bytes=512)
    queue.ring.add(disk.chain(request), request)
    queue.ring.publish()
    disk.start_queue(queue)
    disk.wait([request])
    assert request.status == blk.S_OK


@both_kinds
def test_a_stopped_ring_is_not_touched(plain, packed):
    disk = plain(packed=packed)
    disk.read(0, 512)
    disk.get_vring_base(0)
    request, = disk.submit([disk.prepare(blk.T_IN, in_bytes=512)])
    disk.queues[0].kick.signal()
    assert disk.reap(timeout=0.2) == []
    assert not request.done


def test_a_ring_without_a_kick_fd_set_does_not_start(stage, opened):
    disk = opened(stage.path("plain"), queues=0)
    queue = Queue(0, disk.new_ring(16))
    disk.queues[0] = queue
    disk.set_vring_num(0, 16)
    disk.set_vring_base(0, 0)
    disk.set_vring_addr(0, queue.ring)
    disk.set_vring_call(0, queue.call)
    disk.set_vring_enable(0)
    request, = disk.submit([disk.prepare(blk.T_IN, in_bytes=512)])
    assert disk.reap(timeout=0.2) == []
    disk.set_vring_kick(0, queue.kick)
    disk.wait([request])


@both_kinds
def test_a_ring_continues_after_a_stop(plain, packed):
    disk = plain(packed=packed, size=8, event_idx=True)
    for i in range(20):
        disk.write(i, pattern(i, 512))
        base = disk.get_vring_base(0)
        assert base == disk.queues[0].ring.base
        disk.start_queue(disk.queues[0], base=base)
        assert disk.read(i, 512) == pattern(i, 512)


def test_a_stopped_ring_starts_again_where_it_was_with_a_new_kick_fd_alone(plain):
    for packed in (False, True):
        disk = plain(packed=packed, size=8)
        for _ in range(3):
            disk.read(0, 512)
        disk.get_vring_base(0)
        disk.set_vring_kick(0, disk.queues[0].kick)
        disk.read(0, 512)
        assert disk.get_vring_base(0) == disk.queues[0].ring.base
        disk.close()


@both_kinds
def test_what_was_submitted_while_stopped_is_taken_after_the_restart(plain, packed):
    disk = plain(packed=packed)
    disk.read(0, 512)
    base = disk.get_vring_base(0)
    request, = disk.submit([disk.prepare(blk.T_IN, in_bytes=512)])
    disk.queues[0].kick.count()
    disk.start_queue(disk.queues[0], base=base)
    disk.wait([request])


@both_kinds
def test_stopping_waits_for_what_is_in_flight(stage, opened, packed):
    disk = tracked(opened, stage.path("held"), packed)
    start(disk)
    with stage.hold() as hold:
        requests = disk.submit([disk.prepare(blk.T_IN, i, in_bytes=512) for i in range(8)])
        wait_taken(disk, 8)
        with hold.let_go_meanwhile():
            base = disk.get_vring_base(0)
    # All that was taken is complete, so both sides agree about where the ring stands.
    disk.reap(timeout=0)
    assert all(request.done for request in requests)
    assert base == disk.queues[0].ring.base


def test_the_base_of_a_running_split_ring_is_what_was_taken(plain):
    disk = plain(size=16)
    for _ in range(7):
        disk.read(0, 512)
    assert disk.get_vring_base(0) == 7
    assert disk.get_vring_base(0) == 7


def test_the_base_of_a_running_packed_ring_has_both_indexes_and_wrap_counters(plain):
    disk = plain(size=16, packed=True)
    for _ in range(5):
        disk.read(0, 512)               # three descriptors each
    assert disk.get_vring_base(0) == packed_base(15, 1, 15, 1)
    disk.start_queue(disk.queues[0])
    disk.read(0, 512)
    assert disk.get_vring_base(0) == packed_base(2, 0, 2, 0)


@pytest.mark.parametrize("packed, base", [(False, 0), (False, 1234), (False, 65535),
                                          (True, packed_base(3, 1, 3, 1)),
                                          (True, packed_base(0, 0, 0, 0)),
                                          (True, packed_base(6, 0, 4, 0)),
                                          (True, packed_base(1, 0, 7, 1))])
def test_a_ring_that_never_started_gives_its_configured_base(stage, opened, packed, base):
    disk = opened(stage.path("plain"), queues=0, packed=packed)
    disk.set_vring_num(0, 8)
    disk.set_vring_base(0, base)
    assert disk.get_vring_base(0) == base
    assert disk.get_vring_base(0) == base


def test_stopping_one_queue_leaves_the_others_running(plain):
    disk = plain(queues=4)
    disk.get_vring_base(1)
    for queue in (0, 2, 3):
        disk.read(0, 4096, queue=queue)


def test_four_queues_work_side_by_side(plain):
    for packed in (False, True):
        disk = plain(queues=4, packed=packed, event_idx=True)
        models = [Model(disk, queue, at=queue * Model.SECTORS) for queue in range(4)]
        for _ in range(25):
            for queue, model in enumerate(models):
                model.step(queue=queue)
        disk.close()


def test_requests_of_several_queues_are_in_flight_together(stage, opened):
    disk = tracked(opened, stage.path("held"), False, queues=2)
    start(disk, 2)
    with stage.hold():
        requests = [disk.submit([disk.prepare(blk.T_IN, in_bytes=512)], queue=queue)[0]
                    for queue in (0, 1)]
        for queue in (0, 1):
            wait_taken(disk, 1, queue)
    for queue in (0, 1):
        disk.wait([requests[queue]], queue=queue)


# notification


@every_format
def test_every_completion_is_announced_to_a_sleeping_driver(plain, format_):
    disk = plain(size=16, **format_)
    queue = disk.queues[0]
    for i in range(50):
        request, = disk.submit([disk.prepare(blk.T_IN, i, in_bytes=512)])
        while not request.done:
            if not queue.ring.arm():
                assert queue.call.wait(), "no call for request %d" % i
            disk.reap(timeout=0)
        disk.release(request)


@pytest.mark.parametrize("packed", [False, True], ids=["split", "packed"])
def test_no_call_comes_when_the_driver_wants_none(plain, packed):
    disk = plain(packed=packed)
    ring, call = disk.queues[0].ring, disk.queues[0].call
    ring.disarm()
    time.sleep(0.01)
    call.count()
    for i in range(20):
        request, = disk.submit([disk.prepare(blk.T_IN, i, in_bytes=512)])
        disk.queues[0].poll_done(request)
    time.sleep(0.02)
    assert call.count() == 0


@pytest.mark.parametrize("packed", [False, True], ids=["split", "packed"])
def test_with_event_idx_a_call_comes_only_when_the_event_is_passed(stage, opened, packed):
    disk = opened(stage.path("plain"), packed=packed, event_idx=True, size=64)
    queue = disk.queues[0]
    ring = queue.ring
    disk.read(0, 512)
    time.sleep(0.01)
    queue.call.count()
    # Wake me at the fifth completion from here.
    if packed:
        position = ring.next_used + 4 * 3
        ring.driver[0] = position % 64 | (ring.used_wrap ^ (position >= 64)) << 15
        ring.driver[1] = 2
    else:
        ring.avail[2 + ring.size] = (ring.next_used + 4) & 0xffff
    for i in range(5):
        request, = disk.submit([disk.prepare(blk.T_IN, i, in_bytes=512)])
        queue.poll_done(request)
        time.sleep(0.01)
        calls, deadline = queue.call.count(), time.monotonic() + PATIENCE
        while i == 4 and calls == 0:    # it comes behind the used entry
            assert time.monotonic() < deadline, "no call"
            calls = queue.call.count()
        assert calls == (1 if i == 4 else 0), "after completion %d" % (i + 1)


@both_kinds
def test_a_ring_without_a_kick_fd_is_polled(plain, packed):
    disk = plain(packed=packed, kick=False)
    for i in range(20):
        disk.write(i, pattern(i, 512))
        assert disk.read(i, 512) == pattern(i, 512)
        time.sleep(0.002)
    time.sleep(0.3)                     # longer than any adaptive spin
    disk.read(0, 512)


@both_kinds
def test_a_ring_without_a_call_fd_is_served_in_silence(plain, packed):
    disk = plain(packed=packed, call=False)
    for i in range(20):
        disk.write(i, pattern(i, 512))
        assert disk.read(i, 512) == pattern(i, 512)


@both_kinds
def test_a_new_call_fd_reaches_a_running_ring(plain, packed):
    disk = plain(packed=packed)
    queue = disk.queues[0]
    disk.read(0, 512)
    old, queue.call = queue.call, EventFd()
    disk.set_vring_call(0, queue.call)
    time.sleep(0.02)
    old.count()
    queue.ring.arm()
    request, = disk.submit([disk.prepare(blk.T_IN, in_bytes=512)])
    assert queue.call.wait()
    disk.wait([request])
    time.sleep(0.02)
    assert old.count() == 0
    old.close()


def test_the_call_fd_may_be_taken_from_a_running_ring_and_given_back(plain):
    disk = plain()
    queue = disk.queues[0]
    call, queue.call = queue.call, None
    disk.set_vring_call(0, None)
    call.count()
    disk.read(0, 512)
    time.sleep(0.02)
    assert call.count() == 0
    queue.call = call
    disk.set_vring_call(0, call)
    disk.read(0, 512)


@both_kinds
def test_a_new_kick_fd_reaches_a_running_ring(plain, packed):
    disk = plain(packed=packed)
    queue = disk.queues[0]
    disk.read(0, 512)
    old, queue.kick = queue.kick, EventFd()
    disk.set_vring_kick(0, queue.kick)
    for i in range(10):
        time.sleep(0.05)                # the device has gone to sleep
        disk.read(i, 512)
    queue.kick, old = old, queue.kick
    disk.set_vring_kick(0, queue.kick)
    time.sleep(0.05)
    disk.read(0, 512)
    old.close()


def test_the_kick_fd_may_be_taken_from_a_running_ring(plain):
    disk = plain()
    queue = disk.queues[0]
    disk.read(0, 512)
    disk.set_vring_kick(0, None)
    kick, queue.kick = queue.kick, None
    for i in range(5):
        time.sleep(0.05)
        disk.read(i, 512)
    kick.close()


def test_the_device_asks_for_kicks_again_before_it_sleeps(plain):
    """Whatever the device does about kicks while busy, a driver that kicks only when asked loses
    nothing."""
    for packed in (False, True):
        for event_idx in (False, True):
            disk = plain(packed=packed, event_idx=event_idx)
            delays = random.Random(4)
            for i in range(60):
                disk.read(i, 512)
                time.sleep(delays.choice((0, 0.0001, 0.0005, 0.002, 0.02)))
            disk.close()


# errors


@both_kinds
def test_a_broken_ring_signals_its_err_fd_and_the_other_rings_go_on(plain, packed):
    disk = plain(queues=2, packed=packed)
    disk.read(0, 512, queue=0)
    broken = disk.queues[1]
    assert broken.err.count() == 0
    broken.ring.add([(0xdead_0000_0000, 16, False), (0xdead_0000_1000, 1, True)])
    broken.notify()
    assert broken.err.wait()
    for i in range(20):
        disk.read(i, 512, queue=0)
    assert disk.queues[0].err.count() == 0
    disk.fence()


@both_kinds
def test_a_broken_ring_works_again_after_stop_and_start(plain, packed):
    disk = plain(packed=packed)
    queue = disk.queues[0]
    queue.ring.add([(0xdead_0000_0000, 16, False), (0xdead_0000_1000, 1, True)])
    queue.notify()
    assert queue.err.wait()
    disk.get_vring_base(0)
    queue.ring = disk.new_ring(64)
    disk.start_queue(queue)
    disk.write(0, pattern(1, 4096))
    assert disk.read(0, 4096) == pattern(1, 4096)


def test_the_err_fd_may_change_on_a_running_ring(plain):
    disk = plain()
    queue = disk.queues[0]
    old, queue.err = queue.err, EventFd()
    disk.set_vring_err(0, queue.err)
    queue.ring.add([(0xdead_0000_0000, 16, False)])
    queue.notify()
    assert queue.err.wait()
    assert old.count() == 0
    old.close()


def test_a_ring_without_err_fd_breaks_in_silence(plain):
    disk = plain(queues=2)
    disk.set_vring_err(0, None)
    disk.queues[0].ring.add([(0xdead_0000_0000, 16, False)])
    disk.queues[0].notify()
    disk.read(0, 512, queue=1)
