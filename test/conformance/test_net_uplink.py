# SPDX-License-Identifier: BSD-3-Clause
"""Uplinks of a bridge: what crosses from guests to a wire and back, and what does not. Learning, VLANs, isolation,
what guests leave to be done, limits and mirrors; uplinks that come and go while guests talk.

The wire is an interface that net_tap makes, at whose far end the test sits with a packet socket, in a network
of its own. Needs root."""

import re
import socket
import struct
import subprocess
import threading
import time

import pytest

from control import Refused, vhubctl
from lan import DATAPATHS, QUIET, Lan, control, frame, mac, serving, text_of   # noqa: F401
from netns import own_network
from vhostuser import PATIENCE, NF, packets, wait_until

BROADCAST = b"\xff" * 6
ETH_P_ALL = 3
SOL_PACKET, PACKET_AUXDATA = 263, 8
AUXDATA = struct.Struct("IIIHHHH")
VLAN_VALID, TPID_VALID = 0x10, 0x40


@pytest.fixture(scope="module", params=[1, 2], ids=["one-worker", "two-workers"])
def daemon(request):
    with own_network(), serving(request.param, memory_mb=192) as made:
        yield made


@pytest.fixture
def lan(daemon, control):
    made = Lan(daemon[0], daemon[1], control, "direct")
    yield made
    made.close()
    daemon[0].check_log()
    assert made.name not in {each["name"] for each in control.call("bridge_list")}


class Wire:
    """The far end: sends frames to the uplink, and gets what it has sent, tags and all."""

    def __init__(self, interface):
        self.sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        self.sock.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
        self.sock.bind((interface, ETH_P_ALL))

    def send(self, data):
        self.sock.send(data)

    def receive(self, timeout=PATIENCE):
        """The next frame; None if there is none in time."""
        deadline = time.monotonic() + timeout
        while True:
            self.sock.settimeout(max(0.001, deadline - time.monotonic()))
            try:
                data, extra, _, address = self.sock.recvmsg(65536, 1024)
            except TimeoutError:
                return None
            if address[2] == socket.PACKET_OUTGOING:
                continue
            status, _, _, _, _, tci, tpid = AUXDATA.unpack_from(extra[0][2])
            if status & VLAN_VALID:
                kind = tpid if status & TPID_VALID else 0x8100
                data = data[:12] + struct.pack("!HH", kind, tci) + data[12:]
            return data

    def gets(self, expected):
        assert self.receive() == expected

    def quiet(self):
        return self.receive(QUIET) is None


@pytest.fixture
def wire(lan):
    """wire("up", ...) adds an uplink and gives the far end of its wire."""
    made = []

    def make(name="up", device="net_tap0", **keys):
        interface = "%s-%s" % (lan.name, name)
        lan.uplink(name, port="[%s,iface=%s]" % (device, interface), **keys)
        subprocess.run(["ip", "link", "set", interface, "up"], check=True, timeout=10)
        made.append(Wire(interface))
        return made[-1]

    yield make
    for each in made:
        each.sock.close()


def gets(session, expected, pair=0):
    assert session.receive(pair).frame == expected


# learning and flooding


