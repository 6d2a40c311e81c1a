# SPDX-License-Identifier: BSD-3-Clause
"""Ports that are joined: what crosses a patch and a bridge, and what does not. VLANs, flooding, limits,
isolation, stations that move, age and go; on one worker and on two, and on both data paths.

A daemon of their own serves these tests, each of which adds its ports and takes them away again, so
that bridges come and go while others run.
"""

import itertools
import struct
import time

import pytest

from control import Refused, vhubctl
from lan import (DATAPATHS, QUIET, all_pairs_open, control, daemon, frame, lan, mac, newest_arrives,   # noqa: F401
                 only_direct, text_of)
from vhostuser import PATIENCE, BackendChannel, F, NF, Req, ctrl, net, packets, wait_until
from vhostuser import protocol as p

BROADCAST = b"\xff" * 6


def gets(session, expected, pair=0):
    packet = session.receive(pair)
    assert packet.frame == expected
    return packet


# patch


def test_a_patch_wires_two_ports(lan):
    a, b = (lan.port(name, driver="patch") for name in "ab")
    for seed in range(20):
        one, two = packets.plain(seed, 60 + 70 * seed), packets.plain(seed, 1000)
        a.send(one)
        gets(b, one)
        b.send(two)
        gets(a, two)


def test_a_patch_has_two_ends_and_they_come_and_go(lan):
    a = lan.port("a", driver="patch")
    a.wait_sent([a.send(packets.plain(1, 100))])
    lan.wait_figure("a", "patch_dropped_no_peer", 1)
    b = lan.port("b", driver="patch")
    a.send(packets.plain(2, 100))
    gets(b, packets.plain(2, 100))
    with pytest.raises(Refused, match="has its two ends already"):
        lan.add("c", driver="patch")
    lan.remove("b")
    a.wait_sent([a.send(packets.plain(3, 100))])
    lan.wait_figure("a", "patch_dropped_no_peer", 2)
    c = lan.port("c", driver="patch")
    c.send(packets.plain(4, 100))
    gets(a, packets.plain(4, 100))


@pytest.mark.parametrize("pairs", [1, 2])
def test_an_end_of_a_patch_with_a_smaller_mtu_gets_no_more_than_that(lan, pairs):
    """Nor segments that would be longer, for whoever takes them."""
    whole = {"features": (NF.CSUM, NF.HOST_TSO4, NF.GUEST_CSUM, NF.GUEST_TSO4), "pairs": pairs, "buffers": 64}
    a = lan.port("a", driver="patch", session=whole, queues=pairs)
    b = lan.port("b", driver="patch", session=whole, queues=pairs, mtu=1500)
    segments = [packets.segment(4, packets.TCP, b"z" * 20000, gso_size=size) for size in (1469, 1468)]
    a.wait_sent(a.submit([a.prepare(packets.plain(size, size)) for size in (1523, 9000, 1522)]
                         + [a.prepare(each.frame, each.header) for each in segments]))
    gets(b, packets.plain(1522, 1522))
    assert b.receive().header.gso_size == 1468
    assert lan.figures("a")["patch_dropped_mtu"] == 3
    b.send(packets.plain(1, 1522))
    gets(a, packets.plain(1, 1522))
    a.wait_sent([a.send(packets.plain(2, 1523))])
    assert b.quiet(seconds=QUIET)


def test_pairs_of_a_patch_keep_apart_and_in_order(lan):
    a, b = (lan.port(name, driver="patch", session={"pairs": 2}, queues=2) for name in "ab")
    for seed in range(60):
        a.send(packets.plain(seed, 100), seed % 2)
    for pair in range(2):
        for seed in range(pair, 60, 2):
            gets(b, packets.plain(seed, 100), pair)


def test_checksums_cross_a_patch_as_they_are_asked_for(lan):
    """Who takes them gets what is left to do, who does not gets it done."""
    asking = {"features": (NF.CSUM,)}
    a = lan.port("a", driver="patch", session=asking)
    b = lan.port("b", driver="patch", session={"features": (NF.GUEST_CSUM,)})
    made = packets.segment(4, packets.TCP, b"x" * 500)
    a.send(made.frame, header=made.header)
    packet = gets(b, made.frame)
    assert packet.header.flags & net.NEEDS_CSUM
    assert (packet.header.csum_start, packet.header.csum_offset) == (34, 16)
    lan.sessions.pop("b").close()
    b = lan.open("b")
    a.send(made.frame, header=made.header)
    packet = b.receive()
    assert not packet.header.flags & net.NEEDS_CSUM
    assert packets.sums_up(packet.frame, 4, packets.TCP)


@pytest.mark.parametrize("driver", ["patch", "bridge"])
def test_ports_of_both_data_paths_meet(lan, driver):
    """What is a view for one is an mbuf for the other."""
    asking = {"session": {"features": (NF.CSUM,)}, "driver": driver}
    a = lan.port("a", **asking)
    b = lan.port("b", datapath=DATAPATHS[lan.datapath == "direct"], **asking)
    for seed, size in enumerate((60, 61, 64, 65, 76, 77, 200, 1514, 5000)):
        there, back = frame(mac(2), mac(1), seed, size), frame(mac(1), mac(2), seed, size)
        a.send(there)
        gets(b, there)
        b.send(back)
        gets(a, back)
    made = packets.segment(4, packets.UDP, b"x" * 500)
    whole = mac(2) + mac(1) + made.frame[12:]
    a.send(whole, header=made.header)
    assert packets.sums_up(b.receive().frame, 4, packets.UDP)


# learning and flooding


def test_what_is_for_an_unknown_station_goes_to_all_and_then_to_one(lan):
    a, b, c = (lan.port(name) for name in "abc")
    first = frame(mac(2), mac(1))
    a.send(first)
    gets(b, first)
    gets(c, first)
    answer = frame(mac(1), mac(2))
    b.send(answer)
    gets(a, answer)
    for seed in range(10):
        a.send(frame(mac(2), mac(1), seed))
        gets(b, frame(mac(2), mac(1), seed))
    assert c.quiet(seconds=QUIET) and a.quiet(seconds=QUIET)
    assert lan.stations() == {(text_of(mac(1)), 1): "a", (text_of(mac(2)), 1): "b"}
    figures = lan.wait_all_seen("a", 11)
    assert (figures["bridge_flooded_packets"], figures["bridge_flooded_copies"]) == (1, 2)
    assert figures["bridge_forwarded_packets"] == 10


