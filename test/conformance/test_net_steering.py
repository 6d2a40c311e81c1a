# SPDX-License-Identifier: BSD-3-Clause
"""Receive steering by flow: what comes for a guest with several pairs comes by the pair by which it has last sent of
that flow; at a bridge and a patch, on one worker and on two, on both data paths."""

import struct
import time

import pytest

from lan import QUIET, all_pairs_open, control, daemon, frame, lan, mac, only_direct   # noqa: F401
from vhostuser import PATIENCE, NF, ctrl, packets

PAIRS = 4
joined = pytest.mark.parametrize("driver", ["bridge", "patch"])


def ip_frame(flow, back=False, version=4, protocol=packets.UDP, vlan=None):
    """A datagram of a flow, from the guest with one pair to the one with several, or back."""
    ends = [(1, 5000 + flow), (2, 53)]
    (one, port), (other, to) = ends[::-1] if back else ends
    if protocol == packets.UDP:
        data = struct.pack("!HHHH", port, to, 28, 0) + bytes(20)
    else:
        data = struct.pack("!HHIIBBHHH", port, to, 1, 1, 5 << 4, 16, 9, 0, 0) + bytes(20)
    if version == 4:
        ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(data), 1, 0, 64, protocol, 0, bytes((10, 0, 0, one)),
                         bytes((10, 0, 0, other)))
    else:
        ip = (struct.pack("!IHBB", 6 << 28, len(data), protocol, 64) + bytes(15) + bytes((one,))
              + bytes(15) + bytes((other,)))
    tag = b"" if vlan is None else struct.pack("!HH", 0x8100, vlan)
    return mac(other) + mac(one) + tag + struct.pack("!H", packets.ETHERTYPE[version]) + ip + data


def pair_of(session, expected, seconds=PATIENCE):
    """By which pair this frame comes; it comes by no other."""
    deadline = time.monotonic() + seconds
    while True:
        for pair in range(PAIRS):
            if not session.received.setdefault(pair, []):
                session.received[pair].extend(session.receiving(pair).ring.used())
            if session.received[pair]:
                assert session.receive(pair).frame == expected
                return pair
        assert time.monotonic() < deadline


@pytest.fixture
def ends(lan):
    """ends(driver) -> a guest with one pair and one with several, which know each other."""
    def make(driver, features=(), **keys):
        single = lan.port("a", driver=driver)
        several = lan.port("b", {"pairs": PAIRS, "size": 64, "features": features}, driver=driver, queues=PAIRS, **keys)
        if driver == "bridge":
            lan.learn(single, mac(1))
            lan.learn(several, mac(2))
        return single, several

    return make


@joined
def test_what_comes_for_a_flow_comes_by_the_pair_that_sends_it(ends, driver):
    single, several = ends(driver)
    shapes = [{"version": version, "protocol": protocol}
              for version in (4, 6) for protocol in (packets.UDP, packets.TCP)]
    for turn in range(2):
        for flow in range(16):
            shape, pair = shapes[flow % 4], (flow // 4 + turn) % PAIRS
            several.send(ip_frame(flow, back=True, **shape), pair)
            assert single.receive().frame == ip_frame(flow, back=True, **shape)
        # All are remembered beside each other.
        for flow in range(16):
            shape, pair = shapes[flow % 4], (flow // 4 + turn) % PAIRS
            single.send(ip_frame(flow, **shape))
            assert pair_of(several, ip_frame(flow, **shape)) == pair
    # Without IP the stations are the flow.
    several.send(frame(mac(1), mac(2)), 3)
    assert single.receive().frame == frame(mac(1), mac(2))
    single.send(frame(mac(2), mac(1)))
    assert pair_of(several, frame(mac(2), mac(1))) == 3


@joined
def test_a_flow_that_is_not_known_stays_on_one_pair(ends, driver):
    single, several = ends(driver)
    for flow in range(8):
        found = set()
        for _ in range(3):
            single.send(ip_frame(flow))
            found.add(pair_of(several, ip_frame(flow)))
        assert len(found) == 1


def test_a_pair_that_takes_no_packets_is_passed_over(lan, ends):
    single, several = ends("bridge")
    several.send(ip_frame(1, back=True), 2)
    single.receive()
    several.get_vring_base(4)
    # librte_vhost's other rings pause for that, and take packets again from their next turn on.
    lan.control.settle()
    single.send(ip_frame(1))
    assert pair_of(several, ip_frame(1)) != 2


@only_direct
def test_a_guest_that_asks_for_scaling_gets_that(lan, ends):
    single, several = ends("bridge", features=ctrl.FEATURES + (NF.RSS,))
    guest = ctrl.Control(several)
    guest.pairs(PAIRS)
    all_pairs_open(several, PAIRS, single)
    several.send(ip_frame(1, back=True), 2)
    single.receive()
    single.send(ip_frame(1))
    assert pair_of(several, ip_frame(1)) == 2
    guest.do(ctrl.MQ, 1, ctrl.rss([1] * 4, 1))
    single.send(ip_frame(1))
    assert pair_of(several, ip_frame(1)) == 1
    guest.pairs(PAIRS)
    single.send(ip_frame(1))
    assert pair_of(several, ip_frame(1)) == 2


def test_a_tag_on_the_way_makes_no_other_flow(lan):
    """One end is in the VLAN without knowing it."""
    single = lan.port("a", trunk="10")
    several = lan.port("b", {"pairs": PAIRS, "size": 64}, queues=PAIRS, vlan=10)
    lan.learn(single, mac(1), vlan=10)
    lan.learn(several, mac(2))
    for pair in (3, 1):
        several.send(ip_frame(1, back=True), pair)
        assert single.receive().frame == ip_frame(1, back=True, vlan=10)
        single.send(ip_frame(1, vlan=10))
        assert pair_of(several, ip_frame(1)) == pair


def test_another_guest_begins_without_flows(lan, ends):
    single, several = ends("bridge")
    wanted = {}
    for flow in range(8):
        single.send(ip_frame(flow))
        wanted[flow] = pair_of(several, ip_frame(flow))
        several.send(ip_frame(flow, back=True), (wanted[flow] + 1) % PAIRS)
        assert single.receive().frame == ip_frame(flow, back=True)
    lan.sessions.pop("b").close()
    several = lan.open("b", pairs=PAIRS, size=64)
    lan.learn(several, mac(2))
    for flow in range(8):
        single.send(ip_frame(flow))
        assert pair_of(several, ip_frame(flow)) == wanted[flow]
    assert several.quiet(0, QUIET)