def test_guests_and_a_wire_find_each_other(lan, wire):
    a, b = (lan.port(name, datapath=path) for name, path in zip("ab", DATAPATHS))
    up = wire()
    up.send(frame(BROADCAST, mac(9)))
    gets(a, frame(BROADCAST, mac(9)))
    gets(b, frame(BROADCAST, mac(9)))
    # To a station on the wire, that is known now; and to all.
    a.send(frame(mac(9), mac(1)))
    up.gets(frame(mac(9), mac(1)))
    b.send(frame(BROADCAST, mac(2)))
    gets(a, frame(BROADCAST, mac(2)))
    up.gets(frame(BROADCAST, mac(2)))
    for seed, size in enumerate((60, 64, 65, 200, 1514)):
        up.send(frame(mac(1), mac(9), seed, size))
        gets(a, frame(mac(1), mac(9), seed, size))
        a.send(frame(mac(9), mac(1), seed, size))
        up.gets(frame(mac(9), mac(1), seed, size))
        a.send(frame(mac(2), mac(1), seed, size))
        gets(b, frame(mac(2), mac(1), seed, size))
    assert up.quiet() and a.quiet(seconds=QUIET) and b.quiet(seconds=QUIET)
    assert lan.stations() == {(text_of(mac(1)), 1): "a", (text_of(mac(2)), 1): "b", (text_of(mac(9)), 1): "up"}
    figures = lan.figures("up")
    assert (figures["from_wire_packets"], figures["to_wire_packets"]) == (6, 7)
    shown = vhubctl(lan.folder / "control.sock", "stats").stdout
    assert re.search(rf"^{lan.name}-up +none +- +13 ", shown, re.MULTILINE), shown
    assert (figures["opackets"], figures["dropped_port_full"]) == (7, 0)
    assert figures["bridge_flooded_packets"] == 1 and figures["bridge_forwarded_packets"] == 5


def test_a_station_moves_between_a_guest_and_the_wire(lan, wire):
    a, b = (lan.port(name) for name in "ab")
    up = wire()
    lan.learn(a, mac(7))
    up.send(frame(BROADCAST, mac(7)))
    gets(a, frame(BROADCAST, mac(7)))
    gets(b, frame(BROADCAST, mac(7)))
    b.send(frame(mac(7), mac(2)))
    up.gets(frame(mac(7), mac(2)))
    assert a.quiet(seconds=QUIET)


def test_no_guest_takes_a_station_from_the_wire(lan, wire):
    """Not the gateway's address, by one frame of its, from all the others; with isolation or without."""
    a, b = (lan.port(name, isolation=1) for name in "ab")
    up = wire()
    up.send(frame(BROADCAST, mac(9)))
    gets(a, frame(BROADCAST, mac(9)))
    gets(b, frame(BROADCAST, mac(9)))
    a.wait_sent([a.send(frame(mac(5), mac(9)))])
    lan.wait_figure("a", "bridge_dropped_foreign", 1)
    for seed in range(5):
        b.send(frame(mac(9), mac(2), seed))
        up.gets(frame(mac(9), mac(2), seed))
    assert a.quiet(seconds=QUIET) and lan.stations()[text_of(mac(9)), 1] == "up"
    wait_until(lambda: re.search(lan.name + "-a: is not heard with an address", lan.daemon.log))


@pytest.mark.parametrize("keys, vlan", [({"mac": text_of(mac(7))}, None), ({"mac": text_of(mac(7)), "trunk": "10"}, 10),
                                        ({"learn_priority": "high"}, None)], ids=["mac", "mac-tagged", "priority"])
def test_a_guest_that_comes_from_the_wire_is_found_here(lan, wire, keys, vlan):
    """Until now it was heard there: it has migrated, and announces itself."""
    b, up = lan.port("b", trunk="10", vlan=1), wire(trunk="10", vlan=1)
    up.send(frame(BROADCAST, mac(7), vlan=vlan))
    gets(b, frame(BROADCAST, mac(7), vlan=vlan))
    b.send(frame(mac(7), mac(2), 1, vlan=vlan))
    up.gets(frame(mac(7), mac(2), 1, vlan=vlan))
    a = lan.port("a", **{"vlan": 1, **keys})
    a.send(frame(BROADCAST, mac(7), vlan=vlan))
    gets(b, frame(BROADCAST, mac(7), vlan=vlan))
    up.gets(frame(BROADCAST, mac(7), vlan=vlan))
    b.send(frame(mac(7), mac(2), 2, vlan=vlan))
    gets(a, frame(mac(7), mac(2), 2, vlan=vlan))
    assert lan.stations()[text_of(mac(7)), vlan or 1] == "a"


