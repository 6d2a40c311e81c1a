# SPDX-License-Identifier: BSD-3-Clause
"""DPDK's plan for virtio-user in a loop (its test suites loopback_multi_paths_port_restart and
loopback_virtio_user_server_mode): each of virtio-user's ten ways to a ring, and one ring whose size is no
power of two; packets go round, the port is stopped and started, packets go round again, the back end is
killed and comes back. On both data paths, all ways at once, each at a port of its own with driver echo.

vhub-net-check looks at every byte; dpdk-testpmd, whose plan it is, counts."""

import time

import pytest

from control import Control
from testpmd import Testpmd, front_ends
from vhostuser import wait_until

#: What the plan calls it: our name of it (KINDS in testpmd.py), and the size of its rings. Those come last that
#: vhub-net-check does not stop and start: DPDK 22.11 itself then hands out frames that nobody has sent, or buffers that
#: it has posted anew, whatever the back end (librte_vhost's as well). dpdk-testpmd does not look.
PATHS = {
    "inorder mergeable": ("split", 256),
    "inorder non-mergeable": ("split-one-buffer", 256),
    "mergeable": ("split-any-order", 256),
    "non-mergeable": ("split-one-buffer-any-order", 256),
    "vector_rx": ("split-vectorised", 256),
    "packed mergeable": ("packed", 256),
    "packed non-mergeable": ("packed-one-buffer", 256),
    "packed inorder mergeable": ("packed-in-order", 256),
    "packed inorder non-mergeable": ("packed-one-buffer-in-order", 256),
    "packed vectorized": ("packed-vectorised", 256),
    "packed vectorized, ring of 255": ("packed-vectorised", 255),
}
RESTARTABLE = list(PATHS).index("packed vectorized")
BURST = 32              # also what vhub-net-check has under way
QUEUES = 2              # of each of its ports
PACKETS = 2000          # by each queue, between two events
DATAPATHS = pytest.mark.parametrize("datapath", [
    "direct", pytest.param("librte_vhost", marks=pytest.mark.plain_only)])


class Scene:
    """A port for each path, and a vhubd that echoes. Where the front ends listen (server), they come to listen one
    after the other, each when the one before it is connected."""

    def __init__(self, vhubd, folder, datapath, server=False):
        self.sockets = [folder / f"{number}.sock" for number in range(len(PATHS))]
        self.ports = [(path, *each) for path, each in zip(self.sockets, PATHS.values())]
        self.control_path = folder / "control"
        self.keys = [{"connect" if server else "socket": str(path), "driver": "echo", "datapath": datapath,
                      "queues": QUEUES}
                     for path in self.sockets]
        self.nets = [f"p{number}," + ",".join(f"{key}={value}" for key, value in keys.items())
                     for number, keys in enumerate(self.keys)]
        self.daemon = vhubd(nets=[] if server else self.nets, memory_mb=256,
                            args=["--control", str(self.control_path)])

    def add_ports(self):
        with Control(self.control_path) as control:
            for number, keys in enumerate(self.keys):
                wait_until(self.sockets[number].exists, seconds=60)
                control.call("device_add", kind="net", name=f"p{number}", args=keys)

    def restart(self, end):
        """By `end` of the daemon: kill or stop."""
        end()
        self.daemon.nets = self.nets
        self.daemon.start()

    def check_dropped(self):
        """Nothing, but what came before both rings of a pair were served."""
        with Control(self.control_path) as control:
            for name, each in zip(PATHS, control.call("device_stats")):
                dropped = {figure for figure, value in each["figures"].items() if "dropped" in figure and value != 0}
                assert dropped <= {"dropped_disabled", "dropped_no_ring"}, (name, each["figures"])


@DATAPATHS
def test_packets_go_round_over_restarts_and_reconnects(vhubd, check, folder, datapath):
    """The front ends listen: then they live on without the back end."""
    scene = Scene(vhubd, folder, datapath, server=True)
    front = check(scene.ports, server=True, reconnect=True, queues=QUEUES, options=["--restartable", str(RESTARTABLE)])
    scene.add_ports()
    front.wait_each(PACKETS)
    front.restart_ports()
    front.wait_each(PACKETS)
    scene.check_dropped()
    for end in (scene.daemon.kill, scene.daemon.stop):
        scene.restart(end)
        front.wait_each(PACKETS)
    front.restart_ports()
    front.wait_each(PACKETS)
    scene.check_dropped()
    result = front.stop()
    assert (result["restarts"], result["reconnects"], result["lost"]) == (2, 2 * len(PATHS), 0)
    # What was under way when vhubd ended, and no more.
    lost = [(name, flow["lost_at_reconnect"]) for name in PATHS for flow in result["flows"]
            if flow["port"] == list(PATHS).index(name)]
    assert len(lost) == QUEUES * len(PATHS) and all(count <= 2 * BURST for _, count in lost), lost


@DATAPATHS
def test_testpmd_stops_and_starts_its_ports(vhubd, folder, datapath):
    """Of its packets none is missing: they are at the front end, which throws away what it finds when it
    starts to forward, or on their way."""
    scene = Scene(vhubd, folder, datapath)
    with Testpmd(front_ends(scene.ports), folder=folder, name="front",
                 args=["--forward-mode=io", "--port-topology=loop"]) as front:
        bursts = 0
        for _ in range(2):
            bursts += start_circling(front)
            wait_received(front, PACKETS)
            front.cmd("stop")
            stats = front.port_stats()
            for number, name in enumerate(PATHS):
                seen = stats[number]
                assert abs(seen["TX-packets"] - seen["RX-packets"]) <= BURST * bursts, (name, seen)
                assert seen["RX-errors"] == seen["TX-errors"] == seen["RX-nombuf"] == 0, (name, seen)
            front.cmd("port stop all")
            front.cmd("port start all")
        scene.check_dropped()
        front.stop()


def start_circling(front):
    """Has bursts of 32 packets go round and round at each port. A back end may discard what comes before it
    has both rings, so it may take more than one burst; how many."""
    for bursts in range(1, 20):
        front.cmd("clear port stats all")
        front.cmd("start tx_first")
        time.sleep(0.1)
        before = front.port_stats()
        time.sleep(0.1)
        after = front.port_stats()
        if all(after[port]["RX-packets"] > before[port]["RX-packets"] for port in range(len(PATHS))):
            return bursts
        front.cmd("stop")
    raise AssertionError("nothing comes back\n" + front.log[-4000:])


def wait_received(front, packets):
    wait_until(lambda: min(port["RX-packets"] for port in front.port_stats().values()) >= packets,
               front.port_stats)