def test_broadcast_and_multicast_reach_all_others(lan):
    ports = [lan.port(name) for name in "abc"]
    for to in (BROADCAST, bytes.fromhex("01005e000001"), bytes.fromhex("333300000001")):
        ports[0].send(frame(to, mac(1)))
        for port in ports[1:]:
            gets(port, frame(to, mac(1)))
    assert ports[0].quiet(seconds=QUIET)


@pytest.mark.parametrize("to, by, figure", [
    ("0180c2000000", "020000000001", "reserved"),
    ("0180c200000f", "020000000001", "reserved"),
    ("020000000002", "010000000001", "source"),
])
def test_frames_that_no_bridge_forwards(lan, to, by, figure):
    a, b = (lan.port(name) for name in "ab")
    a.wait_sent([a.send(frame(bytes.fromhex(to), bytes.fromhex(by)))])
    lan.wait_figure("a", "bridge_dropped_" + figure, 1)
    a.send(frame(bytes.fromhex("0180c2000010"), mac(1)))
    gets(b, frame(bytes.fromhex("0180c2000010"), mac(1)))
    assert lan.stations() == {(text_of(mac(1)), 1): "a"}


def test_nothing_goes_back_to_where_it_came_from(lan):
    a, b = (lan.port(name) for name in "ab")
    lan.learn(a, mac(1))
    a.wait_sent([a.send(frame(mac(1), mac(3)))])
    lan.wait_figure("a", "bridge_dropped_same_port", 2)
    assert a.quiet(seconds=QUIET) and b.quiet(seconds=QUIET)


def test_a_port_alone_drops_what_it_has(lan):
    a = lan.port("a")
    a.wait_sent([a.send(frame(mac(2), mac(1)))])
    lan.wait_figure("a", "bridge_dropped_nobody", 1)
    lan.add("b")                        # there, and without a guest
    a.wait_sent([a.send(frame(mac(2), mac(1)))])
    lan.wait_figure("a", "bridge_dropped_nobody", 2)


def test_a_station_moves(lan):
    a, b, c = (lan.port(name) for name in "abc")
    lan.learn(b, mac(2))
    a.send(frame(mac(2), mac(1), 1))
    gets(b, frame(mac(2), mac(1), 1))
    c.send(frame(BROADCAST, mac(2)))
    gets(a, frame(BROADCAST, mac(2)))
    gets(b, frame(BROADCAST, mac(2)))
    a.send(frame(mac(2), mac(1), 2))
    gets(c, frame(mac(2), mac(1), 2))
    assert b.quiet(seconds=QUIET)
    lan.wait_figure("c", "bridge_stations_moved", 1)


def test_a_station_ages(lan):
    a, b, c = (lan.port(name, ageing=1) for name in "abc")
    lan.learn(b, mac(2))
    wait_until(lambda: not lan.stations())
    a.send(frame(mac(2), mac(1)))
    gets(b, frame(mac(2), mac(1)))
    gets(c, frame(mac(2), mac(1)))


def test_a_guest_that_leaves_is_forgotten_and_its_address_known_at_once(lan):
    a = lan.port("a")
    b = lan.port("b", mac=text_of(mac(2)))
    c = lan.port("c")
    assert lan.stations() == {(text_of(mac(2)), 1): "b"}
    a.send(frame(mac(2), mac(1)))
    gets(b, frame(mac(2), mac(1)))
    assert c.quiet(seconds=QUIET)
    # Nobody else is heard with this address while its guest is there.
    c.wait_sent([c.send(frame(mac(1), mac(2)))])
    lan.wait_figure("c", "bridge_dropped_foreign", 1)
    assert a.quiet(seconds=QUIET)
    lan.sessions.pop("b").close()
    wait_until(lambda: (text_of(mac(2)), 1) not in lan.stations())
    c.send(frame(mac(1), mac(2)))
    gets(a, frame(mac(1), mac(2)))
    assert lan.stations()[text_of(mac(2)), 1] == "c"


def test_a_station_stays_at_a_port_of_priority(lan):
    """A guest that is a gateway, say, whose address another one would have; of the same priority they take turns."""
    gateway = lan.port("g", learn_priority="high")
    a, b, other = lan.port("a"), lan.port("b", mac=text_of(mac(2))), lan.port("o", learn_priority="high")
    lan.learn(gateway, mac(9))
    b.send(frame(mac(9), mac(2), 1))
    gets(gateway, frame(mac(9), mac(2), 1))
    a.wait_sent([a.send(frame(mac(2), mac(9)))])
    lan.wait_figure("a", "bridge_dropped_foreign", 1)
    b.send(frame(mac(9), mac(2), 2))
    gets(gateway, frame(mac(9), mac(2), 2))
    assert a.quiet(seconds=QUIET) and b.quiet(seconds=QUIET)
    other.send(frame(mac(2), mac(9)))
    gets(b, frame(mac(2), mac(9)))
    assert lan.stations()[text_of(mac(9)), 1] == "o"


def test_a_port_learns_as_many_stations_as_it_may(lan):
    a, b, c = lan.port("a", learn_limit=3), lan.port("b"), lan.port("c")
    for number in range(10, 16):
        a.send(frame(mac(1), mac(number)))
        gets(b, frame(mac(1), mac(number)))
        gets(c, frame(mac(1), mac(number)))
    assert sorted(lan.stations().values()) == ["a"] * 3
    lan.wait_figure("a", "bridge_not_learned_limit", 3)
    b.send(frame(mac(10), mac(2)))
    gets(a, frame(mac(10), mac(2)))
    assert c.quiet(seconds=QUIET)


# VLANs


def test_access_ports_meet_within_their_vlan(lan):
    a, b, c = lan.port("a", vlan=10), lan.port("b", vlan=10), lan.port("c", vlan=20)
    a.send(frame(BROADCAST, mac(1)))
    gets(b, frame(BROADCAST, mac(1)))
    assert c.quiet(seconds=QUIET)
    for tag in (10, 20, 4095):
        a.wait_sent([a.send(frame(BROADCAST, mac(1), vlan=tag))])
    lan.wait_figure("a", "bridge_dropped_vlan", 3)
    assert b.quiet(seconds=QUIET) and c.quiet(seconds=QUIET)


