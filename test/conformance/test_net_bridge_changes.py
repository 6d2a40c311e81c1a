# SPDX-License-Identifier: BSD-3-Clause
"""Ports of a bridge that are changed while their guests go on, and stations that are forgotten by command: on one
worker and on two, and on both data paths."""

import pytest

from control import Refused, vhubctl
from lan import QUIET, control, daemon, frame, lan, mac, only_direct, text_of   # noqa: F401
from test_net_bridge import BROADCAST, gets
from vhostuser import wait_until

#: What bridge_port_set takes.
KEYS = ("vlan", "trunk", "isolation", "learn_limit", "flood_limit", "broadcast_limit")


def whole(lan, name):
    return "%s-%s" % (lan.name, name)


def change(lan, name, **what):
    return lan.control.call("bridge_port_set", name=whole(lan, name), **what)


def flush(lan, **what):
    return lan.control.call("bridge_fdb_flush", bridge=lan.name, **what)["stations"]


def saved(lan, name):
    """What config_save writes of a port: {key: value}"""
    text = lan.control.call("config_save")["text"]
    section = next(part for part in text.split("\n[")[1:] if part.split("]")[0].endswith(" " + whole(lan, name)))
    return dict(line.split(" = ", 1) for line in section.splitlines()[1:] if " = " in line)


def test_a_port_goes_to_another_vlan(lan):
    a, b, c = lan.port("a"), lan.port("b"), lan.port("c", vlan=20)
    lan.learn(b, mac(2))
    lan.learn(a, mac(1))
    said = change(lan, "b", vlan=20)
    assert (said["name"], said["vlan"], said["trunk"], said["stations"]) == (whole(lan, "b"), 20, "none", 0)
    assert lan.stations() == {(text_of(mac(1)), 1): "a"}
    a.wait_sent([a.send(frame(mac(2), mac(1)))])
    lan.wait_figure("a", "bridge_dropped_nobody", 1)
    c.send(frame(mac(2), mac(3)))
    gets(b, frame(mac(2), mac(3)))
    b.send(frame(mac(3), mac(2)))
    gets(c, frame(mac(3), mac(2)))
    assert a.quiet(seconds=QUIET) and lan.stations()[text_of(mac(2)), 20] == "b"
    assert saved(lan, "b")["vlan"] == "20"


def test_an_address_of_its_own_goes_with_it(lan):
    a = lan.port("a", vlan=20)
    lan.port("b", mac=text_of(mac(2)))
    assert lan.stations() == {(text_of(mac(2)), 1): "b"}
    change(lan, "b", vlan=20)
    assert lan.stations() == {(text_of(mac(2)), 20): "b"}
    a.wait_sent([a.send(frame(mac(1), mac(2)))])
    lan.wait_figure("a", "bridge_dropped_foreign", 1)
    # While the link is down nothing of it is known, and afterwards where the port is by then.
    lan.control.call("port_set_link", name=whole(lan, "b"), state="down")
    change(lan, "b", vlan=30)
    assert lan.stations() == {}
    lan.control.call("port_set_link", name=whole(lan, "b"), state="up")
    assert lan.stations() == {(text_of(mac(2)), 30): "b"}
    change(lan, "b", vlan=0, trunk="30")
    assert lan.stations() == {}


def test_a_trunk_comes_and_goes(lan):
    a, b = lan.port("a", vlan=10), lan.port("b", vlan=10)
    lan.learn(b, mac(2))
    change(lan, "b", vlan=0, trunk="10+20-29")
    # In VLAN 10 it still is: what is known there stays, and comes with a tag from now on.
    assert lan.stations() == {(text_of(mac(2)), 10): "b"}
    a.send(frame(mac(2), mac(1)))
    gets(b, frame(mac(2), mac(1), vlan=10))
    b.send(frame(mac(1), mac(2), vlan=10))
    gets(a, frame(mac(1), mac(2)))
    b.wait_sent([b.send(frame(mac(1), mac(2)))])
    lan.wait_figure("b", "bridge_dropped_vlan", 1)
    assert (saved(lan, "b")["vlan"], saved(lan, "b")["trunk"]) == ("0", "10+20-29")
    change(lan, "b", vlan=10, trunk="none")
    a.send(frame(mac(2), mac(1), 2))
    gets(b, frame(mac(2), mac(1), 2))
    b.wait_sent([b.send(frame(mac(1), mac(2), vlan=20))])
    lan.wait_figure("b", "bridge_dropped_vlan", 2)
    assert saved(lan, "b")["trunk"] == "none"