def test_packets_take_any_queue_of_a_wire_and_keep_their_order(lan, wire):
    a, b = (lan.port(name, queues=2, session={"pairs": 2}) for name in "ab")
    up = wire(queues=2)
    up.send(frame(BROADCAST, mac(9)))
    gets(a, frame(BROADCAST, mac(9)))
    gets(b, frame(BROADCAST, mac(9)))
    for seed in range(40):
        a.send(frame(mac(9), mac(1), seed), pair=1)
    for seed in range(40):
        up.gets(frame(mac(9), mac(1), seed))
    lan.control.settle()                # the last ones are counted after they are sent
    queues = lan.control.call("device_stats", name=lan.name + "-up")[0]["queues"]
    assert sum(each["to_wire_packets"] for each in queues) == 40
    assert all(each["started"] and "lcore" in each for each in queues)


# VLANs and isolation


def test_a_trunk_to_the_wire(lan, wire):
    a, b = lan.port("a", vlan=10), lan.port("b", vlan=20)
    up = wire(trunk="10+20")
    a.send(frame(BROADCAST, mac(1)))
    up.gets(frame(BROADCAST, mac(1), vlan=10))
    b.send(frame(BROADCAST, mac(2)))
    up.gets(frame(BROADCAST, mac(2), vlan=20))
    up.send(frame(mac(1), mac(9), vlan=10))
    gets(a, frame(mac(1), mac(9)))
    up.send(frame(BROADCAST, mac(9), vlan=20))
    gets(b, frame(BROADCAST, mac(9)))
    a.send(frame(mac(9), mac(1), 2))
    up.gets(frame(mac(9), mac(1), 2, vlan=10))
    for stranger in (frame(BROADCAST, mac(9)), frame(BROADCAST, mac(9), vlan=30)):
        up.send(stranger)
    lan.wait_figure("up", "bridge_dropped_vlan", 2)
    assert a.quiet(seconds=QUIET) and b.quiet(seconds=QUIET)


def test_isolated_guests_reach_the_wire_alone(lan, wire):
    a, b = (lan.port(name, isolation=1) for name in "ab")
    up, other = wire(), wire("other", "net_tap1", isolation=2)
    lan.learn(b, mac(2))
    a.send(frame(BROADCAST, mac(1)))
    up.gets(frame(BROADCAST, mac(1)))
    other.gets(frame(BROADCAST, mac(1)))
    a.wait_sent([a.send(frame(mac(2), mac(1)))])
    lan.wait_figure("a", "bridge_dropped_isolated", 1)
    up.send(frame(mac(1), mac(9)))
    gets(a, frame(mac(1), mac(9)))
    other.send(frame(BROADCAST, mac(8)))
    for session in (a, b):
        gets(session, frame(BROADCAST, mac(8)))
    up.gets(frame(BROADCAST, mac(8)))
    assert b.quiet(seconds=QUIET)


# what is left to be done


def payload_of(data):
    return data[14 + 20 + 20:14 + packets.parse_ipv4(data).length]


@pytest.mark.parametrize("datapath", DATAPATHS)
def test_a_wire_gets_checksums_and_segments_complete(lan, wire, datapath):
    a = lan.port("a", datapath=datapath, session={"features": (NF.CSUM, NF.HOST_TSO4)})
    up = wire()
    made = packets.segment(4, packets.UDP, b"x" * 333)
    a.send(made.frame, header=made.header)
    data = up.receive()
    assert packets.sums_up(data, 4, packets.UDP) and data[42:] == b"x" * 333
    payload = bytes(range(250)) * 80
    made = packets.segment(4, packets.TCP, payload, gso_size=1460)
    a.send(made.frame, header=made.header, pieces=[12 + 54] + [4000] * 5)
    got = b""
    while len(got) < len(payload):
        data = up.receive()
        assert len(data) <= 1514 and packets.parse_ipv4(data).sums and packets.sums_up(data, 4, packets.TCP)
        got += payload_of(data)
    assert got == payload and up.quiet()