def test_a_trunk_carries_tags(lan):
    trunk = lan.port("t", trunk="10+20-21")
    a, b = lan.port("a", vlan=10), lan.port("b", vlan=20)
    a.send(frame(BROADCAST, mac(1), 5, 60))
    gets(trunk, frame(BROADCAST, mac(1), 5, 60, vlan=10))
    trunk.send(frame(mac(1), mac(9), 6, vlan=10))
    gets(a, frame(mac(1), mac(9), 6))
    trunk.send(frame(BROADCAST, mac(9), 7, vlan=20))
    gets(b, frame(BROADCAST, mac(9), 7))
    for tag in (None, 0, 11, 22):       # it has no VLAN for what comes without a tag
        trunk.wait_sent([trunk.send(frame(BROADCAST, mac(9), vlan=tag))])
    lan.wait_figure("t", "bridge_dropped_vlan", 4)
    assert a.quiet(seconds=QUIET) and b.quiet(seconds=QUIET)
    assert lan.stations() == {(text_of(mac(1)), 10): "a", (text_of(mac(9)), 10): "t",
                              (text_of(mac(9)), 20): "t"}


def test_two_trunks_keep_the_tag_and_the_native_vlan_has_none(lan):
    one = lan.port("a", trunk="10+20", vlan=5)
    two = lan.port("b", trunk="all", vlan=6)
    one.send(frame(BROADCAST, mac(1), vlan=20))
    gets(two, frame(BROADCAST, mac(1), vlan=20))
    one.send(frame(BROADCAST, mac(1)))
    gets(two, frame(BROADCAST, mac(1), vlan=5))
    two.send(frame(BROADCAST, mac(2), vlan=5))
    gets(one, frame(BROADCAST, mac(2)))
    # A tag with a priority only is none.
    one.send(frame(BROADCAST, mac(1), vlan=3 << 13))
    gets(two, frame(BROADCAST, mac(1), vlan=5))
    two.wait_sent([two.send(frame(BROADCAST, mac(2), vlan=7))])
    lan.wait_figure("b", "bridge_dropped_nobody", 1)


def test_no_tag_comes_to_light_below_another(lan):
    """It would choose a VLAN that its sender is not in."""
    a = lan.port("a", trunk="10", vlan=5)
    b = lan.port("b", vlan=10)
    below = struct.pack("!HH", 0x8100, 20)
    for outer in (0, 10):
        whole = frame(BROADCAST, mac(1), vlan=outer)
        a.wait_sent([a.send(whole[:16] + below + whole[16:])])
    lan.wait_figure("a", "bridge_dropped_vlan", 2)
    assert b.quiet(seconds=QUIET)


def test_offloads_find_their_headers_behind_a_tag(lan):
    """One that is put on or taken off moves what is still to be summed up."""
    trunk = lan.port("t", trunk="10", session={"features": (NF.CSUM, NF.GUEST_CSUM)})
    a = lan.port("a", vlan=10, session={"features": (NF.CSUM, NF.GUEST_CSUM)})
    made = packets.segment(4, packets.TCP, b"y" * 300)
    tag = struct.pack("!HH", 0x8100, 10)
    a.send(made.frame, header=made.header)
    packet = gets(trunk, made.frame[:12] + tag + made.frame[12:])
    assert (packet.header.csum_start, packet.header.csum_offset) == (38, 16)
    answer = packets.swapped(made.frame)
    trunk.send(answer[:12] + tag + answer[12:], header=made.header._replace(csum_start=38))
    packet = gets(a, answer)
    assert (packet.header.csum_start, packet.header.csum_offset) == (34, 16)


# groups, limits, sizes


def test_ports_of_a_group_reach_others_only(lan):
    a, b = lan.port("a", isolation=7), lan.port("b", isolation=7)
    c, d = lan.port("c", isolation=8), lan.port("d")
    a.send(frame(BROADCAST, mac(1)))
    gets(c, frame(BROADCAST, mac(1)))
    gets(d, frame(BROADCAST, mac(1)))
    lan.learn(b, mac(2))
    a.wait_sent([a.send(frame(mac(2), mac(1)))])
    lan.wait_figure("a", "bridge_dropped_isolated", 1)
    assert b.quiet(seconds=QUIET)
    d.send(frame(mac(2), mac(4)))
    gets(b, frame(mac(2), mac(4)))


@pytest.mark.parametrize("to, key", [(mac(9), "flood_limit"), (BROADCAST, "broadcast_limit")],
                         ids=["unknown", "broadcast"])
def test_flooding_is_limited_and_nothing_else(lan, to, key):
    """A limit of one a second lets a burst of 64 through."""
    a = lan.port("a", session={"size": 256}, **{key: 1})
    b = lan.port("b", session={"size": 256, "buffers": 200})
    lan.learn(b, mac(2))
    before = lan.figures("b")["to_guest_packets"]
    a.wait_sent(a.submit([a.prepare(frame(to, mac(1), seed)) for seed in range(120)]))
    figures = lan.wait_all_seen("a", 120)
    passed = figures["bridge_flooded_packets"]
    assert 64 <= passed <= 70
    assert figures["bridge_dropped_" + key] == 120 - passed
    for seed in range(passed):
        gets(b, frame(to, mac(1), seed))
    for seed in range(100):
        a.send(frame(mac(2), mac(1), seed))
        gets(b, frame(mac(2), mac(1), seed))
    lan.wait_figure("b", "to_guest_packets", before + passed + 100)


@pytest.mark.parametrize("to, key", [(mac(9), "flood_limit"), (BROADCAST, "broadcast_limit")],
                         ids=["unknown", "broadcast"])
def test_what_is_to_be_cut_counts_as_its_segments(lan, to, key):
    """A limit of one a second lets 64 through at once, and no packet of more."""
    a = lan.port("a", session={"size": 256, "features": (NF.CSUM, NF.HOST_TSO4)}, **{key: 1})
    b = lan.port("b", session={"size": 256, "buffers": 200})
    lan.learn(b, mac(2))

    def send(*counts):
        for count in counts:
            made = packets.segment(4, packets.TCP, b"z" * 100 * count, gso_size=100)
            a.wait_sent([a.send(to + mac(1) + made.frame[12:], header=made.header)])

    before = lan.figures("b")["to_guest_packets"]
    send(66, 40, 40)
    figures = lan.wait_all_seen("a", 3)
    assert figures["bridge_flooded_packets"] == 1
    assert figures["bridge_dropped_" + key] == 2
    lan.wait_figure("b", "to_guest_packets", before + 40)
    for _ in range(40):
        assert len(b.receive().frame) == 54 + 100


@pytest.mark.parametrize("to, key", [(mac(9), "flood_limit"), (BROADCAST, "broadcast_limit")],
                         ids=["unknown", "broadcast"])