def test_a_trunk_alone_leaves_the_vlan_as_it_is_and_that_is_saved(lan):
    lan.port("a")
    assert change(lan, "a", trunk="10")["vlan"] == 1
    assert (saved(lan, "a")["vlan"], saved(lan, "a")["trunk"]) == ("1", "10")
    with pytest.raises(Refused, match="trunk: allowed"):
        change(lan, "a", trunk="\n10+ 20")
    assert saved(lan, "a")["trunk"] == "10"


def test_what_is_saved_is_taken_at_the_start(lan):
    lan.add("a", vlan=0, trunk="10", isolation=0)
    lan.add("b", trunk="none")
    ports = {each["name"]: each for bridge in lan.control.call("bridge_list") for each in bridge["ports"]}
    assert [(ports[whole(lan, name)]["vlan"], ports[whole(lan, name)]["trunk"]) for name in "ab"] == [(0, "10"), (1, "none")]
    with pytest.raises(Refused, match="vlan=0 without trunk="):
        lan.add("c", vlan=0)


def test_what_is_told_of_a_port_can_be_given_back(lan):
    for name, keys in (("a", {}), ("b", {"trunk": "all"}), ("c", {"vlan": 3, "trunk": "10+20-29", "isolation": 4})):
        lan.add(name, **keys)
        told, = [port for bridge in lan.control.call("bridge_list") for port in bridge["ports"]
                 if port["name"] == whole(lan, name)]
        assert change(lan, name, **{key: told[key] for key in KEYS}) == told
        assert saved(lan, name)["trunk"] == told["trunk"]


def test_ports_are_isolated_and_reach_each_other_again(lan):
    a, b = lan.port("a"), lan.port("b")
    for name in "ab":
        change(lan, name, isolation=7)
    a.wait_sent([a.send(frame(BROADCAST, mac(1)))])
    lan.wait_figure("a", "bridge_dropped_nobody", 1)
    assert b.quiet(seconds=QUIET)
    change(lan, "b", isolation=0)
    a.send(frame(BROADCAST, mac(1), 2))
    gets(b, frame(BROADCAST, mac(1), 2))


def test_limits_begin_and_end(lan):
    a = lan.port("a")
    lan.port("b", session={"size": 256, "buffers": 200})
    change(lan, "a", broadcast_limit=1)
    # At once go as many as a burst has.
    a.wait_sent([a.send(frame(BROADCAST, mac(1), seed)) for seed in range(100)])
    wait_until(lambda: lan.figures_now("a")["from_guest_packets"] == 100)
    assert 0 < lan.figures("a")["bridge_dropped_broadcast_limit"] <= 36
    change(lan, "a", broadcast_limit=0, flood_limit=1)
    before = lan.figures("a")
    a.wait_sent([a.send(frame(BROADCAST, mac(1), seed)) for seed in range(100)])
    a.wait_sent([a.send(frame(mac(9), mac(1), seed)) for seed in range(100)])
    wait_until(lambda: lan.figures_now("a")["from_guest_packets"] == 300)
    after = lan.figures("a")
    assert after["bridge_dropped_broadcast_limit"] == before["bridge_dropped_broadcast_limit"]
    assert 0 < after["bridge_dropped_flood_limit"] <= 36
    assert (saved(lan, "a")["broadcast_limit"], saved(lan, "a")["flood_limit"]) == ("0", "1")


def test_a_learn_limit_is_lowered_and_raised(lan):
    a = lan.port("a", learn_limit=2)
    lan.port("b")
    for number in (1, 2):
        lan.learn(a, mac(number))
    change(lan, "a", learn_limit=3)
    lan.learn(a, mac(3))
    change(lan, "a", learn_limit=1)
    a.wait_sent([a.send(frame(BROADCAST, mac(4)))])
    lan.wait_figure("a", "bridge_not_learned_limit", 1)
    assert len(lan.stations()) == 3


