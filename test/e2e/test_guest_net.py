# SPDX-License-Identifier: BSD-3-Clause
"""A real Linux guest talks through vhub's nets with the TAP interface of a namespace: pings are answered,
and what TCP carries arrives as it was sent. net_backend.py and netns.py are the next files on the way."""

import os
import time

import pytest

from net_backend import GUEST, HOST, TestpmdBackend, VhubdBackend
from netns import SINK, SOURCE, Netns, sha256_of_stream
from run_guest import Guest, Net, complaints, features

pytestmark = pytest.mark.plain_only     # each boots a guest
MEMORY_MB = 512
MIB = 64
SMALL_MIB = 16


@pytest.fixture
def netns():
    with Netns() as namespace:
        yield namespace


@pytest.fixture
def backend(netns, folder, vhubd):
    """Makes back ends; what still runs at the end is stopped with its test or with the namespace."""
    def make(**keywords):
        keywords.setdefault("socket", folder / "net0.sock")
        if os.environ.get("VHUB_NET_PEER") == "testpmd":
            return TestpmdBackend(folder, netns, **keywords)
        return VhubdBackend(vhubd, netns, **keywords)

    return make


class Scene:
    """A guest whose console takes steps, and the server that it exchanges data with."""

    def __init__(self, backend, slow, mib=SMALL_MIB, cpus=None, **net):
        self.backend = backend
        self.slow = slow
        self.mib = mib
        self.sum = sha256_of_stream(mib)
        self.guest = Guest([], "net-up,console", nets=[Net(backend.socket, GUEST, **net)],
                           memory_mb=MEMORY_MB, cpus=cpus, timeout=250 * slow)
        self.server = None
        self.wants_boot = False

    def __enter__(self):
        """The server listens at all addresses: the one of the TAP interface comes and goes with the back end."""
        self.server = self.backend.netns.server("0.0.0.0", self.mib).__enter__()
        self.guest.start()
        if self.wants_boot:
            self.booted()
        return self

    def __exit__(self, *_):
        self.guest.kill()
        self.server.__exit__()

    def booted(self):
        """The guest takes steps: now, or, in a `with`, once the scene begins."""
        if self.guest.process is None:
            self.wants_boot = True
        else:
            self.guest.expect("console", "begin", 150 * self.slow)
        return self

    def step(self, *words):
        return self.guest.step(*words, timeout=150 * self.slow)

    def ping(self, count=10, size=56):
        said = self.step("ping", HOST, count, size)
        assert (said["ping.sent"], said["ping.lost"]) == (str(count), "0")

    def arrived(self, mib):
        assert self.server.received(150 * self.slow) == {
            "bytes": mib * ((1 << 20) + 16), "sha256": sha256_of_stream(mib)}

    def send(self, mib=None):
        mib = mib or self.mib
        self.step("send", HOST, SINK, mib)
        self.arrived(mib)

    def receive(self):
        assert self.step("receive", HOST, SOURCE)["receive.sha256"] == self.sum

    def iperf(self):
        """TCP by iperf3, both ways, one after the other."""
        with self.backend.netns.iperf():
            for way in ([], ["-R"]):
                said = self.step("iperf", HOST, 1, *way)
                assert int(said["iperf.received_kbits"]) > 0, said

    def end(self):
        self.guest.send()
        results = self.guest.wait()
        assert not complaints(results), complaints(results)
        return results


def check_counters(scene):
    """No packet was cut to pieces and none came with a wrong checksum, on either side."""
    said = scene.step("net-info", "eth0")
    host = scene.backend.netns.counters()
    assert [said[f"Ip.{name}"] for name in ("FragCreates", "ReasmReqds")] == ["0", "0"]
    assert said["Tcp.InCsumErrors"] == "0"
    assert host["Ip"]["FragCreates"] == host["Ip"]["ReasmReqds"] == 0
    assert host["Tcp"]["InCsumErrors"] == host["Icmp"]["InCsumErrors"] == 0
    return said