def test_a_long_frame_counts_as_those_that_its_bytes_fill(lan, to, key):
    """Of 64 that pass at once it takes 40; 24 are left, one of which has two tags."""
    a = lan.port("a", session={"size": 256}, trunk="10", vlan=1, **{key: 1})
    b = lan.port("b", session={"size": 256, "buffers": 200}, trunk="10", vlan=1)
    lan.learn(b, mac(2))
    last = behind_tags(frame(to, mac(1), 4, 1514), "8100000a8100000b")
    for whole in (frame(to, mac(1), 1, 60000), frame(to, mac(1), 2, 60000), frame(to, mac(1), 3, 23 * 1522), last):
        a.wait_sent([a.send(whole)])
    figures = lan.wait_all_seen("a", 4)
    assert (figures["bridge_flooded_packets"], figures["bridge_dropped_" + key]) == (3, 1)
    gets(b, frame(to, mac(1), 1, 60000))
    gets(b, frame(to, mac(1), 3, 23 * 1522))
    gets(b, last)


@pytest.mark.parametrize("to, key", [(mac(9), "flood_limit"), (BROADCAST, "broadcast_limit")],
                         ids=["unknown", "broadcast"])
def test_pairs_share_a_limit_and_one_flow_may_have_all_of_it(lan, to, key):
    """At once pass 64, whichever pairs they come by; and of 4000 a second the 400 of a tenth."""
    def send(port, pairs, count):
        for pair in pairs:
            port.wait_sent(port.submit([port.prepare(frame(to, mac(1))) for _ in range(count)], pair), pair)

    pairs = {"pairs": 4, "size": 256}
    several, one = (lan.port(name, queues=4, session=pairs, **{key: limit}) for name, limit in (("a", 1), ("b", 4000)))
    lan.port("c")
    send(several, range(4), 40)
    figures = lan.wait_all_seen("a", 160)
    assert 64 <= figures["bridge_flooded_packets"] <= 70
    send(one, [0, 0], 200)
    figures = lan.wait_all_seen("b", 400)
    assert (figures["bridge_flooded_packets"], figures["bridge_dropped_" + key]) == (400, 0)


def behind_tags(whole, tags):
    return whole[:12] + bytes.fromhex(tags) + whole[12:]


def test_tags_are_beside_the_mtu(lan):
    """Two at most, those of 802.1ad too, which the bridge does not look at otherwise."""
    a = lan.port("a", mtu=9000, trunk="10", vlan=1)
    b = lan.port("b", mtu=1500, trunk="10", vlan=1)
    lan.learn(b, mac(2))
    lan.learn(b, mac(2), vlan=10)
    tags = ("8100000a", "88a80007", "8100000a8100000b", "88a8000788a80008", "88a800078100000b")
    for seed, each in enumerate(tags):
        for size in (1515, 1514):
            a.wait_sent([a.send(behind_tags(frame(mac(2), mac(1), seed, size), each))])
        gets(b, behind_tags(frame(mac(2), mac(1), seed, 1514), each))
    lan.wait_figure("a", "bridge_dropped_mtu", len(tags))
    three = frame(mac(2), mac(1), 6, 1514)
    a.wait_sent([a.send(behind_tags(three, 3 * "88a80007"))])
    lan.wait_figure("a", "bridge_dropped_mtu", len(tags) + 1)
    # What passes for its tags does not let the next one pass.
    first, second = behind_tags(frame(mac(2), mac(1), 7, 1514), "88a800078100000b"), frame(mac(2), mac(1), 8, 1520)
    a.wait_sent(a.submit([a.prepare(each) for each in (first, second)]))
    gets(b, first)
    lan.wait_figure("a", "bridge_dropped_mtu", len(tags) + 2)


def test_a_port_with_a_smaller_mtu_gets_no_more_than_that(lan):
    a = lan.port("a", mtu=9000)
    b = lan.port("b", mtu=1500)
    for size in (1514, 1515, 9014):
        a.wait_sent([a.send(frame(mac(2), mac(1), 1, size))])
    gets(b, frame(mac(2), mac(1), 1, 1514))
    # Nobody is there whom the others could go to.
    lan.wait_figure("a", "bridge_dropped_nobody", 2)
    lan.learn(b, mac(2))
    a.wait_sent([a.send(frame(mac(2), mac(1), 1, 1515))])
    lan.wait_figure("a", "bridge_dropped_mtu", 1)
    b.send(frame(mac(1), mac(2), 1, 1514))
    gets(a, frame(mac(1), mac(2), 1, 1514))


def test_what_need_not_be_cut_is_as_long_as_it_is(lan):
    """Segments of more than the receiver's MTU are asked for of a frame that has less in all."""
    whole = {"features": (NF.CSUM, NF.HOST_TSO4, NF.GUEST_CSUM, NF.GUEST_TSO4)}
    a = lan.port("a", session=whole, mtu=9000)
    b = lan.port("b", session=whole, mtu=1500, mac=text_of(packets.THERE))
    for size, passes in ((1460, True), (1461, False)):
        made = packets.segment(4, packets.TCP, b"z" * size, gso_size=8000)
        a.wait_sent([a.send(made.frame, header=made.header)])
        if passes:
            assert b.receive().frame[54:] == made.frame[54:]
    lan.wait_figure("a", "bridge_dropped_mtu", 1)


@pytest.mark.parametrize("lan", ["librte_vhost"], indirect=True)
@pytest.mark.parametrize("packed", [False, True], ids=["split", "packed"])
def test_a_frame_that_is_too_long_takes_no_time_behind_a_viommu(lan, packed):
    """The library has all translations, and does not tell why it takes nothing: others are not held up. What tells
    is a frame that was sent before it, for a guest of the same worker whose translations are not told: that one waits
    as long as a frame may."""
    guest = {"features": (F.ACCESS_PLATFORM,), "mergeable": False, "packed": packed}
    untold = lan.port("u", guest, iommu="on", mac=text_of(mac(3)))
    victim = lan.port("a", guest, iommu="on", mac=text_of(mac(1)))
    worker = lan.control.call("lcore_list")[0]["lcore"]
    for name in "ua":
        assert lan.control.call("queue_move", name="%s-%s" % (lan.name, name), queue=0, lcore=worker) is True
    lan.control.settle()
    for region in victim.mem.regions:
        for iova in (region.gpa, region.uva):       # of buffers, and of rings
            victim.tell(Req.IOTLB_MSG, p.IOTLB.pack(iova, region.size, region.uva, 3, 2))
    sender = lan.port("b")
    waits_yet = []
    for seed in range(5):
        waits, long, short = frame(mac(3), mac(2), seed), frame(mac(1), mac(2), seed, 3000), frame(mac(1), mac(2), seed)
        sender.submit([sender.prepare(each) for each in (waits, long, short)])
        gets(victim, short)
        waits_yet.append(lan.figures_now("u")["dropped_ring_full"] == seed)
        lan.wait_figure("u", "dropped_ring_full", seed + 1)
        sender.reap()
    # Once is enough: a test that is held up for as long as a frame waits sees nothing of it.
    assert any(waits_yet)
    assert lan.figures("a")["dropped_ring_full"] == 5
    assert untold.quiet(seconds=0)


