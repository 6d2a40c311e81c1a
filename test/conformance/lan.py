# SPDX-License-Identifier: BSD-3-Clause
"""Ports that are joined, for the tests of one module: a daemon of their own, with one worker and with two,
to which each test adds its ports, and from which it takes them away again.

Used by test_net_bridge.py, test_net_uplink.py and test_net_services.py, which import the fixtures `daemon`,
`control` and `lan`.
"""

import contextlib
import itertools
import struct
import tempfile
import time
from pathlib import Path

import pytest

from control import Control
from vhostuser import PATIENCE, NetPort, net, packets, wait_until
from vhubd import Vhubd, worker_arguments

QUIET = 0.05
#: Values of datapath=.
DATAPATHS = ["direct", "librte_vhost"]
NUMBERS = itertools.count()
#: For tests of what librte_vhost does not offer.
only_direct = pytest.mark.parametrize("lan", ["direct"], indirect=True)


def mac(number):
    return bytes((2, 0, 0, 0, 0, number))


def text_of(address):
    return ":".join("%02x" % byte for byte in address)


def frame(to, by, seed=1, size=100, vlan=None):
    """A frame of no protocol that anybody looks into, with a tag where a VLAN is given."""
    tag = b"" if vlan is None else struct.pack("!HH", 0x8100, vlan)
    return to + by + tag + packets.plain(seed, size)[12:]


def newest_arrives(sender, receiver, frames, seconds=PATIENCE):
    """Sends these, no two of them alike, until the one that was sent last has come: a worker that slept when its port's
    link came up sees it a moment later, and what others have sent to the port until then is lost. Of those before the
    last one none is still to come, for they keep their order."""
    deadline = time.monotonic() + seconds
    for each in frames:
        sender.send(each)
        try:
            while receiver.receive(timeout=0.2).frame != each:
                pass
            return
        except net.NoPacket:
            assert time.monotonic() < deadline


def all_pairs_open(session, pairs, other):
    """After a command for more pairs, whose answer waits no longer than some milliseconds for the worker of each to see
    it: whatever the guest has sent by a pair was taken in a turn that the worker has begun since. The first frame
    may have come in the middle of that turn, the second one tells that it is over."""
    for pair in 2 * list(range(pairs)):
        session.send(frame(mac(254), mac(253)), pair)
        assert other.receive().frame == frame(mac(254), mac(253))


class Lan:
    """Ports of one test: added, opened, removed at its end."""

    def __init__(self, daemon, folder, control, datapath):
        self.daemon, self.folder, self.control = daemon, folder, control
        self.datapath = datapath
        self.name = "br%d" % next(NUMBERS)
        self.names = []
        self.sessions = {}

    def add(self, name, driver="bridge", **keys):
        """A device; its whole name."""
        whole = "%s-%s" % (self.name, name)
        if driver in ("bridge", "patch"):
            keys = {driver: self.name, **keys}
        keys = {"socket": str(self.folder / (whole + ".sock")), "driver": driver, **keys}
        if self.datapath:
            keys.setdefault("datapath", self.datapath)
        self.control.call("device_add", kind="net", name=whole, args=keys)
        self.names.append(whole)
        return whole

    def open(self, name, **keywords):
        """A guest at a device that was added."""
        whole = "%s-%s" % (self.name, name)
        session = NetPort.open(str(self.folder / (whole + ".sock")), **keywords)
        self.sessions[name] = session
        self.control.settle()               # what another lcore sends it from now on, it gets
        return session

    def uplink(self, name, **keys):
        """A device that joins the bridge to a wire; its whole name."""
        whole = "%s-%s" % (self.name, name)
        self.control.call("device_add", kind="uplink", name=whole, args={"bridge": self.name, **keys})
        self.names.append(whole)
        return whole

    def port(self, name, session=(), **keys):
        """Both."""
        self.add(name, **keys)
        return self.open(name, **dict(session))

    def remove(self, name):
        whole = "%s-%s" % (self.name, name)
        self.control.call("device_remove", name=whole)
        self.names.remove(whole)
        if name in self.sessions:
            self.sessions.pop(name).close()

    def figures(self, name):
        """With what guests have seen of it until now."""
        self.control.settle()
        return self.figures_now(name)

    def figures_now(self, name):
        return self.control.call("device_stats", name="%s-%s" % (self.name, name))[0]["figures"]

    def wait_figure(self, name, figure, value, seconds=PATIENCE):
        wait_until(lambda: self.figures_now(name)[figure] == value,
                   lambda: "%s is %d" % (figure, self.figures_now(name)[figure]), seconds=seconds)

    def wait_all_seen(self, name, sent, seconds=PATIENCE):
        """The bridge has dealt with what this port has sent; its figures."""
        self.wait_figure(name, "from_guest_packets", sent, seconds)

        def dealt_with():
            figures = self.figures_now(name)
            count = (figures["bridge_flooded_packets"] + figures["bridge_forwarded_packets"]
                     + sum(value for each, value in figures.items() if each.startswith("bridge_dropped_")))
            return figures if count == sent else None

        return wait_until(dealt_with, lambda: self.figures_now(name), seconds)

    def stations(self):
        """{(address, VLAN): name of the port}"""
        found, place = {}, 0
        while True:
            answer = self.control.call("bridge_fdb", bridge=self.name, **{"from": place})
            found |= {(each["mac"], each["vlan"]): each["port"].split("-")[1] for each in answer["stations"]}
            place = answer["next"]
            if place == 0:
                return found

    def learn(self, session, address, vlan=None):
        """The bridge knows this station at this port, by a frame that nobody gets: it is for the station
        itself."""
        before = self.stations()
        session.wait_sent([session.send(frame(address, address, vlan=vlan))])
        wait_until(lambda: text_of(address) in {each for each, _ in self.stations()}, lambda: before)
        return address

    def close(self):
        for session in self.sessions.values():
            session.close()
        for name in self.names:
            self.control.call("device_remove", name=name)


@contextlib.contextmanager
def serving(workers, **keywords):
    """A daemon with so many workers, and its folder."""
    with tempfile.TemporaryDirectory(prefix="vhub-n-") as name:
        folder = Path(name)
        started = Vhubd(folder=folder, eal=worker_arguments(workers, **keywords),
                        args=["--control", str(folder / "control.sock")])
        started.start()
        yield started, folder
        try:
            started.stop()
        finally:
            started.kill()


@pytest.fixture(scope="module", params=[1, 2], ids=["one-worker", "two-workers"])
def daemon(request):
    with serving(request.param) as made:
        yield made


@pytest.fixture
def control(daemon):
    with Control(daemon[1] / "control.sock") as client:
        yield client


@pytest.fixture(params=DATAPATHS)
def lan(daemon, control, request):
    made = Lan(daemon[0], daemon[1], control, request.param)
    yield made
    made.close()
    daemon[0].check_log()
    assert made.name not in {each["name"] for each in control.call("bridge_list")}