def test_nothing_longer_than_its_mtu_goes_to_a_wire(lan, wire):
    a = lan.port("a")
    up = wire(mtu=1000)
    assert [each["mtu"] for each in lan.control.call("bridge_list")[-1]["ports"] if each["uplink"]] == [1000]
    a.send(frame(BROADCAST, mac(1), 1, 1015))
    a.send(frame(BROADCAST, mac(1), 2, 1014))
    up.gets(frame(BROADCAST, mac(1), 2, 1014))
    lan.wait_figure("a", "bridge_dropped_nobody", 1)


# services


def test_services_of_an_uplink(lan, wire, tmp_path):
    """A guest's packets mirrored to a wire, a wire's limits and its capture."""
    a, b = (lan.port(name) for name in "ab")
    up, spy = wire(), wire("spy", "net_tap1", vlan=999)
    lan.learn(b, mac(2))
    name = "%s-" % lan.name
    lan.control.call("port_mirror_set", name=name + "a", to=name + "spy", direction="from_guest")
    a.send(frame(mac(2), mac(1)))
    gets(b, frame(mac(2), mac(1)))
    spy.gets(frame(mac(2), mac(1)))
    lan.control.call("port_mirror_clear", name=name + "a")
    lan.control.call("port_capture_start", name=name + "up", path=str(tmp_path / "up.pcapng"))
    a.send(frame(mac(9), mac(1)))
    up.gets(frame(mac(9), mac(1)))
    gets(b, frame(mac(9), mac(1)))
    assert lan.control.call("port_capture_stop", name=name + "up")["packets"] == 1
    lan.control.call("port_set_qos", name=name + "up", from_guest_packets_per_s=1, from_guest_packets_burst=2)
    for seed in range(5):
        up.send(frame(mac(1), mac(9), seed))
    lan.wait_figure("up", "dropped_rate_limited_from_guest", 3)
    for seed in range(2):
        gets(a, frame(mac(1), mac(9), seed))
    with pytest.raises(Refused, match="is no port"):
        lan.control.call("port_set_link", name=name + "up", state="down")


@pytest.mark.parametrize("long", [1600, 1530])
def test_a_copy_that_is_too_long_for_a_wire_takes_no_others_with_it(lan, wire, long):
    a = lan.port("a", session={"size": 256})
    lan.port("b")
    spy = wire("spy", vlan=999)
    lan.control.call("port_mirror_set", name=lan.name + "-a", to=lan.name + "-spy", direction="from_guest")
    a.submit([a.prepare(frame(mac(2), mac(1), seed, long if seed in (0, 5) else 200)) for seed in range(10)])
    for seed in (1, 2, 3, 4, 6, 7, 8, 9):
        spy.gets(frame(mac(2), mac(1), seed, 200))
    assert spy.quiet()
    figures = lan.figures("spy")
    assert (figures["dropped_oversize"], figures["dropped_port_full"]) == (2, 0)
    assert figures["to_wire_packets"] == 8


def test_no_copy_that_is_too_long_goes_to_a_wire_that_would_take_it(lan):
    a = lan.port("a")
    lan.port("b")
    lan.uplink("spy", port="net_null0", vlan=999)
    lan.control.call("port_mirror_set", name=lan.name + "-a", to=lan.name + "-spy", direction="from_guest")
    for size in (1522, 1523, 1514):
        a.send(frame(mac(2), mac(1), size % 250, size))
    lan.wait_figure("spy", "to_wire_packets", 2)
    assert lan.figures("spy")["dropped_oversize"] == 1


# coming and going