def test_rows_of_frames_between_two_stations(lan):
    """What is found for the first of a row that comes in one burst holds for the others, but for what is a
    frame's own."""
    a = lan.port("a", mtu=9000)
    b = lan.port("b", mtu=1500)
    lan.learn(b, mac(2))

    def row(seed, size=100, vlan=None):
        return frame(mac(2), mac(1), seed, size, vlan)

    passing = [row(0), row(1), row(2, 1514), row(3, 1514), row(4), frame(mac(2), mac(3), 5), row(6), row(7)]
    sent = [*passing[:3], row(20, 1515), row(21, 9014), *passing[3:4], row(22, vlan=7), *passing[4:6], row(8, vlan=0),
            *passing[6:7], frame(BROADCAST, mac(1), 9), frame(mac(1), mac(1), 23), *passing[7:]]
    a.wait_sent(a.submit([a.prepare(each) for each in sent]))
    got = [b.receive().frame for _ in range(len(sent) - 4)]
    assert b.quiet(seconds=QUIET)
    assert sorted(got) == sorted([*passing, row(8), frame(BROADCAST, mac(1), 9)])
    # One flow keeps its order; what was given back without its tag or to all comes behind.
    assert [each for each in got if each in passing] == passing
    for figure, count in (("mtu", 2), ("vlan", 1), ("same_port", 1)):
        lan.wait_figure("a", "bridge_dropped_" + figure, count)


def test_segments_are_cut_for_who_does_not_take_them_whole(lan):
    whole = {"features": (NF.CSUM, NF.HOST_TSO4, NF.GUEST_CSUM, NF.GUEST_TSO4)}
    a = lan.port("a", session=whole)
    b = lan.port("b", session=whole, mac=text_of(packets.THERE))
    made = packets.segment(4, packets.TCP, b"z" * 4000, gso_size=1000)
    a.send(made.frame, header=made.header)
    packet = b.receive()
    assert packet.frame[54:] == made.frame[54:]
    assert packet.header.gso_size == 1000 and packet.header.flags & net.NEEDS_CSUM
    lan.sessions.pop("b").close()
    b = lan.open("b")
    a.send(made.frame, header=made.header)
    for _ in range(4):
        packet = b.receive()
        assert packets.sums_up(packet.frame, 4, packets.TCP)
        assert len(packet.frame) == 54 + 1000


def test_a_burst_of_tiny_segments_is_cut_up_to_a_bound(lan):
    """Each packet becomes as many as it may, all of them too many for one turn: some are dropped, and the
    port goes on."""
    a = lan.port("a", session={"features": (NF.CSUM, NF.HOST_TSO4)})
    room = {"size": 8192, "buffers": 5000, "buffer_bytes": 128}
    b = lan.port("b", session=room, mac=text_of(packets.THERE))
    made = packets.segment(4, packets.TCP, bytes(250), gso_size=1)
    a.wait_sent(a.submit([a.prepare(made.frame, made.header) for _ in range(32)]))
    wait_until(lambda: lan.figures("b")["dropped_offload"] + lan.figures("a")["dropped_offload"] != 0,
               lambda: (lan.figures("a"), lan.figures("b")))
    plain = frame(packets.THERE, mac(2))
    a.send(plain)
    while b.receive(again=False).frame != plain:
        pass


# several pairs


def test_flows_are_spread_over_pairs_and_each_keeps_its_order(lan):
    a = lan.port("a")
    b = lan.port("b", queues=4, session={"pairs": 4}, mac=text_of(packets.THERE))
    flows = [frame(packets.THERE, mac(number), 1, 200) for number in range(10, 42)]
    for turn in range(4):
        for flow in flows:
            a.send(flow[:-1] + bytes((turn,)))
    lan.wait_figure("b", "to_guest_packets", 4 * len(flows))
    seen = {}
    for pair in range(4):
        while True:
            try:
                packet = b.receive(pair, timeout=0)
            except net.NoPacket:
                break
            seen.setdefault(packet.frame[6:12], []).append((pair, packet.frame[-1]))
    assert len(seen) == len(flows)
    for got in seen.values():
        assert [turn for _, turn in got] == [0, 1, 2, 3] and len({pair for pair, _ in got}) == 1
    assert len({got[0][0] for got in seen.values()}) == 4


# a guest that is slow


def test_a_guest_that_takes_nothing_does_not_slow_the_others(lan):
    """Counters tell, not time: of what goes between the two nothing is lost."""
    a, b = lan.port("a"), lan.port("b", mac=text_of(mac(2)))
    full = lan.port("f", session={"buffers": 0}, mac=text_of(mac(3)))
    for seed in range(200):
        burst = [a.prepare(frame(mac(3), mac(1), seed)) for _ in range(8)]
        a.submit([*burst, a.prepare(frame(mac(2), mac(1), seed))])
        gets(b, frame(mac(2), mac(1), seed))
        a.reap()
    lan.wait_figure("a", "from_guest_packets", 1800)
    lan.wait_figure("b", "to_guest_packets", 200)
    assert not any(value for name, value in lan.figures("b").items() if "dropped" in name)
    why = ("dropped_ring_full", "dropped_crossing_full", "dropped_crossing_closed")
    wait_until(lambda: sum(lan.figures("f")[name] for name in why) == 1600, lambda: lan.figures("f"))
    full.post(count=4)
    a.send(frame(mac(3), mac(1), 77))
    gets(full, frame(mac(3), mac(1), 77))


def test_a_port_that_floods_takes_no_more_than_its_share(lan):
    """As fast as it goes, to all and to nobody, with limits: what goes between the two all arrives."""
    a, b = (lan.port(name, session={"size": 256, "buffers": 240}, mac=text_of(mac(number)))
            for name, number in (("a", 1), ("b", 2)))
    flood = lan.port("f", session={"size": 256}, flood_limit=10, broadcast_limit=10)
    sent, arrived, noise = 0, 0, 0
    for turn in range(40):
        flood.submit([flood.prepare(frame(to, mac(3), turn)) for _ in range(32) for to in (BROADCAST, mac(9))])
        sent += 64
        a.send(frame(mac(2), mac(1), turn))
        while arrived <= turn:
            packet = b.receive().frame
            arrived += packet == frame(mac(2), mac(1), arrived)
            noise += packet[6:12] == mac(3)
        flood.wait_sent([flood.send(frame(mac(9), mac(3)))])
        sent += 1
    figures = lan.wait_all_seen("f", sent)
    passed = figures["bridge_flooded_packets"]
    assert 0 < noise <= passed < sent // 4
    assert passed + figures["bridge_dropped_flood_limit"] + figures["bridge_dropped_broadcast_limit"] == sent
    assert not any(value for name, value in lan.figures("b").items() if "dropped" in name)