@pytest.mark.parametrize("packed", [
    pytest.param(False, id="split"),
    pytest.param(True, id="packed"),
])
def test_ping_and_tcp_with_every_offload(backend, slow, packed):
    """The large transfers as the guest's kernel likes them, and small ones with TSO and with checksums off."""
    with Scene(backend().start(), slow, mib=MIB, packed=packed).booted() as scene:
        negotiated = features(scene.guest.results, "eth0")
        assert {"VERSION_1", "CSUM", "GUEST_CSUM", "MRG_RXBUF", "EVENT_IDX", "MAC", "STATUS"} <= negotiated
        assert ("RING_PACKED" in negotiated) == packed
        assert ("HOST_TSO4" in negotiated) == scene.backend.tso
        assert scene.guest.results["eth0.address"] == "52:54:00:76:68:01"
        scene.ping()
        scene.send()
        scene.receive()
        scene.iperf()

        tso = "on" if scene.backend.tso else "off"
        for names, words in (
                ({"tcp-segmentation-offload": "off", "tx-checksumming": "on"}, ["tso", "off", "gso", "off"]),
                ({"tcp-segmentation-offload": "off", "tx-checksumming": "off"}, ["tx", "off"]),
                ({"tcp-segmentation-offload": tso, "tx-checksumming": "on"},
                 ["tx", "on", "tso", "on", "gso", "on"])):
            said = scene.step("offload", "eth0", *words)
            assert {name: said[f"eth0.offload.{name}"] for name in names} == names
            scene.send(SMALL_MIB)
        scene.ping()
        check_counters(scene)
        scene.end()


def test_front_end_without_checksums_and_tso(backend, slow):
    """QEMU keeps every offload from the guest, which then sends and wants whole packets."""
    with Scene(backend().start(), slow, csum=False).booted() as scene:
        assert not {name for name in features(scene.guest.results, "eth0") if "CSUM" in name or "TSO" in name}
        scene.ping()
        scene.send()
        scene.receive()
        check_counters(scene)
        scene.end()


@pytest.mark.parametrize("server", [
    pytest.param(False, id="qemu-dials"),
    pytest.param(True, id="qemu-listens"),
])
def test_killed_and_restarted_under_traffic(backend, slow, server):
    """QEMU's reconnect=1, or its listening socket: the guest loses packets and nothing else."""
    killed = backend(connect=server)
    if not server:
        killed.start()
    with Scene(killed, slow, server=server) as scene:
        if server:
            killed.start()
        scene.booted()
        scene.ping()
        scene.step("ping-start", HOST)
        time.sleep(1)
        killed.kill()
        scene.backend = killed.start()
        scene.step("ping-until", HOST, 60 * slow)
        scene.ping()
        scene.send()
        scene.receive()
        said = scene.step("ping-stop")
        assert int(said["ping.received"]) > 0
        check_counters(scene)
        scene.end()


def test_two_queues(backend, slow):
    """Each of the guest's two CPUs sends through a queue of its own."""
    with Scene(backend(queues=2).start(), slow, queues=2).booted() as scene:
        assert "MQ" in features(scene.guest.results, "eth0")
        scene.ping()
        scene.step("send-on-every-cpu", HOST, SINK, SMALL_MIB)
        scene.arrived(SMALL_MIB)
        scene.arrived(SMALL_MIB)
        scene.receive()
        said = check_counters(scene)
        assert (said["eth0.channels_max"], said["eth0.channels"]) == ("2", "2")
        # Packets of up to 64 KiB each: a few tens are a stream, and not what the kernel says by itself.
        assert int(said["eth0.tx_queue_0_packets"]) > 30
        assert int(said["eth0.tx_queue_1_packets"]) > 30
        scene.end()


def test_behind_a_viommu(backend, slow):
    """Every buffer has a new address, which the back end has to ask for: packets to the guest may be lost
    over it, and TCP mends that."""
    with Scene(backend(iommu="on").start(), slow, mib=1, iommu=True).booted() as scene:
        assert "ACCESS_PLATFORM" in features(scene.guest.results, "eth0")
        scene.step("ping-until", HOST, 60)
        scene.send(1)
        scene.receive()
        check_counters(scene)
        scene.end()
