# SPDX-License-Identifier: BSD-3-Clause
"""What only the direct data path of a port promises: it tells of a ring that makes no sense, it completes
every Internet checksum, it serves drivers of before VERSION_1, and what comes out of it is what comes
out of librte_vhost.

What both data paths promise is in the other tests of network ports.
"""

import pytest

from vhostuser import F, GuestMemory, NF, NetHeader, NetPort, Queue, packets, pattern
from vhostuser import net
from vhostuser import protocol as p
from vhostuser.flow import flow
from vhostuser.packets import TCP, UDP

both_kinds = pytest.mark.parametrize("packed", [False, True], ids=["split", "packed"])
either_way = pytest.mark.parametrize("mergeable", [False, True], ids=["whole", "mergeable"])
SENDS = (NF.CSUM, NF.HOST_TSO4, NF.HOST_TSO6, NF.HOST_UFO)
TAKES = (NF.GUEST_CSUM, NF.GUEST_TSO4, NF.GUEST_TSO6, NF.GUEST_UFO)


@pytest.fixture
def datapath():
    return "direct"


# rings that break


@both_kinds
@either_way
def test_a_buffer_without_room_for_a_header_breaks_its_ring_and_no_other(net_scene, packed, mergeable):
    session = net_scene.open(packed=packed, mergeable=mergeable, buffers=0, pairs=2)
    session.post(1, 8)
    session.put_buffer(session.buffer(11))
    sent = [session.send(packets.plain(1, 100))]
    net_scene.broken(session, "vring 0 .*room for a header", queue=0)
    # The ring that sends goes on: its packets are dropped.
    sent.append(session.send(packets.plain(2, 100)))
    session.wait_sent([each for each in sent if not each.done])
    flow(session, 8, pair=1)
    session.get_vring_base(0)
    session.start_queue(session.receiving(), base=session.receiving().ring.base)


@both_kinds
@pytest.mark.parametrize("sending", [False, True], ids=["receiving", "sending"])
def test_a_bad_address_breaks_its_ring(net_scene, packed, sending):
    session = net_scene.open(packed=packed, buffers=0)
    queue = session.sending() if sending else session.receiving()
    queue.ring.add([(0xdead_0000_0000, 2048, not sending)])
    queue.notify()
    if not sending:
        session.send(packets.plain(1, 100))
    net_scene.broken(session, "vring %d .*outside of guest memory" % queue.index, queue=queue.index)


@both_kinds
def test_readable_buffers_to_receive_into_break_the_ring(net_scene, packed):
    session = net_scene.open(packed=packed, buffers=0)
    session.receiving().ring.add([(session.mem.alloc(2048), 2048, False)])
    session.receiving().notify()
    session.send(packets.plain(1, 100))
    net_scene.broken(session, "room for a header", queue=0)


# what a packet does not need it leaves


@both_kinds
def test_buffers_that_were_looked_at_and_not_needed_stay_available(port, packed):
    """A packet that is too large for all there is, then the ring's base: nothing was taken."""
    session = port(packed=packed, size=64, buffers=5)
    session.wait_sent([session.send(packets.plain(1, 20000))])
    assert session.quiet(seconds=0.005)
    bases = session.stop()
    assert bases[0] == (0x8000_8000 if packed else 0)
    for queue in session.queues.values():
        session.start_queue(queue, base=bases[queue.index])
    flow(session, 20, most=4)


@both_kinds
def test_a_large_packet_among_small_ones_in_one_burst(port, packed):
    session = port(packed=packed, size=256, buffers=100)
    frames = [packets.plain(i, 60000 if i % 8 == 3 else 60 + i) for i in range(16)]
    session.submit([session.prepare(frame) for frame in frames])
    for frame in frames:
        assert session.receive().frame == packets.swapped(frame)


# headers


