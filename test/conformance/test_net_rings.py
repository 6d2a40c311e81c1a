# SPDX-License-Identifier: BSD-3-Clause
"""The rings of a network port: where they stand when they stop, where they go on, and what changes
below them while packets flow. Nothing is lost or comes twice, whatever changes."""

import os

import pytest

from scene import expect_refusal
from vhostuser import GuestMemory, Region, Req, packets
from vhostuser import protocol as p
from vhostuser.flow import Flow, flow

both_kinds = pytest.mark.parametrize("packed", [False, True], ids=["split", "packed"])
MB = 1 << 20
FOUR = ((0, 4 * MB, 0x7e30_0000_0000, 0), (0x4000_0000, 4 * MB, 0x7e10_0000_0000, 0x10000),
        (0x8000_0000, 4 * MB, 0x7e20_0000_0000, 0), (0xc000_0000, 4 * MB, 0x7e50_0000_0000, 0))


# bases


@both_kinds
@pytest.mark.parametrize("count", [0, 1, 63, 64, 65, 1000])
def test_the_base_is_where_the_ring_stands(port, packed, count):
    session = port(packed=packed, size=64)
    flow(session, count)
    bases = session.stop()
    for index, queue in session.queues.items():
        assert bases[index] == queue.ring.base
    if not packed:
        assert bases == {0: count, 1: count}
    else:
        position = count % 64 | (1 - count // 64 % 2) << 15
        assert bases == {0: position << 16 | position, 1: position << 16 | position}


@both_kinds
@pytest.mark.parametrize("which", [(0,), (1,), (0, 1)], ids=["receiving", "sending", "both"])
def test_a_ring_goes_on_from_its_base(port, packed, which):
    session = port(packed=packed, size=64)
    for turn in range(8):
        flow(session, 29, 100 * turn)
        for index in which:
            session.get_vring_base(index)
        frames = [packets.plain(5000 + turn, 100), packets.plain(6000 + turn, 100)]
        if 1 in which:
            session.submit([session.prepare(frame) for frame in frames])
        for index in which:
            queue = session.queues[index]
            session.start_queue(queue, base=queue.ring.base)
        if 1 not in which:
            session.submit([session.prepare(frame) for frame in frames])
        for frame in frames:
            assert session.receive().frame == packets.swapped(frame)


@both_kinds
def test_a_stopped_receiving_ring_gets_nothing_and_the_other_goes_on(port, packed):
    session = port(packed=packed, size=64, pairs=2)
    flow(session, 10)
    session.get_vring_base(0)
    session.wait_sent(session.submit([session.prepare(packets.plain(i, 100)) for i in range(20)]))
    flow(session, 20, pair=1)
    assert session.quiet(seconds=0.01)
    session.start_queue(session.receiving())
    flow(session, 20)


@both_kinds
def test_a_stopped_sending_ring_is_left_alone(port, packed):
    session = port(packed=packed, size=64, pairs=2)
    flow(session, 10)
    session.get_vring_base(1)
    sent = session.submit([session.prepare(packets.plain(i, 100)) for i in range(20)])
    flow(session, 20, pair=1)
    session.reap()
    assert not any(buffer.done for buffer in sent)
    session.start_queue(session.sending())
    for i in range(20):
        assert session.receive().frame == packets.swapped(packets.plain(i, 100))
    flow(session, 20)


@both_kinds
def test_a_stopped_ring_tells_the_base_it_was_given(port, packed):
    session = port(packed=packed)
    session.stop()
    for base in (0x8005_8005, 0x0007_0007) if packed else (17, 65535):
        session.set_vring_base(0, base)
        assert session.get_vring_base(0) == base
        assert session.get_vring_base(0) == base


@pytest.mark.parametrize("start", [65530, 65535, 32767, 1])
def test_the_index_of_a_split_ring_goes_round(port, start):
    session = port(start=start, size=64)
    flow(session, 200)
    assert session.stop() == {0: (start + 200) & 0xffff, 1: (start + 200) & 0xffff}


@pytest.mark.parametrize("size", [5, 64, 100, 255])
@pytest.mark.parametrize("wrap", [0, 1])
def test_a_packed_ring_begins_anywhere_in_either_round(port, wrap, size):
    session = port(packed=True, start=size - 1, wrap=wrap, size=size, buffers=4)
    flow(session, 3 * size, most=2)
    bases = session.stop()
    assert bases == {index: queue.ring.base for index, queue in session.queues.items()}


def test_the_used_half_of_a_packed_base_counts(port):
    """What a back end before this one had taken and not returned is taken again."""
    session = port(packed=True, size=64, buffers=16)
    flow(session, 10)
    session.stop()
    ring = session.sending().ring
    used = ring.base & 0xffff
    frames = [packets.plain(50 + i, 100) for i in range(3)]
    session.submit([session.prepare(frame) for frame in frames])
    session.start_queue(session.receiving())
    session.start_queue(session.sending(), base=used << 16 | ring.shown)
    for frame in frames:
        assert session.receive().frame == packets.swapped(frame)
    flow(session, 20)


@both_kinds
@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_the_smallest_rings(port, packed, size):
    """librte_vhost never takes the last buffer of a ring for a packet that may need several."""
    session = port(packed=packed, size=size, buffers=size, mergeable=size > 1)
    flow(session, 50, most=1)
    assert session.stop() == {index: queue.ring.base for index, queue in session.queues.items()}


@both_kinds
def test_the_largest_rings(port, packed):
    layout = ((0, 32 * MB, 0x7e30_0000_0000, 0),)
    session = port(packed=packed, size=32768, buffers=500, mem=GuestMemory(layout))
    flow(session, 2000, most=400)
    assert session.stop() == {index: queue.ring.base for index, queue in session.queues.items()}


# changes while packets flow


@both_kinds
def test_the_other_pair_does_not_notice_starts_and_stops(port, packed):
    session = port(packed=packed, pairs=2, size=64)
    with Flow(session, 1) as other:
        for turn in range(20):
            for index in (0, 1):
                session.get_vring_base(index)
                other.more()
                session.start_queue(session.queues[index])
            flow(session, 8, turn)


@both_kinds
def test_the_table_changes_while_packets_flow(port, packed):
    session = port(packed=packed, size=64, mem=GuestMemory(FOUR), regions=(0, 0, 0))
    with Flow(session) as flowing:
        for turn in range(10):
            session.mem.regions.append(Region(0x1_0000_0000 * (2 + turn), MB,
                                              0x7e90_0000_0000 + turn * 0x10_0000_0000))
            session.set_mem_table(session.mem)
            flowing.more()
            if turn % 2:
                session.mem.regions.pop().close()
                session.mem.regions.pop().close()
                session.set_mem_table(session.mem)
                flowing.more()


@both_kinds
def test_a_new_region_is_used_at_once_and_a_replaced_one_too(port, packed):
    session = port(packed=packed, size=64, mem=GuestMemory(FOUR), regions=(0, 0, 0), buffers=0)
    for turn in range(5):
        old = session.mem.regions[3]
        new = Region(old.gpa, old.size, old.uva, 0x1000 * turn)
        session.mem.regions[3] = new
        session.set_mem_table(session.mem)
        old.close()
        for each in session.post(count=4):
            assert session.mem.find(each.parts[0][0]) is not None
        buffer = session.prepare(packets.plain(turn, 200))
        session.mem.write(new.gpa + 8192, session.mem.gather(buffer.parts))
        buffer.parts = [(new.gpa + 8192, 212)]
        session.submit([buffer])
        assert session.receive(again=False).frame == packets.swapped(packets.plain(turn, 200))


@both_kinds
def test_every_region_is_replaced_under_running_rings(port, packed):
    """All files are new, with the same content: what a front end does that moves its memory."""
    session = port(packed=packed, size=64)
    for turn in range(4):
        flow(session, 20, 100 * turn)
        old = session.mem.regions
        session.mem.regions = [Region(r.gpa, r.size, r.uva, r.mmap_offset) for r in old]
        for before, after in zip(old, session.mem.regions):
            after.view[:] = before.view
            after.next_free = before.next_free
        session.set_mem_table(session.mem)
        for queue in session.queues.values():
            queue.ring.map()
        for region in old:
            region.close()
    flow(session, 20)


def test_a_table_without_the_running_rings_is_refused(port):
    session = port(mem=GuestMemory(FOUR), regions=(1, 1, 1))
    rest = GuestMemory(FOUR[2:])
    payload, fds = rest.table()
    assert expect_refusal(session, Req.SET_MEM_TABLE, payload, fds) == "error"
    flow(session, 10)
    rest.close()


@both_kinds
def test_addresses_of_a_running_ring_change(port, packed):
    """The ring's content moves, as a front end may do it whose guest is stopped at the time."""
    session = port(packed=packed, size=64)
    for turn in range(6):
        flow(session, 20, 100 * turn)
        for queue in session.queues.values():
            relocate(session, queue.ring)
            session.set_vring_addr(queue.index, queue.ring)
    flow(session, 20)


@both_kinds
def test_addresses_of_a_stopped_ring_change(port, packed):
    session = port(packed=packed, size=64)
    for turn in range(6):
        flow(session, 20, 100 * turn)
        queue = session.queues[turn % 2]
        session.get_vring_base(queue.index)
        relocate(session, queue.ring)
        session.start_queue(queue)
    flow(session, 20)


def relocate(session, ring):
    """Puts the parts of a ring elsewhere in guest memory, with their content."""
    for place, size in ring.parts().items():
        gpa = session.mem.alloc(size, 4096)
        session.mem.write(gpa, session.mem.read(getattr(ring, place), size))
        setattr(ring, place, gpa)
    ring.map()


def test_bad_addresses_of_a_running_ring_are_refused(port):
    session = port()
    desc, used, avail = session.receiving().ring.addresses()
    for bad in ((desc + 8, used, avail), (0xdead_0000_0000, used, avail), (desc, used + 1, avail),
                (desc, used, 0), (desc, (1 << 64) - 4, avail)):
        payload = p.VRING_ADDR.pack(0, 0, *bad, 0)
        assert expect_refusal(session, Req.SET_VRING_ADDR, payload) == "error"
    flow(session, 10)


def test_an_offset_into_the_file_need_not_be_a_page(port):
    """The library maps from the beginning of the file."""
    fd = os.memfd_create("fe-ram", os.MFD_CLOEXEC)
    os.ftruncate(fd, 8 * MB)
    mem = GuestMemory(FOUR[:1])
    mem.regions.append(Region(0x1_0000_0000, MB, 0x7e80_0000_0000, 0x5000, fd))
    os.close(fd)
    session = port(mem=mem, regions=(1, 1, 1))
    flow(session, 40)
