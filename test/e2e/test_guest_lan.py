# SPDX-License-Identifier: BSD-3-Clause
"""Guests behind the driver bridge, one of which floods: dpdk-testpmd sends 64-byte frames as fast as it can to a
station that nobody knows, and to all, at ports with limits, while others exchange frames whose every byte is
looked at. Nothing is lost between these, and the figures say who has dropped what, and why."""

import time

import pytest

from control import Control
from netns import SINK, sha256_of_stream
from run_guest import Guest, Net, complaints, features
from testpmd import Testpmd, front_end
from vhostuser import wait_until

#: vhub-net-check's own station, and the one that it sends to (check_peer).
CHECKER, PARTNER = "52:54:00:00:0a:01", "02:76:68:75:62:ee"
#: The flooding ports: what limits each, and whom it sends to.
FLOODS = {
    "unknown": ({"flood_limit": 100}, "02:00:00:00:00:99"),
    "all": ({"broadcast_limit": 100}, "ff:ff:ff:ff:ff:ff"),
    "rate": ({"from_guest_packets_per_s": 100, "from_guest_packets_burst": 50}, "02:00:00:00:00:98"),
}
LIMIT = 100             # packets a second, by each: a ring holds what comes while its guest waits for its CPU
MUCH = 20000            # frames of each flood, at least; and it goes on for a second
PACKETS = 1000          # of those who are no part of it, meanwhile, at least


def station(number):
    return f"02:00:00:00:01:{number:02x}"


def figures_of(control):
    return {each["name"]: each["figures"] for each in control.call("device_stats")}


class Flood(Testpmd):
    """testpmd with a port for each kind of flood. Frames that reach it stay in its rings, and when these are
    full they are dropped."""

    __test__ = False

    def __init__(self, folder):
        eal = []
        for number, name in enumerate(FLOODS):
            eal += front_end(folder / f"{name}.sock", port=number)
            eal[-1] += f",mac={station(number)}"
        super().__init__(eal, folder=folder, name="flood", cpu=1,
                         args=["--forward-mode=txonly", "--port-topology=loop"])

    def begin(self):
        for number, (_, to) in enumerate(FLOODS.values()):
            self.cmd(f"set eth-peer {number} {to}")
        self.cmd("start")

    def sent(self):
        """Frames, by each port."""
        stats = self.port_stats()
        return {name: stats[number]["TX-packets"] for number, name in enumerate(FLOODS)}

    def end(self):
        """Not before each port has sent much; how much."""
        wait_until(lambda: min(self.sent().values()) >= MUCH, self.sent)
        self.cmd("stop")
        return self.sent()


@pytest.fixture
def lan(vhubd, net, folder):
    """Starts a vhubd with a bridge of two ports and of those that flood, and an attached Control:
    lan({"one": keys, "two": keys})."""
    controls = []

    def start(ports):
        keys = {**ports, **{name: {"mac": station(number), **FLOODS[name][0]} for number, name in enumerate(FLOODS)}}
        vhubd(nets=[net(name, driver="bridge", bridge="lan", **keys[name]) for name in keys], memory_mb=256,
              args=["--control", str(folder / "control")])
        controls.append(Control(folder / "control"))
        return controls[0]

    yield start
    for control in controls:
        control.__exit__()


def dropped(figures):
    return {name: value for name, value in figures.items() if name.startswith("dropped") and value != 0}


def check_floods(control, sent, begin):
    """What each port has sent since `begin` either went on, no more of it than its limit lets pass, or was dropped
    for it."""
    wait_until(lambda: all(figures_of(control)[name]["from_guest_packets"] == sent[name] for name in FLOODS),
               lambda: (sent, figures_of(control)))
    figures, seconds = figures_of(control), time.monotonic() - begin
    for name, why in (("unknown", "bridge_dropped_flood_limit"), ("all", "bridge_dropped_broadcast_limit"),
                      ("rate", "dropped_rate_limited_from_guest")):
        each = figures[name]
        passed = each["bridge_flooded_packets"]
        assert passed + each[why] == sent[name], (name, each)
        assert 0 < passed <= LIMIT * seconds + 64, (name, each)
    return figures