@both_kinds
@pytest.mark.parametrize("takes", [False, True], ids=["completed", "carried"])
@pytest.mark.parametrize("size", [100, 2100, 9000])
def test_the_sum_of_any_protocol(port, packed, takes, size):
    """Also where its field lies across two buffers of ours."""
    session = port(packed=packed, features=(NF.CSUM,) + ((NF.GUEST_CSUM,) if takes else ()))
    frame = packets.plain(3, size)
    for start, offset in ((34, 0), (34, 7), (60, size - 62), (35, 1), (34, 2048 - 34 - 1)):
        if start + offset + 2 > size:
            continue
        header = NetHeader(flags=1, csum_start=start, csum_offset=offset)
        packet = session.exchange(frame, header=header)
        wanted, at = frame, start + offset
        if not takes:
            total = (packets.sum16(frame[start:]) ^ 0xffff) or 0xffff
            wanted = frame[:at] + total.to_bytes(2, "big") + frame[at + 2:]
        assert packet.frame == packets.swapped(wanted)
        assert packet.header._replace(num_buffers=0) == (header if takes else NetHeader())


@pytest.mark.parametrize("mergeable", [False, True], ids=["10 bytes", "12 bytes"])
def test_drivers_of_before_version_1(port_path, opened, mergeable):
    """Their header has num_buffers with mergeable buffers only."""
    session = NetPort(port_path())
    opened.later(session)
    session.negotiate((NF.MRG_RXBUF,) if mergeable else ())
    session.set_features(session.features & ~p.bits(F.VERSION_1))
    session.set_mem_table(GuestMemory())
    for index in (0, 1):
        session.start_queue(Queue(index, session.new_ring(64)))
    size = 12 if mergeable else 10
    buffer, frame = session.put_buffer(session.buffer()), packets.plain(1, 300)
    sent = session.prepare(frame)
    session.mem.scatter(sent.parts, bytes(size) + frame + bytes(12 - size))
    sent.parts = [(sent.parts[0][0], size + len(frame))]
    session.submit([sent])
    (used, length), = session.receiving().wait_used()
    data = session.mem.gather(used.parts)[:length]
    assert used is buffer and data[:10] == bytes(10) and data[size:] == packets.swapped(frame)


# both data paths


def traffic():
    """Packets of all kinds that a guest may send: frame and header."""
    for size in (14, 59, 60, 64, 65, 128, 129, 300, 1514, 2036, 2037, 9000, 40000):
        yield packets.plain(size, size), NetHeader()
    for version in (4, 6):
        for protocol in (TCP, UDP):
            for size in (0, 1, 77, 1400, 5000):
                yield packets.segment(version, protocol, pattern(size, size))[:2]
            for size in (1, 1400, 1401, 30000):
                if version == 4 or protocol == TCP:
                    yield packets.segment(version, protocol, pattern(size, size), gso_size=1400)[:2]
    made = packets.segment(4, TCP, pattern(5, 700))
    yield (made.frame[:12] + b"\x81\x00\x00\x05" + made.frame[12:],
           made.header._replace(csum_start=made.header.csum_start + 4))


def comparable(packet, mergeable):
    """librte_vhost 22.11 sets no number of buffers where it is always 1."""
    return packet.header if mergeable else packet.header._replace(num_buffers=1), packet.frame, packet.lengths


@pytest.mark.plain_only
@pytest.mark.parametrize("takes", [(), (NF.GUEST_CSUM,), TAKES], ids=["nothing", "checksums", "all"])
@pytest.mark.parametrize("packed, mergeable, pieces", [
    (False, True, None), (True, True, None), (True, False, None), (False, True, [12]), (False, True, [5, 20])],
    ids=["split", "packed", "whole", "header apart", "odd pieces"])
def test_the_same_traffic_comes_out_of_both_data_paths(stage, opened, takes, packed, mergeable, pieces):
    sessions = [opened(stage.path(name), NetPort, packed=packed, mergeable=mergeable, buffers=60,
                       buffer_bytes=2048 if mergeable else 66000, size=256, features=SENDS + takes)
                for name in ("netplain", "netplain-library")]
    for frame, header in traffic():
        shape = None if pieces is None else pieces + [12 + len(frame) - sum(pieces)]
        found = [came_of(session, frame, header, shape if shape and shape[-1] > 0 else None)
                 for session in sessions]
        assert found[0] == found[1], header
        assert found[0], header


def came_of(session, frame, header, pieces):
    """What is received for it; a frame without meaning tells where it ends."""
    mark = packets.plain(99, 60)
    session.send(frame, header=header, pieces=pieces)
    session.send(mark)
    found = []
    while True:
        packet = session.receive()
        if packet.frame == packets.swapped(mark):
            return found
        found.append(comparable(packet, session.has(NF.MRG_RXBUF)))
