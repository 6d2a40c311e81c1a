# SPDX-License-Identifier: BSD-3-Clause
"""Rings of a network port that are full of lies. What must hold on each data path is that it costs
nobody else anything: not the other pair of the same session, not the neighbour, not the slot.

librte_vhost tells nobody what it thinks of a ring: one that makes no sense may stand still or be worked
off, as it likes. On the direct path it breaks, which test_net_direct.py holds.

What librte_vhost 22.11 does not hold is at the end, in a test that says so; "Network ports" in
doc/guides/safety.rst tells of it. Packets that lie are in test_hostile_net.py.
"""

import random
import threading
import time

import pytest

from vhostuser import GuestMemory, NF, packets
from vhostuser import net
from vhostuser import protocol as p
from vhostuser.flow import flow
from vhostuser.memory import bad_places
from vhostuser.packed import DESC_AVAIL, DESC_USED
from vhostuser.ring import DESC_INDIRECT, DESC_NEXT, DESC_WRITE

MB = 1 << 20
MAXU32 = 0xffffffff
HEADER = net.NetHeader.SIZE
both_kinds = pytest.mark.parametrize("packed", [False, True], ids=["split", "packed"])
either_way = pytest.mark.parametrize("mergeable", [False, True], ids=["whole", "mergeable"])
either_ring = pytest.mark.parametrize("sending", [False, True], ids=["receiving", "sending"])


@pytest.fixture
def duo(net_scene):
    """Two pairs: 0 is abused, 1 must go on. `buffers` are those of pair 0."""

    def open_(buffers=8, **keywords):
        session = net_scene.open(pairs=2, buffers=0, **keywords)
        session.post(0, buffers)
        session.post(1, 8 if session.receiving(1).ring.size >= 8 else 2)
        flow(session, 4, pair=1, most=1)
        return session

    return open_


def done_with(session):
    """The other pair has not noticed, and the session can be spoken to."""
    flow(session, 8, pair=1, most=1)
    session.fence()
    session.close()


def show(session, sending, kick=True):
    """What is in the ring is seen: of the receiving one when a packet wants in."""
    queue = session.sending() if sending else session.receiving()
    queue.ring.publish()
    if queue.kick is not None:
        queue.kick.signal()
    if not sending:
        for _ in range(3):
            session.submit([session.prepare(packets.plain(5, 300))], notify=False)
            session.sending().ring.publish()
            session.sending().kick.signal()
    time.sleep(0.003)


def ring_of(session, sending):
    return (session.sending() if sending else session.receiving()).ring


@both_kinds
@either_ring
@either_way
@pytest.mark.parametrize("indirect", [False, True], ids=["direct", "indirect"])
def test_descriptors_outside_of_memory(duo, packed, sending, mergeable, indirect):
    """Alone, first, and behind good ones."""
    for before in (0, 1, 2):
        session = duo(packed=packed, mergeable=mergeable, indirect=indirect, buffers=0)
        for gpa, length in bad_places(session.mem).values():
            good = [(session.mem.alloc(64), 64, not sending) for _ in range(before)]
            ring_of(session, sending).add(good + [(gpa, length, not sending)], indirect=indirect)
            show(session, sending)
        done_with(session)


@both_kinds
@either_ring
def test_a_bad_chain_in_the_middle_of_a_burst(duo, packed, sending):
    session = duo(packed=packed, size=256)
    for i in range(40):
        if i == 20:
            ring_of(session, sending).add([(0xdead_0000_0000, 100, not sending)])
        elif sending:
            session.submit([session.prepare(packets.plain(i, 100))], notify=False)
        else:
            session.put_buffer(session.buffer(), notify=False)
    show(session, sending)
    done_with(session)


@both_kinds
@either_ring
def test_writable_where_readable_and_readable_where_writable(duo, packed, sending):
    session = duo(packed=packed, buffers=0)
    for _ in range(8):
        ring_of(session, sending).add([(session.mem.alloc(2048), 2048, sending)])
        show(session, sending)
    done_with(session)


@both_kinds
@pytest.mark.parametrize("indirect", [False, True], ids=["direct", "indirect"])
def test_descriptors_of_no_length(duo, packed, indirect):
    for lengths in ((0,), (0, 0, 0), (12, 0), (0, 12, 100), (12, 0, 100, 0), (0,) * 30 + (112,)):
        session = duo(packed=packed, indirect=indirect)
        for _ in range(3):
            session.sending().ring.add([(session.mem.alloc(128), length, False)
                                        for length in lengths], indirect=indirect)
            show(session, True)
        done_with(session)


