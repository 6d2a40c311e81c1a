# SPDX-License-Identifier: BSD-3-Clause
"""What the offload bits of a network port promise: a packet whose checksum or segmentation is left
to the device comes back as it was for a driver that takes such packets, and done for one that does
not.

What makes no sense in such a header is in test_hostile_net.py.
"""

import itertools

import pytest

from vhostuser import NF, NetHeader, NetPort, packets, pattern
from vhostuser import net
from vhostuser.packets import ETHER, FIN, PSH, ACK, TCP, UDP

both_kinds = pytest.mark.parametrize("packed", [False, True], ids=["split", "packed"])
either_version = pytest.mark.parametrize("version", [4, 6], ids=["IPv4", "IPv6"])
either_protocol = pytest.mark.parametrize("protocol", [TCP, UDP], ids=["TCP", "UDP"])

SENDS = (NF.CSUM, NF.HOST_TSO4, NF.HOST_TSO6, NF.HOST_UFO)
TAKES = (NF.GUEST_CSUM, NF.GUEST_TSO4, NF.GUEST_TSO6, NF.GUEST_UFO)
USO = (NF.CSUM, NF.HOST_USO)
TAKES_USO = (NF.GUEST_CSUM, NF.GUEST_USO4, NF.GUEST_USO6)


@pytest.fixture
def direct_port(stage, opened):
    """As `port`, for what only our own data path does."""
    return lambda **keywords: opened(stage.path("netplain"), NetPort, **keywords)


def same(header):
    return header._replace(num_buffers=0)


# checksums


@both_kinds
@either_version
@either_protocol
@pytest.mark.parametrize("size", [0, 1, 100, 1400, 8000])
def test_a_checksum_stays_open_for_a_guest_that_takes_that(port, packed, version, protocol, size):
    session = port(packed=packed, features=(NF.CSUM, NF.GUEST_CSUM))
    made = packets.segment(version, protocol, pattern(1, size))
    packet = session.exchange(made.frame, header=made.header)
    assert packet.frame == packets.swapped(made.frame)
    assert same(packet.header) == made.header


@both_kinds
@either_version
@either_protocol
@pytest.mark.parametrize("size", [0, 1, 100, 1400, 8000])
def test_a_checksum_is_completed_for_a_guest_that_does_not(port, packed, version, protocol, size):
    session = port(packed=packed, features=(NF.CSUM,))
    made = packets.segment(version, protocol, pattern(1, size))
    whole = packets.segment(version, protocol, pattern(1, size), csum="full")
    packet = session.exchange(made.frame, header=made.header)
    assert packet.frame == packets.swapped(whole.frame)
    assert same(packet.header) == NetHeader()
    assert packets.sums_up(packet.frame, version, protocol)


def test_a_udp_checksum_of_zero_is_sent_as_ones(port):
    """RFC 768: zero stands for none."""
    session = port(features=(NF.CSUM,))
    made = packets.segment(4, UDP, bytes(2))
    start = made.frame[made.l4:]
    total = packets.sum16(packets.pseudo(4, made.frame[ETHER:], UDP, 10) + start[:6] + bytes(4))
    payload = (0xffff - total).to_bytes(2, "big")
    made = packets.segment(4, UDP, payload)
    frame = session.echo(made.frame, header=made.header)
    assert frame[made.l4 + 6:made.l4 + 8] == b"\xff\xff"


@either_version
@either_protocol
def test_a_full_checksum_is_left_alone(port, version, protocol):
    """Even a wrong one: that is the sender's affair."""
    session = port(features=SENDS)
    made = packets.segment(version, protocol, pattern(1, 300), csum="full")
    for frame in (made.frame, made.frame[:-1] + b"\xee"):
        packet = session.exchange(frame)
        assert packet.frame == packets.swapped(frame)
        assert same(packet.header) == NetHeader()


def test_without_csum_negotiated_nobody_looks_at_the_header(port):
    session = port()
    made = packets.segment(4, TCP, pattern(1, 300))
    packet = session.exchange(made.frame, header=made.header)
    assert packet.frame == packets.swapped(made.frame)
    assert same(packet.header) == NetHeader()


@either_protocol
def test_behind_a_vlan_tag(port, protocol):
    session = port(features=(NF.CSUM,))
    made = packets.segment(4, protocol, pattern(1, 300))
    tagged = made.frame[:12] + b"\x81\x00\x00\x05" + made.frame[12:]
    header = made.header._replace(csum_start=made.header.csum_start + 4)
    frame = session.echo(tagged, header=header)
    assert frame[12:16] == b"\x81\x00\x00\x05"
    assert packets.sums_up(frame[:12] + frame[16:], 4, protocol)