def test_uplinks_come_and_go_while_guests_talk(lan, wire):
    """Nothing that guests send each other is lost, and what a guest sends to all never stops for a wire."""
    a, b = (lan.port(name) for name in "ab")
    lan.learn(a, mac(1))
    lan.learn(b, mac(2))
    ended, sent = threading.Event(), [0]

    def talk():
        while not ended.is_set():
            a.wait_sent([a.send(frame(mac(2), mac(1), sent[0] % 250)), a.send(frame(mac(77), mac(1)))])
            gets(b, frame(mac(2), mac(1), sent[0] % 250))
            gets(b, frame(mac(77), mac(1)))
            sent[0] += 1

    talker = threading.Thread(target=talk)
    talker.start()
    try:
        for _ in range(5):
            up = wire()
            for seed in range(20):
                up.send(frame(mac(1), mac(9), seed))
            assert up.receive() is not None
            before = sent[0]
            lan.remove("up")
            up.sock.close()
            wait_until(lambda: sent[0] >= before + 3)
    finally:
        ended.set()
        talker.join(10)
    assert not talker.is_alive() and sent[0] > 20
    assert {port["name"] for port in lan.control.call("bridge_list")[-1]["ports"]} == {lan.name + "-a", lan.name + "-b"}
    assert "up" not in lan.stations().values()


def test_a_guest_that_takes_nothing_costs_a_wire_nothing(lan, wire):
    """Its packets from the wire are dropped after some turns, and the wire's buffers come back."""
    a, slow = lan.port("a"), lan.port("slow", session={"buffers": 0})
    up = wire(rxd=64)
    lan.learn(slow, mac(3))
    lan.learn(a, mac(1))
    for seed in range(2000):
        up.send(frame(mac(3), mac(9), seed % 250))
        if seed % 100 == 0:
            up.send(frame(mac(1), mac(9), seed % 250))
            gets(a, frame(mac(1), mac(9), seed % 250))
    lan.wait_figure("up", "from_wire_packets", 2020)
    figures = lan.figures("slow")
    assert figures["dropped_ring_full"] + figures["dropped_crossing_full"] > 1000


def test_what_is_refused_and_what_is_shown(lan, wire):
    wire(trunk="all", vlan=5)
    for keys, sentence in (
            ({"port": "net_null0", "socket": "/tmp/x"}, "socket: this kind of device has no front end"),
            ({"port": "net_null0", "mac": "02:00:00:00:00:01"}, "mac"),
            ({}, "port= is missing"),
            ({"port": "net_nothing0"}, "no such port"),
            ({"port": "net_null0", "queues": 65}, "queues=65")):
        with pytest.raises(Refused, match=sentence):
            lan.uplink("other", **keys)
    with pytest.raises(Refused, match="in use already"):
        lan.uplink("other", port="net_tap0")
    with pytest.raises(Refused, match="has no front end whose rings could move"):
        lan.control.call("queue_move", name=lan.name + "-up", queue=0,
                         lcore=lan.control.call("lcore_list")[0]["lcore"])
    assert lan.figures("up")["wire_link_up"] == 1
    shown = vhubctl(lan.folder / "control.sock", "bridges").stdout
    assert lan.name + "-up" in shown and "wire" in shown
    saved = lan.control.call("config_save")["text"]
    assert "[uplink %s-up]\nbridge = %s\n" % (lan.name, lan.name) in saved
    devices = {each["name"]: each for each in lan.control.call("device_list")}
    assert devices[lan.name + "-up"]["kind"] == "uplink" and devices[lan.name + "-up"]["state"] == "serving"


def test_a_worker_sleeps_at_a_wire_and_wakes(lan, wire):
    a = lan.port("a")
    up = wire()
    for seed in range(20):
        time.sleep(0.003)
        up.send(frame(BROADCAST, mac(9), seed))
        gets(a, frame(BROADCAST, mac(9), seed))
        time.sleep(0.003)
        a.send(frame(BROADCAST, mac(1), seed))
        up.gets(frame(BROADCAST, mac(1), seed))
    asleep, deadline = 0, time.monotonic() + PATIENCE
    while asleep < 5:
        time.sleep(0.002)
        asleep += all(each["asleep"] for each in lan.control.call("lcore_list"))
        assert time.monotonic() < deadline
    up.send(frame(BROADCAST, mac(9)))
    gets(a, frame(BROADCAST, mac(9)))