def test_nothing_is_lost_by_changes_that_do_not_concern_it(lan):
    """While a guest sends and its ports change, again and again."""
    a, b = lan.port("a"), lan.port("b")
    lan.learn(b, mac(2))
    for seed in range(100):
        a.send(frame(mac(2), mac(1), seed))
        change(lan, "ab"[seed % 2], trunk=("none", "20-29")[seed // 2 % 2], isolation=seed % 2)
        gets(b, frame(mac(2), mac(1), seed))
    assert saved(lan, "b")["isolation"] == "1"


@only_direct
def test_an_uplink_is_changed(lan):
    lan.uplink("up", port="net_null0", trunk="10+20")
    assert change(lan, "up", trunk="10+30", vlan=5, isolation=2)["trunk"] == "10+30"
    up, = (each for bridge in lan.control.call("bridge_list") for each in bridge["ports"]
           if each["name"] == whole(lan, "up"))
    assert (up["uplink"], up["vlan"], up["trunk"], up["isolation"]) == (True, 5, "10+30", 2)
    assert (saved(lan, "up")["trunk"], saved(lan, "up")["vlan"]) == ("10+30", "5")


@only_direct
def test_what_cannot_be_changed(lan):
    lan.add("a")
    lan.add("e", driver="echo")
    for code, words, name, what in (
            (-32602, "vlan=4095.*0 to 4094", "a", {"vlan": 4095}),
            (-32602, "vlan=-1.*0 to 4094", "a", {"vlan": -1}),
            (-32602, "vlan=0 without trunk=", "a", {"vlan": 0}),
            (-32602, "trunk=9x.*allowed", "a", {"trunk": "9x"}),
            (-32602, "trunk: allowed", "a", {"trunk": "10,isolation=1"}),
            (-32602, "flood_limit=1000000001", "a", {"vlan": 7, "flood_limit": 1000000001}),
            (-32602, "no port whose driver can be changed", "e", {"vlan": 7}),
            (-32001, "no device", "none", {"vlan": 7})):
        with pytest.raises(Refused, match=words) as caught:
            change(lan, name, **what)
        assert caught.value.code == code
    assert change(lan, "a")["vlan"] == 1 and "vlan" not in saved(lan, "a")


# flushing


def test_stations_are_flushed(lan):
    a, b = lan.port("a", trunk="all", vlan=1), lan.port("b", mac=text_of(mac(9)))
    for number, vlan in ((1, None), (2, 10), (3, 20)):
        lan.learn(a, mac(number), vlan)
    lan.learn(b, mac(4))
    assert flush(lan, vlan=10) == 1 and flush(lan, port=whole(lan, "a"), vlan=10) == 0
    assert flush(lan, port=whole(lan, "b")) == 1
    assert lan.stations() == {(text_of(mac(1)), 1): "a", (text_of(mac(3)), 20): "a", (text_of(mac(9)), 1): "b"}
    assert flush(lan) == 2
    assert lan.stations() == {(text_of(mac(9)), 1): "b"}
    # Whoever sends is learned again.
    lan.learn(a, mac(1))
    assert lan.stations()[text_of(mac(1)), 1] == "a"


@only_direct
def test_what_cannot_be_flushed(lan):
    lan.add("a")
    for code, words, what in ((-32001, "bridge .* has no port none", {"port": "none"}),
                              (-32602, "vlan=4095", {"vlan": 4095}), (-32602, "vlan=-1", {"vlan": -1})):
        with pytest.raises(Refused, match=words) as caught:
            flush(lan, **what)
        assert caught.value.code == code
    with pytest.raises(Refused, match="no bridge none"):
        lan.control.call("bridge_fdb_flush", bridge="none")


@only_direct
def test_vhubctl_changes_and_flushes(lan):
    path = lan.folder / "control.sock"
    a = lan.port("a")
    lan.learn(a, mac(1))
    done = vhubctl(path, "fdb-flush", lan.name, "--port", whole(lan, "a"))
    assert (done.returncode, done.stdout) == (0, "1 stations are forgotten\n")
    done = vhubctl(path, "bridge-port", whole(lan, "a"), "--vlan", 20, "--trunk", "30", "--broadcast-limit", 100)
    assert done.stdout.splitlines() == ["vlan=20", "trunk=30", "isolation=0", "learn_limit=1024", "flood_limit=0",
                                        "broadcast_limit=100"]
    assert vhubctl(path, "bridge-port", whole(lan, "a"), "--vlan", 5000).returncode == 1