# segmentation


@both_kinds
@either_version
@pytest.mark.parametrize("size", [100, 1449, 30000, 64000])
def test_tcp_to_be_segmented_comes_back_whole(port, packed, version, size):
    """A single segment too: who asked for segmentation is asked for it. The sum of the pseudo header is that of the
    whole: a receiver that sends the packet on may have it from there."""
    session = port(packed=packed, features=SENDS + TAKES, buffers=64)
    made = packets.segment(version, TCP, pattern(1, size), gso_size=1448)
    packet = session.exchange(made.frame, header=made.header)
    assert packet.frame == packets.swapped(made.frame)
    assert same(packet.header) == made.header


@both_kinds
@pytest.mark.parametrize("version, protocol", [(4, TCP), (6, TCP), (4, UDP)],
                         ids=["TCP over IPv4", "TCP over IPv6", "UDP"])
def test_segments_are_held_to_the_mtu(port, packed, version, protocol):
    """A frame longer than the MTU has to become shorter ones; a shorter one may ask for any. Two VLAN
    tags are let pass, and a fragment of UDP has no header of UDP."""
    session = port("netwhole", packed=packed, features=SENDS + TAKES, buffers=64)
    whole = packets.segment(version, protocol, b"")
    longest = 9000 + 14 + 8 - (whole.l4 if protocol == UDP else whole.head)
    for size, gso_size, passes in [(20000, longest, True), (20000, longest + 1, False),
                                   (20000, 65535, False), (9001, 65535, False),
                                   (8000, 65535, True)]:
        made = packets.segment(version, protocol, pattern(1, size), gso_size=gso_size)
        session.send(made.frame, header=made.header)
        if passes:
            packet = session.receive()
            assert len(packet.frame) == len(made.frame)
            assert packet.header.gso_size == gso_size
    assert session.echo(packets.plain(1, 100)) == packets.swapped(packets.plain(1, 100))
    assert session.quiet(seconds=0.005)


def segments(session, count):
    return [session.receive() for _ in range(count)]


def check_segments(made, found, payload, size, flags, seq):
    ident = packets.parse_ipv4(made.frame).ident
    for i, packet in enumerate(found):
        assert same(packet.header) == NetHeader()
        part = payload[i * size:(i + 1) * size]
        ip = packets.parse_ipv4(packet.frame)
        assert packet.frame[:ETHER] == packets.swapped(made.frame)[:ETHER]
        assert len(packet.frame) == made.head + len(part)
        assert ip.length == len(packet.frame) - ETHER
        assert ip.sums and ip.fragment == 0 and ip.ident == (ident + i) & 0xffff
        assert packets.sums_up(packet.frame, 4, TCP)
        assert int.from_bytes(ip.payload[4:8], "big") == (seq + i * size) & 0xffffffff
        last = i == len(found) - 1
        assert ip.payload[13] == (flags if last else flags & ~(FIN | PSH))
        assert packet.frame[made.head:] == part


@both_kinds
@pytest.mark.parametrize("takes", [(), (NF.GUEST_CSUM,), (NF.GUEST_CSUM, NF.GUEST_TSO6)],
                         ids=["nothing", "checksums", "IPv6"])