def test_a_disabled_ring_takes_nothing_and_costs_nothing(lan):
    a = lan.port("a")
    lan.add("b", mac=text_of(mac(2)))
    b = lan.open("b")
    b.set_vring_enable(0, False)
    # Others know it from the ring's next turn on; until then a packet would be lost at b.
    lan.control.settle()
    a.wait_sent([a.send(frame(mac(2), mac(1), 1))])
    lan.wait_figure("a", "bridge_dropped_nobody", 1)
    assert b.quiet(seconds=QUIET)
    b.set_vring_enable(0)
    lan.control.settle()
    a.send(frame(mac(2), mac(1), 2))
    gets(b, frame(mac(2), mac(1), 2))


# sleeping, showing, refusing


def test_a_sleeping_worker_wakes_for_what_comes_from_another(lan):
    """The pauses are longer than a worker waits before it sleeps."""
    a, b = lan.port("a"), lan.port("b", mac=text_of(mac(2)))
    for seed in range(20):
        time.sleep(0.005)
        a.send(frame(mac(2), mac(1), seed))
        gets(b, frame(mac(2), mac(1), seed))


def test_bridges_and_stations_are_shown(lan):
    path = lan.folder / "control.sock"
    a = lan.port("a", vlan=3, trunk="10+20-29", isolation=4, flood_limit=5000, ageing=60, table=256, mtu=1500)
    lan.learn(a, mac(1))
    bridge, = [each for each in lan.control.call("bridge_list") if each["name"] == lan.name]
    assert (bridge["ageing_s"], bridge["max_stations"]) == (60, 256)
    assert bridge["ports"] == [{
        "name": lan.name + "-a", "uplink": False, "vlan": 3, "trunk": "10+20-29", "isolation": 4, "mtu": 1500,
        "stations": 1, "learn_limit": 1024, "learn_priority": "low", "flood_limit": 5000, "broadcast_limit": 0}]
    line, = [each for each in vhubctl(path, "bridges").stdout.splitlines() if each.startswith(lan.name + " ")]
    assert "10+20-29" in line and "flood 5.0 k/s" in line
    said = vhubctl(path, "fdb", lan.name).stdout.splitlines()
    assert said[0].split() == ["VLAN", "STATION", "PORT", "AGE"]
    assert said[1].split()[:3] == ["3", text_of(mac(1)), lan.name + "-a"]
    assert vhubctl(path, "fdb", "none").returncode == 1
    with pytest.raises(Refused) as refused:
        lan.control.call("bridge_fdb", bridge="none")
    assert refused.value.code == -32001