def test_two_guests_lose_nothing_while_others_flood(lan, check, folder):
    """The ring of each of the two has room for what the limits let pass while it waits for its CPU. The partner
    sends all back that it gets, as if it were the station that nobody knows: so none is learned at its port."""
    control = lan({"checker": {"mac": CHECKER}, "partner": {"mac": PARTNER, "learn_limit": 0}})
    with Testpmd(front_end(folder / "partner.sock"), folder=folder, name="partner", cpu=1,
                 args=["--auto-start", "--forward-mode=macswap"]) as partner, Flood(folder) as flood:
        front = check(f"{folder}/checker.sock,mac={CHECKER}", options=["--lan"])
        front.wait_each(PACKETS)
        begin = time.monotonic()
        flood.begin()
        time.sleep(1)
        front.wait_each(PACKETS)
        sent = flood.end()
        result = front.stop()
        figures = check_floods(control, sent, begin)
        partner.stop()
        flood.stop()
    assert result["lost"] == 0 and result["others"] > 0
    assert (dropped(figures["checker"]), dropped(figures["partner"])) == ({}, {})
    assert figures["checker"]["bridge_flooded_packets"] == 0
    print(f"{result['rate']:.0f} packets/s between the two, floods {sent}")


# --- two guests with Linux

MIB = 8


def transfer(sender, receiver, to, mib=MIB):
    """Over TCP, with its sum; MiB a second."""
    receiver.step("take", SINK)
    said = sender.step("send", to, SINK, mib)
    assert receiver.step("taken")["receive.sha256"] == sha256_of_stream(mib)
    return 100 * mib / max(1, int(said["send.centiseconds"]))


def iperf(sender, receiver, to, seconds=2):
    """What of TCP arrives, in MiB a second; not a byte of it is looked at."""
    receiver.step("iperf-serve")
    return int(sender.step("iperf", to, seconds)["iperf.received_kbits"]) * 1000 / 8 / (1 << 20)


def ping(guest, to, size=56, count=5):
    said = guest.step("ping", to, count, size)
    assert (said["ping.sent"], said["ping.lost"]) == (str(count), "0"), said


@pytest.mark.plain_only
def test_two_linux_guests_behind_a_bridge(lan, folder):
    """With an MTU of 9000, of which a ping fills one packet; with segmentation left to the other and made by the
    guest; in a VLAN of their own; and while others flood."""
    ports = {name: {"mac": f"52:54:00:76:68:{number:02x}", "mtu": 9000, "vlan": 1, "trunk": 10}
             for number, name in enumerate(("one", "two"))}
    control = lan(ports)
    guests = [Guest([], "net-up,console", timeout=300,
                    nets=[Net(folder / f"{name}.sock", f"10.77.0.{number + 1}/24", mac=keys["mac"], host_mtu=9000)])
              for number, (name, keys) in enumerate(ports.items())]
    rates = {}
    try:
        for guest in guests:
            guest.start()
        for guest in guests:
            guest.expect("console", "begin", 150)
            assert "MTU" in features(guest.results, "eth0") and guest.results["eth0.mtu"] == "9000"
        one, two = guests
        ping(one, "10.77.0.2", 8900)
        rates["TSO on"] = transfer(one, two, "10.77.0.2")
        rates["iperf3"] = iperf(one, two, "10.77.0.2")
        assert rates["iperf3"] > 0
        for guest in guests:
            said = guest.step("offload", "eth0", "tso", "off", "gso", "off")
            assert said["eth0.offload.tcp-segmentation-offload"] == "off"
        rates["TSO off"] = transfer(two, one, "10.77.0.1")
        for number, guest in enumerate(guests):
            guest.step("offload", "eth0", "tso", "on", "gso", "on")
            guest.step("vlan", "eth0", 10, f"10.78.0.{number + 1}/24")
        ping(one, "10.78.0.2", 8900)
        rates["VLAN"] = transfer(one, two, "10.78.0.2")
        with Flood(folder) as flood:
            begin = time.monotonic()
            flood.begin()
            ping(one, "10.77.0.2")
            rates["flooded"] = transfer(two, one, "10.77.0.1")
            sent = flood.end()
            figures = check_floods(control, sent, begin)
            flood.stop()
        for guest in guests:
            said = guest.step("net-info", "eth0")
            assert (said["Ip.FragCreates"], said["Ip.ReasmReqds"], said["Tcp.InCsumErrors"]) == ("0", "0", "0")
            guest.send()
        for guest in guests:
            assert not complaints(guest.wait())
    finally:
        for guest in guests:
            guest.kill()
    # A guest under TCG may be too slow for its own peer.
    assert all(set(dropped(figures[name])) <= {"dropped_ring_full"} for name in ports), figures
    print("MiB/s:", {name: round(rate, 1) for name, rate in rates.items()}, "floods:", sent)