@pytest.mark.parametrize("size", [100, 1448, 1449, 2896, 30000, 64000])
def test_tcp_is_segmented_for_a_guest_that_does_not_take_it(port, packed, takes, size):
    session = port(packed=packed, features=SENDS + takes, buffers=96)
    payload = pattern(2, size)
    for seq in (1000, 0xffff_f000):
        made = packets.segment(4, TCP, payload, gso_size=1448, flags=ACK | PSH | FIN, seq=seq)
        session.send(made.frame, header=made.header)
        found = segments(session, -(-size // 1448))
        check_segments(made, found, payload, 1448, ACK | PSH | FIN, seq)
        assert session.quiet(seconds=0.005)


@pytest.mark.parametrize("size", [1, 333, 1447])
def test_segments_of_odd_sizes(port, size):
    """Their sums go over pieces of odd lengths."""
    session = port(features=SENDS, size=512, buffers=300)
    payload = pattern(7, min(200 * size, 60000))
    made = packets.segment(4, TCP, payload, gso_size=size)
    session.send(made.frame, header=made.header)
    check_segments(made, segments(session, -(-len(payload) // size)), payload, size, ACK, 1000)


def test_many_small_segments(port):
    session = port(features=SENDS, size=512, buffers=300)
    payload = pattern(3, 250 * 40)
    made = packets.segment(4, TCP, payload, gso_size=40)
    session.send(made.frame, header=made.header)
    check_segments(made, segments(session, 250), payload, 40, ACK, 1000)


def test_more_segments_than_a_packet_may_become_are_dropped(port):
    session = port(features=SENDS, size=1024, buffers=600)
    made = packets.segment(4, TCP, pattern(3, 600), gso_size=1)
    session.send(made.frame, header=made.header)
    assert session.quiet(seconds=0.02)
    assert session.echo(packets.plain(1, 100)) == packets.swapped(packets.plain(1, 100))


@both_kinds
def test_a_burst_of_everything_stays_in_order(port, packed):
    session = port(packed=packed, features=SENDS, size=256, buffers=200)
    sent, expected = [], []
    for i in range(8):
        frame = packets.plain(i, 100 + i)
        sent.append(session.prepare(frame))
        expected.append(len(frame))
        made = packets.segment(4, TCP, pattern(i, 4000), gso_size=1000)
        sent.append(session.prepare(made.frame, made.header))
        expected += [made.head + 1000] * 4
        made = packets.segment(6, UDP, pattern(i, 50 + i))
        sent.append(session.prepare(made.frame, made.header))
        expected.append(len(made.frame))
    session.submit(sent)
    found = segments(session, len(expected))
    assert [len(packet.frame) for packet in found] == expected
    assert all(packets.sums_up(packet.frame, 4, TCP) for packet in found
               if packet.frame[12:14] == b"\x08\x00")
    assert all(packets.sums_up(packet.frame, 6, UDP) for packet in found
               if packet.frame[12:14] == b"\x86\xdd")


@either_version
def test_udp_to_be_fragmented_comes_back_whole(port, version):
    session = port(features=SENDS + TAKES)
    made = packets.segment(version, UDP, pattern(1, 20000), gso_size=1472)
    packet = session.exchange(made.frame, header=made.header)
    assert packet.frame == packets.swapped(made.frame)
    assert packet.header.gso_type == net.GSO_UDP and packet.header.gso_size == 1472
    assert packet.header.flags == net.NEEDS_CSUM
    assert packet.header.csum_start == made.l4 and packet.header.csum_offset == 6


@pytest.mark.parametrize("gso_size", [1472, 1480])
def test_udp_is_fragmented_for_a_guest_that_does_not_take_it(port, gso_size):
    """Fragments of one datagram, which has one checksum."""
    session = port(features=SENDS + (NF.GUEST_CSUM,), buffers=64)
    made = packets.segment(4, UDP, pattern(4, 10000), gso_size=gso_size)
    session.send(made.frame, header=made.header)
    count = -(-(8 + 10000) // gso_size)
    data = b""
    for i, packet in enumerate(segments(session, count)):
        ip = packets.parse_ipv4(packet.frame)
        assert same(packet.header) == NetHeader() and ip.sums
        assert ip.ident == packets.parse_ipv4(made.frame).ident
        assert (ip.fragment & 0x1fff) * 8 == len(data)
        assert bool(ip.fragment & 0x2000) == (i < count - 1)
        data += ip.payload
    whole = packets.segment(4, UDP, pattern(4, 10000), csum="full")
    assert data == whole.frame[whole.l4:]


def test_ipv6_is_not_fragmented_here(port):
    """Dropped, for nobody here can do it; what comes behind it is not."""
    session = port(features=SENDS + (NF.GUEST_CSUM, NF.GUEST_TSO4))
    made = packets.segment(6, UDP, pattern(1, 5000), gso_size=1400)
    session.send(made.frame, header=made.header)
    assert session.echo(packets.plain(1, 100)) == packets.swapped(packets.plain(1, 100))
    assert session.quiet(seconds=0.005)


def check_pieces(version, protocol, found, payload, size, flags=ACK, seq=1000, shape=lambda part: part):
    """They are what the sender would have made of each part."""
    for i, packet in enumerate(found):
        at = i * size
        part_flags = flags if at + size >= len(payload) else flags & ~(FIN | PSH)
        part = shape(packets.segment(version, protocol, payload[at:at + size], csum="full", flags=part_flags,
                                     seq=(seq + at) & 0xffffffff))
        wanted = packets.swapped(part.frame)
        assert same(packet.header) == NetHeader()
        if version == 4:
            ip = packets.parse_ipv4(packet.frame)
            assert ip.sums and ip.ident == (packets.parse_ipv4(part.frame).ident + i) & 0xffff
            wanted = wanted[:18] + packet.frame[18:20] + wanted[20:24] + packet.frame[24:26] + wanted[26:]
        assert packet.frame == wanted


@both_kinds
@pytest.mark.parametrize("takes", [(), (NF.GUEST_CSUM, NF.GUEST_TSO4)], ids=["nothing", "IPv4"])
@pytest.mark.parametrize("size", [1, 1428, 1429, 2856, 30000, 65000])
def test_tcp_over_ipv6_is_segmented_for_a_guest_that_does_not_take_it(port, packed, takes, size):
    session = port(packed=packed, features=SENDS + takes, buffers=96)
    payload = pattern(2, size)
    for seq in (1000, 0xffff_f000):
        made = packets.segment(6, TCP, payload, gso_size=1428, flags=ACK | PSH | FIN, seq=seq)
        session.send(made.frame, header=made.header)
        check_pieces(6, TCP, segments(session, -(-size // 1428)), payload, 1428, ACK | PSH | FIN, seq)
        assert session.quiet(seconds=0.005)


def test_segments_of_odd_sizes_over_ipv6(port):
    session = port(features=SENDS, size=512, buffers=300)
    for size in (1, 333, 1427, 3001):
        payload = pattern(7, min(200 * size, 60000))
        made = packets.segment(6, TCP, payload, gso_size=size)
        session.send(made.frame, header=made.header)
        check_pieces(6, TCP, segments(session, -(-len(payload) // size)), payload, size)
    made = packets.segment(6, TCP, pattern(3, 600), gso_size=1)
    session.send(made.frame, header=made.header)
    assert session.echo(packets.plain(1, 100)) == packets.swapped(packets.plain(1, 100))


# IPv6 with extension headers


extended = pytest.mark.parametrize("routed", [False, True], ids=["options", "routed"])


@extended
@either_protocol
@pytest.mark.parametrize("takes", [(), (NF.GUEST_CSUM,)], ids=["completed", "carried"])
def test_a_checksum_behind_extension_headers(direct_port, routed, protocol, takes):
    """A routing header leads elsewhere than to the address in IPv6's own, and the sum is of the end."""
    session = direct_port(features=(NF.CSUM,) + takes)
    made = packets.behind_extensions(packets.segment(6, protocol, pattern(1, 777)), routed)
    wanted = made
    if not takes:
        wanted = packets.segment(6, protocol, pattern(1, 777), csum="full")
        wanted = packets.behind_extensions(wanted, routed)
    packet = session.exchange(made.frame, header=made.header)
    assert packet.frame == packets.swapped(wanted.frame) and same(packet.header) == wanted.header


@extended
@both_kinds
@pytest.mark.parametrize("size", [1, 1400, 1401, 30000])
def test_tcp_behind_extension_headers_is_segmented(direct_port, packed, routed, size):
    session = direct_port(packed=packed, features=SENDS, buffers=96)
    made = packets.segment(6, TCP, pattern(2, size), gso_size=1400, flags=ACK | PSH | FIN)
    made = packets.behind_extensions(made, routed)
    session.send(made.frame, header=made.header)
    check_pieces(6, TCP, segments(session, -(-size // 1400)), pattern(2, size), 1400, ACK | PSH | FIN,
                 shape=lambda part: packets.behind_extensions(part, routed))
    assert session.quiet(seconds=0.005)


@extended
def test_tcp_behind_extension_headers_comes_back_whole(direct_port, routed):
    session = direct_port(features=SENDS + TAKES, buffers=64)
    made = packets.behind_extensions(packets.segment(6, TCP, pattern(1, 30000), gso_size=1400), routed)
    packet = session.exchange(made.frame, header=made.header)
    assert packet.frame == packets.swapped(made.frame) and same(packet.header) == made.header


@extended
def test_datagrams_behind_extension_headers(direct_port, routed):
    session = direct_port(features=USO, buffers=64)
    made = packets.segment(6, UDP, pattern(4, 30000), gso_size=1400)
    made = packets.behind_extensions(made, routed)
    session.send(made.frame, header=made.header._replace(gso_type=net.GSO_UDP_L4))
    check_pieces(6, UDP, segments(session, 22), pattern(4, 30000), 1400,
                 shape=lambda part: packets.behind_extensions(part, routed))


@pytest.mark.parametrize("protocol, gso_type", [(TCP, net.GSO_TCPV6), (UDP, net.GSO_UDP_L4)], ids=["TCP", "UDP"])
def test_extension_headers_that_end_nowhere_are_no_headers(direct_port, protocol, gso_type):
    """Longer than what is looked at of a frame, than the frame, or one too many."""
    session = direct_port(features=SENDS + USO, buffers=64)
    made = packets.behind_extensions(packets.segment(6, protocol, pattern(1, 3000), gso_size=1400))
    for at, value in ((ETHER + 41, 6), (ETHER + 41, 7), (ETHER + 41, 255), (ETHER + 49, 255), (ETHER + 48, 0),
                      (ETHER + 48, 60), (ETHER + 6, 44), (ETHER + 40, 44)):
        frame = made.frame[:at] + bytes((value,)) + made.frame[at + 1:]
        for start in (0, 8, 16, 40, 48, 56, 2032, 2040, 2048):
            header = made.header._replace(gso_type=gso_type, csum_start=ETHER + 40 + start)
            session.wait_sent([session.send(frame, header=header)])
    assert session.echo(packets.plain(1, 100)) == packets.swapped(packets.plain(1, 100))


# UDP to be cut into datagrams: our own data path


def datagrams(version, payload, size):
    made = packets.segment(version, UDP, payload, gso_size=size)
    return made.frame, made.header._replace(gso_type=net.GSO_UDP_L4)


@both_kinds
@either_version
def test_udp_to_become_datagrams_comes_back_whole(direct_port, packed, version):
    session = direct_port(packed=packed, features=USO + TAKES_USO)
    for size in (1, 1400, 20000):
        frame, header = datagrams(version, pattern(1, size), 1400)
        packet = session.exchange(frame, header=header)
        assert packet.frame == packets.swapped(frame) and same(packet.header) == header


@both_kinds
@either_version
@pytest.mark.parametrize("size", [1, 1400, 1401, 30000, 65000])
def test_udp_becomes_datagrams_for_a_guest_that_does_not_take_it(direct_port, packed, version, size):
    other = NF.GUEST_USO6 if version == 4 else NF.GUEST_USO4
    session = direct_port(packed=packed, features=USO + (NF.GUEST_CSUM, other), buffers=96)
    frame, header = datagrams(version, pattern(4, size), 1400)
    session.send(frame, header=header)
    check_pieces(version, UDP, segments(session, -(-size // 1400)), pattern(4, size), 1400)
    assert session.quiet(seconds=0.005)


def test_datagrams_that_make_no_sense_are_dropped(direct_port):
    session = direct_port(features=USO)
    frame, header = datagrams(4, pattern(4, 3000), 1400)
    tcp = packets.segment(4, TCP, pattern(4, 3000), gso_size=1400)
    for wrong_frame, wrong in ((frame, header._replace(gso_size=0)), (frame, header._replace(flags=0)),
                               (frame, header._replace(csum_offset=16)), (frame, header._replace(csum_start=35)),
                               (frame, header._replace(gso_type=net.GSO_UDP)),
                               (tcp.frame, tcp.header._replace(gso_type=net.GSO_UDP_L4)),
                               (packets.plain(1, 3000), header), (frame[:40], header)):
        session.wait_sent([session.send(wrong_frame, header=wrong)])
    assert session.echo(packets.plain(1, 100)) == packets.swapped(packets.plain(1, 100))


def test_who_has_not_agreed_on_datagrams_cannot_ask_for_them(direct_port):
    session = direct_port(features=SENDS)
    frame, header = datagrams(4, pattern(4, 3000), 1400)
    session.wait_sent([session.send(frame, header=header)])
    assert session.echo(packets.plain(1, 100)) == packets.swapped(packets.plain(1, 100))


@pytest.mark.parametrize("pieces", [[12, 54], [12, 14, 20, 20], [66], [30, 36]],
                         ids=["apart", "each header apart", "all", "odd"])
def test_headers_in_descriptors_of_any_layout(port, pieces):
    session = port(features=SENDS, buffers=64)
    payload = pattern(5, 9000)
    made = packets.segment(4, TCP, payload, gso_size=1448)
    session.send(made.frame, header=made.header, pieces=pieces + [9000])
    check_segments(made, segments(session, 7), payload, 1448, ACK, 1000)


def test_every_set_of_bits_that_a_guest_may_take(port):
    """GUEST_TSO4, _TSO6 and _UFO are of no use without GUEST_CSUM (VIRTIO 1.2, 5.1.3.1)."""
    made = packets.segment(4, TCP, pattern(6, 3000), gso_size=1448)
    for n in range(len(TAKES) + 1):
        for takes in itertools.combinations(TAKES, n):
            session = port(features=SENDS + takes)
            whole = NF.GUEST_CSUM in takes and NF.GUEST_TSO4 in takes
            session.send(made.frame, header=made.header)
            first = session.receive()
            assert (same(first.header) == made.header) == whole, takes
            assert len(first.frame) == (len(made.frame) if whole else made.head + 1448), takes
            session.close()