def test_many_stations_are_shown_a_part_at_a_time(lan):
    """However large the table, an answer takes the control thread a short while; vhubctl asks until it has all."""
    a = lan.port("a", session={"size": 256})
    frames = [frame(mac(1), bytes((2, 0, 0, 1, number // 256, number % 256))) for number in range(300)]
    for first in range(0, 300, 6):              # a worker learns up to eight at once
        a.wait_sent(a.submit([a.prepare(each) for each in frames[first:first + 6]]))
    wait_until(lambda: len(lan.stations()) == 300, lambda: len(lan.stations()))
    place, parts = 0, []
    while not parts or place:
        answer = lan.control.call("bridge_fdb", bridge=lan.name, **{"from": place})
        parts.append(len(answer["stations"]))
        place = answer["next"]
    assert sum(parts) == 300 and len(parts) > 2 and max(parts) <= 128
    said = vhubctl(lan.folder / "control.sock", "fdb", lan.name).stdout.splitlines()
    assert len({line.split()[1] for line in said[1:]}) == 300
    assert lan.control.call("bridge_fdb", bridge=lan.name, **{"from": 2**32 - 1}) == {"stations": [], "next": 0}
    with pytest.raises(Refused, match="from=-1"):
        lan.control.call("bridge_fdb", bridge=lan.name, **{"from": -1})


@pytest.mark.parametrize("keys, why", [
    ({"vlan": 4095}, "vlan=4095"), ({"trunk": "10+x"}, "trunk=10.x"), ({"trunk": "20-10"}, "trunk=20-10"),
    ({"ageing": 20}, "ageing=20: bridge .* is there, with ageing=10"),
    ({"table": 128}, "table=128: bridge .* is there, with table=8192"),
    ({"isolation": 65536}, "isolation=65536"), ({"bridge": "x" * 32}, "bridge=x"), ({"patch": "x"}, "patch=x"),
    ({"learn_priority": "none"}, "learn_priority=none"),
])
def test_what_cannot_be_is_refused(lan, keys, why):
    lan.add("a", ageing=10)
    with pytest.raises(Refused, match=why):
        lan.add("b", **keys)


# what a guest asks for by its control queue, and the link


@only_direct
def test_the_address_that_a_guest_gives_itself_is_known_at_its_port(lan):
    features = ctrl.FEATURES + (NF.STATUS,)
    session, other = lan.port("a", {"features": features}), lan.port("b", mac=text_of(mac(9)))
    guest = ctrl.Control(session)
    guest.address(mac(7))
    assert lan.stations()[text_of(mac(7)), 1] == "a"
    # What another port has for good it cannot have; what another guest has is heard there again.
    assert guest.ask(ctrl.MAC, 1, mac(9)) == ctrl.ERR
    assert lan.stations()[text_of(mac(9)), 1] == "b"
    lan.learn(other, mac(7))
    assert lan.stations()[text_of(mac(7)), 1] == "b"


def test_stations_stay_when_a_pair_goes_to_another_worker(lan):
    """Nothing is flooded for them, and nobody else is heard with an address of this guest's for good."""
    a, b, c = lan.port("a", mac=text_of(mac(9))), lan.port("b"), lan.port("c")
    lan.learn(a, mac(1))
    lan.learn(b, mac(2))
    known = lan.stations()
    assert known == {(text_of(mac(1)), 1): "a", (text_of(mac(9)), 1): "a", (text_of(mac(2)), 1): "b"}
    workers = [each["lcore"] for each in lan.control.call("lcore_list")]
    for seed, lcore in enumerate(2 * workers):
        assert lan.control.call("queue_move", name="%s-a" % lan.name, queue=0, lcore=lcore) is True
        lan.control.settle()            # others send it packets again from its first turn there on
        assert lan.stations() == known
        b.send(frame(mac(1), mac(2), seed))
        gets(a, frame(mac(1), mac(2), seed))
        a.send(frame(mac(2), mac(1), seed))
        gets(b, frame(mac(2), mac(1), seed))
    assert c.quiet(seconds=QUIET)
    c.wait_sent([c.send(frame(mac(2), mac(9)))])
    lan.wait_figure("c", "bridge_dropped_foreign", 1)
    # A front end that stops the guest may have moved it to another host.
    a.stop()
    wait_until(lambda: lan.stations() == {(text_of(mac(2)), 1): "b"}, lan.stations)


@only_direct
def test_a_guest_whose_link_is_down_takes_no_address(lan):
    """It gives itself another guest's: that one gets its packets on, and the command is answered as ever."""
    cut = lan.port("a", {"features": ctrl.FEATURES + (NF.STATUS,)}, link="down")
    other, sender = lan.port("b"), lan.port("c", mac=text_of(mac(9)))
    guest = ctrl.Control(cut)
    lan.learn(other, mac(7))
    guest.address(mac(7))
    assert bytes(cut.config("mac")) == mac(7)
    guest.address(mac(6))
    assert guest.ask(ctrl.MAC, 1, mac(9)) == ctrl.ERR
    assert lan.stations() == {(text_of(mac(7)), 1): "b", (text_of(mac(9)), 1): "c"}
    sender.send(frame(mac(7), mac(9)))
    gets(other, frame(mac(7), mac(9)))
    # With the link it is learned again, from what the guest sends and from what it says.
    lan.control.call("port_set_link", name="%s-a" % lan.name, state="up")
    assert lan.stations()[text_of(mac(7)), 1] == "b"
    lan.learn(cut, mac(8))
    assert lan.stations()[text_of(mac(8)), 1] == "a"
    guest.address(mac(7))
    assert lan.stations()[text_of(mac(7)), 1] == "a"


@only_direct
@pytest.mark.parametrize("sleeps", [False, True], ids=["awake", "asleep"])
def test_a_guest_gets_packets_by_the_pairs_that_it_uses(lan, sleeps):
    session = lan.port("a", {"pairs": 4, "features": ctrl.FEATURES}, queues=4)
    other = lan.port("b")
    guest = ctrl.Control(session)
    lan.learn(session, mac(1))
    made = packets.segment(4, packets.UDP, bytes(50)).frame
    frames = [mac(1) + mac(2) + made[12:34] + struct.pack("!H", i) + made[36:] for i in range(1, 33)]

    def come():
        """By which pairs."""
        for frame_ in frames:
            other.send(frame_)
        found = {}
        deadline = time.monotonic() + PATIENCE
        while sum(found.values()) < len(frames):
            for pair in range(4):
                while not session.quiet(pair, 0):
                    found[pair] = found.get(pair, 0) + 1
            assert time.monotonic() < deadline, found
        return set(found)

    for count in (1, 4, 2, 1, 3):
        if sleeps:
            time.sleep(0.03)
        guest.pairs(count)
        assert come() <= set(range(count)) and len(come()) > (count > 1)


def test_segmentation_is_left_to_the_receiver(lan):
    """Whole to a guest that takes it, in pieces to one that does not."""
    kinds = [(4, packets.TCP, None), (6, packets.TCP, None)]
    sends, takes = (NF.CSUM, NF.HOST_TSO4, NF.HOST_TSO6), (NF.GUEST_CSUM, NF.GUEST_TSO4, NF.GUEST_TSO6)
    if lan.datapath == "direct":
        kinds += [(4, packets.UDP, net.GSO_UDP_L4), (6, packets.UDP, net.GSO_UDP_L4)]
        sends, takes = sends + (NF.HOST_USO,), takes + (NF.GUEST_USO4, NF.GUEST_USO6)
    sender = lan.port("a", {"features": sends})
    receivers = {1: lan.port("b", {"features": takes}), 5: lan.port("c")}
    for number, session in enumerate(receivers.values(), 1):
        lan.learn(session, mac(number))
    for version, protocol, gso_type in kinds:
        made = packets.segment(version, protocol, bytes(5000), gso_size=1000)
        header = made.header if gso_type is None else made.header._replace(gso_type=gso_type)
        for number, (count, session) in enumerate(receivers.items(), 1):
            sender.send(mac(number) + mac(9) + made.frame[12:], header=header)
            for _ in range(count):
                packet = session.receive()
                assert (packet.header.gso_type, len(packet.frame)) == (
                    (header.gso_type, len(made.frame)) if count == 1 else (0, len(made.frame) - 4000))
            assert session.quiet(seconds=0.01)


PAIRS_BY_HASH = (0, 3, 2, 1, 1, 2, 3, 0)
UNCLASSIFIED = 2


def flows():
    """(frame, what the hash of all types is made of, what that of addresses alone is made of)"""
    for version in (4, 6):
        for protocol in (packets.TCP, packets.UDP):
            made = packets.segment(version, protocol, bytes(60)).frame
            at = 14 + (12 if version == 4 else 8)
            size = 8 if version == 4 else 32
            for i in range(6):
                ports = struct.pack("!HH", 100 * i + protocol, 80)
                frame_ = mac(1) + mac(2) + made[12:at + size] + ports + made[at + size + 4:]
                yield frame_, made[at:at + size] + ports, made[at:at + size]
                yield (frame_[:12] + b"\x81\x00\x00\x01" + frame_[12:], made[at:at + size] + ports,
                       made[at:at + size])
    yield frame(mac(1), mac(2)), None, None
    for part in (0x2000, 0x0001):       # fragments have no ports
        made = packets.segment(4, packets.UDP, bytes(60)).frame
        yield mac(1) + mac(2) + made[12:20] + struct.pack("!H", part) + made[22:], made[26:34], made[26:34]


@only_direct
@pytest.mark.parametrize("driver", ["bridge", "patch"])
def test_receive_side_scaling(lan, driver):
    keys = {"driver": driver, **({"trunk": "all", "vlan": 2} if driver == "bridge" else {})}
    session = lan.port("a", {"pairs": 4, "features": ctrl.FEATURES + (NF.RSS,), "size": 256, "buffers": 64},
                       queues=4, **keys)
    other = lan.port("b", {"size": 256}, **keys)
    guest = ctrl.Control(session)
    whole = session.get_config(0, 24)
    assert whole[17:] == struct.pack("<BHI", ctrl.NET_KEY_BYTES, 128, ctrl.ALL_TYPES)
    if driver == "bridge":
        lan.learn(session, mac(1))
        lan.learn(session, mac(1), vlan=1)

    def pairs_of(frames):
        """By which pair each comes."""
        found = []
        for each in frames:
            other.wait_sent([other.send(each)])
            came = wait_until(lambda: [pair for pair in range(4) if not session.quiet(pair, 0)])
            found.append(came[0])
        return found

    def expected(hashed):
        return UNCLASSIFIED if hashed is None else PAIRS_BY_HASH[ctrl.toeplitz(hashed) % len(PAIRS_BY_HASH)]

    all_flows = list(flows())
    frames = [each[0] for each in all_flows]
    assert set(pairs_of(frames)) == {0}
    guest.do(ctrl.MQ, 1, ctrl.rss(PAIRS_BY_HASH, UNCLASSIFIED))
    all_pairs_open(session, 4, other)
    assert pairs_of(frames) == [expected(each[1]) for each in all_flows]
    guest.do(ctrl.MQ, 1, ctrl.rss(PAIRS_BY_HASH, UNCLASSIFIED, ctrl.IPV4 | ctrl.IPV6))
    assert pairs_of(frames) == [expected(each[2]) for each in all_flows]
    guest.do(ctrl.MQ, 1, ctrl.rss(PAIRS_BY_HASH, UNCLASSIFIED, 0))
    assert set(pairs_of(frames)) == {UNCLASSIFIED}
    guest.do(ctrl.MQ, 1, ctrl.rss([3], 3, senders=4, key=b""))
    assert set(pairs_of(frames)) == {3}
    for wrong in (ctrl.rss([4]), ctrl.rss([0], 4), ctrl.rss([0, 1, 2]), ctrl.rss([0] * 256), ctrl.rss([0], types=0x40),
                  ctrl.rss([0], senders=0), ctrl.rss([0], senders=5), ctrl.rss([0], key=bytes(41)), ctrl.rss([0])[:-1],
                  ctrl.rss([0]) + b"\0", ctrl.rss([0], mask=127), ctrl.rss([0], mask=0xffff), b""):
        assert guest.ask(ctrl.MQ, 1, wrong) == ctrl.ERR
    assert pairs_of(frames[:2]) == [3, 3]
    guest.pairs(1)
    assert set(pairs_of(frames[:8])) == {0}


def test_a_link_that_is_taken_down_lets_nothing_pass(lan):
    first, second = lan.port("a", {"features": (NF.STATUS,)}), lan.port("b")
    channel = BackendChannel()
    first.tell(Req.SET_BACKEND_REQ_FD, b"", [channel.remote_fd])
    channel.handed_over()
    whole = "%s-a" % lan.name
    lan.learn(first, mac(1))
    lan.learn(second, mac(2))

    ways = [(first, second, mac(2), mac(1)), (second, first, mac(1), mac(2))]
    seeds = itertools.count()

    def passes():
        for sender, receiver, to, by in ways:
            newest_arrives(sender, receiver, (frame(to, by, seed) for seed in seeds))

    def is_cut():
        for sender, receiver, to, by in ways:
            sender.wait_sent([sender.send(frame(to, by, next(seeds)))])
            assert receiver.quiet(seconds=QUIET)

    passes()
    for turn, state in enumerate(("down", "up", "down", "up")):
        if turn % 2:
            time.sleep(0.03)            # the workers sleep
        if turn < 2:
            assert lan.control.call("port_set_link", name=whole, state=state) is True
        else:
            assert "is " + state in vhubctl(lan.folder / "control.sock", "link", whole, state).stdout
        assert channel.recv().request == 2
        assert first.config("status") == (net.LINK_UP if state == "up" else 0)
        if state == "up":
            passes()
        else:
            is_cut()
        saved = lan.control.call("config_save")["text"]
        assert "link=" + state in saved or "link = " + state in saved
    assert lan.figures("a")["dropped_link_down"] >= 2
    for name, state, code in ((whole, "sideways", -32602), ("nobody", "up", -32001)):
        with pytest.raises(Refused) as caught:
            lan.control.call("port_set_link", name=name, state=state)
        assert caught.value.code == code
    channel.close()


@pytest.mark.parametrize("begins", ["up", "down"])
def test_a_port_whose_link_is_down_leaves_its_address_to_another(lan, begins):
    """A guest that is cut off, or on standby, and the one that has taken over from it."""
    cut, active, other = lan.port("a", mac=text_of(mac(9)), link=begins), lan.port("b"), lan.port("c")
    whole = "%s-a" % lan.name
    if begins == "up":
        lan.learn(cut, mac(1))
        lan.control.call("port_set_link", name=whole, state="down")
    assert lan.stations() == {}
    active.send(frame(mac(3), mac(9)))
    gets(other, frame(mac(3), mac(9)))
    other.send(frame(mac(9), mac(3)))
    gets(active, frame(mac(9), mac(3)))
    assert lan.stations() == {(text_of(mac(9)), 1): "b", (text_of(mac(3)), 1): "c"}
    assert lan.figures("b")["bridge_dropped_foreign"] == 0
    # With its link it is the guest's address again, and nobody else's.
    lan.control.call("port_set_link", name=whole, state="up")
    assert lan.stations()[text_of(mac(9)), 1] == "a"
    newest_arrives(other, cut, (frame(mac(9), mac(3), seed) for seed in itertools.count()))
    active.wait_sent([active.send(frame(mac(3), mac(9)))])
    lan.wait_figure("b", "bridge_dropped_foreign", 1)
    # Without its guest it is nobody's, whatever the link.
    lan.sessions.pop("a").close()
    wait_until(lambda: (text_of(mac(9)), 1) not in lan.stations(), lan.stations)
    for state in ("down", "up"):
        lan.control.call("port_set_link", name=whole, state=state)
    assert (text_of(mac(9)), 1) not in lan.stations()
    lan.open("a")
    assert lan.stations()[text_of(mac(9)), 1] == "a"


def test_a_port_may_begin_with_its_link_down(lan):
    session = lan.port("a", {"features": (NF.STATUS,)}, link="down")
    assert session.config("status") == 0
    lan.control.call("port_set_link", name="%s-a" % lan.name, state="up")
    assert session.config("status") == net.LINK_UP


@only_direct
def test_rarp_goes_out_of_the_port(lan):
    first, second = lan.port("a"), lan.port("b")
    assert first.ack(Req.SEND_RARP, bytes(mac(1)) + bytes(2)) == 0
    got = second.receive().frame
    assert got[:14] == BROADCAST + mac(1) + b"\x80\x35"
    assert lan.stations()[text_of(mac(1)), 1] == "a"
    assert lan.figures("a")["rarp_sent"] == 1