@both_kinds
@either_way
def test_receive_buffers_of_no_length(duo, packed, mergeable):
    """Long ones behind them may be used or not."""
    for lengths in ((0,), (0, 0, 0), (0, 2048), (2048, 0), (0,) * 30 + (2048,)):
        session = duo(packed=packed, mergeable=mergeable, buffers=0)
        for _ in range(3):
            session.receiving().ring.add([(session.mem.alloc(2048), length, True)
                                          for length in lengths])
            show(session, False)
        done_with(session)


@both_kinds
@either_way
def test_receive_buffers_that_are_too_short_for_a_header(duo, packed, mergeable):
    """Each by itself; in pieces they are at the end of this file."""
    for length in (1, 4, 11, 12, 13):
        session = duo(packed=packed, mergeable=mergeable, buffers=0)
        for _ in range(3):          # three: no whole batch of the library's
            session.receiving().ring.add([(session.mem.alloc(2048), length, True)])
        show(session, False)
        done_with(session)


@both_kinds
@pytest.mark.parametrize("indirect", [False, True], ids=["direct", "indirect"])
def test_a_header_without_a_frame_and_less(duo, packed, indirect):
    """Nothing of it comes back, and the daemon does not stay with it for ever."""
    for lengths in [(n,) for n in range(1, 13)] + [(1,) * n for n in (2, 11, 12)] + [(6, 6)]:
        session = duo(packed=packed, indirect=indirect)
        for _ in range(3):
            session.sending().ring.add([(session.mem.alloc(64), length, False)
                                        for length in lengths], indirect=indirect)
            show(session, True)
        assert session.quiet(seconds=0.002)
        done_with(session)


@both_kinds
def test_frames_that_are_too_short_are_dropped_and_those_behind_are_not(duo, packed):
    session = duo(packed=packed)
    for size in range(1, 14):
        session.submit([session.prepare(bytes(size))])
        frame = packets.plain(size, 60)
        assert session.echo(frame) == packets.swapped(frame)
    done_with(session)


# split


@either_ring
def test_heads_beyond_the_table(duo, sending):
    for head in (128, 129, 0x7fff, 0xffff):
        session = duo(buffers=0)
        ring_of(session, sending).push(head)
        show(session, sending)
        done_with(session)


@either_ring
@either_way
@pytest.mark.parametrize("size", [2, 4, 8, 64, 256])
def test_an_available_index_further_ahead_than_the_ring_is_long(duo, sending, mergeable, size):
    """The library takes what is there over and over again; it must not write beyond what it has for
    a ring of this size."""
    session = duo(size=size, buffers=0, mergeable=mergeable)
    ring = ring_of(session, sending)
    buffer = session.prepare(packets.plain(1, 100)) if sending else session.buffer()
    (gpa, length), = buffer.parts
    for i in range(size):
        # With mergeable buffers: as many as possible for a packet, the last of which has room.
        empty = not sending and mergeable and i % size not in (size - 1, size - 2)
        ring.set_desc(i, gpa, 0 if empty else length, 0 if sending else DESC_WRITE)
        ring.avail[2 + i] = i
    for turn in range(6):
        ring.set_avail_idx(turn * 50000 + 40000)
        if sending:
            session.sending().kick.signal()
            time.sleep(0.003)
        else:
            sent = session.submit([session.prepare(packets.plain(i, 64)) for i in range(min(size, 48))])
            session.wait_sent(sent)
    done_with(session)


@both_kinds
@either_ring
def test_chains_without_an_end(duo, packed, sending):
    """A loop of one, of two and of all descriptors; packed: NEXT in all of them."""
    flags = DESC_NEXT | (0 if sending else DESC_WRITE)
    for length in (1, 2, 64):
        session = duo(packed=packed, size=64, buffers=0)
        ring = ring_of(session, sending)
        gpa = session.mem.alloc(2048)
        if packed:
            for i in range(64):
                ring.set_desc(i, gpa, 64, 0, flags | DESC_AVAIL)
        else:
            for i in range(length):
                ring.set_desc(i, gpa, 64, flags, (i + 1) % length)
            ring.push(0)
        show(session, sending)
        done_with(session)


@either_ring
def test_links_beyond_the_table(duo, sending):
    for link in (128, 0x7fff, 0xffff):
        session = duo(buffers=0)
        ring = ring_of(session, sending)
        ring.set_desc(0, session.mem.alloc(2048), 64, DESC_NEXT | (0 if sending else DESC_WRITE), link)
        ring.push(0)
        show(session, sending)
        done_with(session)


def test_used_indexes_that_the_guest_writes(duo):
    """The library looks at the used index when a ring starts: this front end changes it all the
    time."""
    session = duo()
    for turn in range(10):
        for queue in (session.receiving(), session.sending()):
            session.get_vring_base(queue.index)
            queue.ring.used16[1] = turn * 7777 & 0xffff
            session.start_queue(queue, base=turn * 1111 & 0xffff)
        session.submit([session.prepare(packets.plain(turn, 100))])
        time.sleep(0.001)
    done_with(session)


# indirect tables


@both_kinds
@either_ring
def test_indirect_tables_that_make_no_sense(duo, packed, sending):
    lengths = (0, 1, 15, 16, 17, 31, 33, 16 * 129, 16 * 40000, MAXU32 - 15, MAXU32)
    places = [None, 0xdead_0000_0000, (1 << 64) - 16]
    for place in places:
        session = duo(packed=packed, indirect=True, buffers=0)
        gpa = session.mem.alloc(4096) if place is None else place
        ring = ring_of(session, sending)
        for length in lengths:
            ring.add([(gpa, length, None)])
            raw_indirect(ring)
            show(session, sending)
        done_with(session)


def raw_indirect(ring):
    """The chain that was put last is a table: its descriptor gets the flag."""
    if ring.packed:
        slot, word = ring.unshown
        ring.unshown = (slot, word & ~(DESC_WRITE << 48) | DESC_INDIRECT << 48)
    else:
        head = ring.avail[2 + (ring.next_avail - 1) % ring.size]
        ring.set_desc(head, ring.desc[2 * head], ring.desc[2 * head + 1] & MAXU32, DESC_INDIRECT)


@both_kinds
@either_ring
def test_tables_within_tables_and_tables_full_of_lies(duo, packed, sending):
    write = 0 if sending else DESC_WRITE
    for flags, next_, addr, length in ((DESC_INDIRECT, 0, None, 64), (DESC_NEXT, 0, None, 64),
                                       (DESC_NEXT, 7, None, 64), (DESC_NEXT, 0xffff, None, 64),
                                       (0, 0, 0xdead_0000_0000, 64), (0, 0, None, MAXU32),
                                       (0xffff, 1, None, 64)):
        session = duo(packed=packed, indirect=True, buffers=0)
        ring = ring_of(session, sending)
        table = session.mem.alloc(64)
        view = session.mem.view(table, 64, "Q")
        for i in range(4):
            view[2 * i] = session.mem.alloc(64) if addr is None else addr
            view[2 * i + 1] = (length | (flags | write) << 32 | next_ << 48 if not packed
                               else length | (flags | write) << 48)
        ring.add([(table, 64, None)])
        raw_indirect(ring)
        show(session, sending)
        done_with(session)


# packed


@either_ring
@either_way
def test_packed_flags_of_every_kind(duo, sending, mergeable):
    """Also a ring in which all descriptors are available in both rounds."""
    for flags in (0xffff, DESC_AVAIL, DESC_USED, DESC_AVAIL | DESC_NEXT,
                  DESC_AVAIL | DESC_INDIRECT, DESC_AVAIL | DESC_INDIRECT | DESC_NEXT,
                  DESC_AVAIL | DESC_WRITE, 0x7f7f):
        session = duo(packed=True, size=16, buffers=0, mergeable=mergeable)
        ring = ring_of(session, sending)
        gpa = session.mem.alloc(2048)
        for turn in range(3):
            for i in range(16):
                ring.set_desc(i, gpa, 2048, 0xffff - i, flags)
            show(session, sending)
        done_with(session)


# everything at once


@both_kinds
@either_way
@pytest.mark.parametrize("seed", range(4))
def test_rings_of_noise(duo, packed, mergeable, seed):
    """What is received goes into buffers of at least a header, for which see the end of this
    file."""
    chance = random.Random(seed)
    session = duo(packed=packed, size=64, mergeable=mergeable, indirect=True)
    rings = [(session.receiving().ring, 2048, False), (session.sending().ring, 1, True)]
    good = [session.mem.alloc(4096) for _ in range(8)]
    for turn in range(60):
        for ring, least, sending in rings:
            for i in range(64):
                gpa = chance.choice(good) if chance.random() < 0.7 else chance.getrandbits(64)
                length = chance.choice((least, 2048, 4096, 60000, MAXU32)) if chance.random() < 0.9 \
                    else max(least, chance.getrandbits(32))
                flags = chance.choice((0, 1, 2, 3, 4 if sending else 2, chance.getrandbits(3)
                                       if sending else 3))
                if packed:
                    flags |= chance.choice((0, DESC_AVAIL, DESC_USED, DESC_AVAIL | DESC_USED))
                    ring.set_desc(i, gpa, length, chance.getrandbits(16), flags)
                else:
                    ring.set_desc(i, gpa, length, flags, chance.randrange(70))
            if not packed:
                for i in range(64):
                    ring.avail[2 + i] = chance.randrange(70) if sending else chance.randrange(64)
                ring.set_avail_idx(chance.getrandbits(16))
        session.sending().kick.signal()
        if turn % 8 == 0:
            time.sleep(0.001)
    done_with(session)


@both_kinds
def test_descriptors_that_change_while_the_device_looks(duo, packed):
    """Lengths, addresses and indexes of what is sent, written by a thread without a pause."""
    session = duo(packed=packed, size=64, indirect=True)
    ring, stop = session.sending().ring, threading.Event()
    gpa = session.mem.alloc(65536)

    def meddle():
        chance = random.Random(3)
        while not stop.is_set():
            i = chance.randrange(64)
            length = chance.choice((0, 12, 13, 100, 65536, MAXU32))
            addr = chance.choice((gpa, gpa, gpa, 0xdead_0000_0000))
            if packed:
                ring.set_desc(i, addr, length, i, chance.choice((0, DESC_AVAIL, DESC_USED, 1, 4)))
            else:
                ring.set_desc(i, addr, length, chance.choice((0, 1, 4)), chance.randrange(64))
                ring.avail[2 + i] = chance.randrange(64)
                ring.set_avail_idx(chance.getrandbits(16))

    thread = threading.Thread(target=meddle)
    thread.start()
    try:
        end = time.monotonic() + 0.5
        while time.monotonic() < end:
            session.sending().kick.signal()
            flow(session, 4, pair=1)
    finally:
        stop.set()
        thread.join()
    done_with(session)


@both_kinds
def test_packets_of_many_megabytes(net_scene, packed):
    """One may need all mbufs there are, and is dropped then; the neighbour's packets are only
    late."""
    session = net_scene.open(packed=packed, size=64, buffers=8,
                             mem=GuestMemory(((0, 48 * MB, 0x7e30_0000_0000, 0),)))
    gpa = session.mem.alloc(40 * MB, 4096)
    count = net_scene.neighbour.count
    for size in (66000, MB, 15 * MB, 17 * MB, 40 * MB):
        for _ in range(4):
            session.sending().ring.add([(gpa, size, False)])
        session.sending().ring.publish()
        session.sending().kick.signal()
        time.sleep(0.05)
    net_scene.neighbour.check(count)
    assert session.quiet(seconds=0.01)
    net_scene.goes_on(session)


@both_kinds
def test_more_than_4_gib_in_one_chain(net_scene, packed):
    """The sum of the lengths does not fit the library's 32 bits."""
    session = net_scene.open(packed=packed, size=512, buffers=8,
                             mem=GuestMemory(((0, 40 * MB, 0x7e30_0000_0000, 0),)))
    session.sending().ring.add([(4 * MB, 32 * MB, False)] * 128 + [(4 * MB, 100, False)])
    session.sending().ring.publish()
    session.sending().kick.signal()
    time.sleep(0.1)
    session.fence()


# receive buffers shorter than a header


def around(session, buffer_bytes):
    """Guest memory full of a pattern, in the middle of which a small buffer is to lie."""
    gpa = session.mem.alloc(3 * 4096, 4096)
    session.mem.fill(gpa, 3 * 4096, 0xaa)
    return gpa, gpa + 4096, buffer_bytes


def untouched(session, gpa, at, size):
    content = session.mem.read(gpa, 3 * 4096)
    inside = at - gpa
    return not content[:inside].strip(b"\xaa") and not content[inside + size:].strip(b"\xaa")


@both_kinds
@either_way
def test_librte_vhost_writes_a_header_beyond_runts_and_the_direct_path_does_not(
        net_scene, packed, mergeable, datapath):
    """A fault of 22.11 (mbuf_to_desc) that nothing around it mends: up to 11 bytes behind a receive
    descriptor with which the header of 12 bytes is not complete. Fails with a release that has mended
    it: then safety.rst has to say so, and this test to ask for the contrary."""
    session = net_scene.open(packed=packed, mergeable=mergeable, buffers=0)
    first, last = session.mem.alloc(64), session.mem.alloc(2048)
    place = around(session, 1)
    session.receiving().ring.add([(first, 1, True), (place[1], 1, True), (last, 2000, True)])
    session.receiving().notify()
    session.wait_sent(session.submit([session.prepare(packets.plain(1, 200))]))
    time.sleep(0.01)
    if datapath == "direct":
        (_, length), = session.receiving().wait_used()
        data = session.mem.gather([(first, 1), (place[1], 1), (last, length - 2)])
        assert data[HEADER:] == packets.swapped(packets.plain(1, 200))
    assert untouched(session, *place) == (datapath == "direct")


def test_a_batch_of_runts_is_not_written_beyond_them(net_scene):
    session = net_scene.open(packed=True, mergeable=False, buffers=0)
    places = [around(session, 4) for _ in range(4)]
    for _, at, size in places:
        session.receiving().ring.add([(at, size, True)])
    session.receiving().notify()
    session.wait_sent(session.submit([session.prepare(packets.plain(i, 200)) for i in range(4)]))
    time.sleep(0.01)
    assert all(untouched(session, *place) for place in places)
