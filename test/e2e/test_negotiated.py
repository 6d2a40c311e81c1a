# SPDX-License-Identifier: BSD-3-Clause
"""What a front end has negotiated, as the control socket and vhubctl show it."""

import os
import re

import pytest

from control import Control, vhubctl
from vhostuser import NF, PF, BlkDisk, F, NetPort, Queue, Req, wait_until


@pytest.fixture
def path(folder):
    return folder / "control.sock"


def shown(control, name):
    return control.call("device_stats", name=name)[0]


def nothing_is_agreed(control, name):
    said = shown(control, name)
    return said["rings"] == [] and "features" not in said["session"]


def states(control, name):
    return [each["state"] for each in shown(control, name)["rings"]]


def class_name(kind, bit):
    """The name of a bit as the front end of the tests knows it, without the prefix of its class."""
    if bit == 27:                       # which that front end does without
        return "ANY_LAYOUT"
    return NF(bit).name if kind == "net" and not 24 <= bit < 50 else F(bit).name.removeprefix("BLK_")


@pytest.mark.parametrize("packed", [False, True], ids=["split", "packed"])
def test_a_disk_and_its_rings(vhubd, blk, path, packed):
    daemon = vhubd(blk("d", queues=4), args=["--control", str(path)])
    with Control(path) as control:
        assert nothing_is_agreed(control, "d")
        with BlkDisk.open(str(daemon.sockets[0]), queues=0, packed=packed) as disk:
            if packed:
                disk.set_inflight(disk.get_inflight(2, 64))
            for index in range(2):
                disk.start_queue(Queue(index, disk.new_ring(64)))
            said = shown(control, "d")
            session = said["session"]
            assert (session["peer_pid"], session["peer_uid"], session["peer_gid"]) == (
                os.getpid(), os.geteuid(), os.getegid())
            assert int(session["features"], 16) == disk.features
            assert session["feature_names"] == ["PROTOCOL_FEATURES", "VERSION_1"] + ["RING_PACKED"] * packed
            assert int(session["protocol_features"], 16) == disk.protocol
            assert session["protocol_feature_names"] == [each.name for each in PF if disk.protocol >> each & 1]
            assert session["memory_regions"] == len(disk.mem.regions)
            assert session["memory_bytes"] == sum(each.size for each in disk.mem.regions)
            assert session["memory_page_bytes"] == os.sysconf("SC_PAGE_SIZE")
            ring = {"size": 64, "format": "packed" if packed else "split", "state": "running", "inflight": packed}
            none = {"chains": 0, "completions": 0, "resubmitted": 0, "calls": 0, "calls_suppressed": 0,
                    "call_errors": 0, "long_chain_waits": 0}
            assert said["rings"] == [{"index": 0, **ring, **none}, {"index": 1, **ring, **none}]
            for sector in range(3):
                disk.read(sector, 512, queue=1)
            # A call comes after the completion that it tells of.
            wait_until(lambda: sum(shown(control, "d")["rings"][1][key] for key in ("calls", "calls_suppressed")) == 3)
            rings = shown(control, "d")["rings"]
            assert rings[0] == {"index": 0, **ring, **none}
            assert {**rings[1], "calls": 0, "calls_suppressed": 0} == {
                "index": 1, **ring, **none, "chains": 3, "completions": 3}
            # Without a name there are figures only.
            assert "rings" not in control.call("device_stats")[0]

            disk.set_vring_enable(0, False)
            assert states(control, "d") == ["disabled", "running"]
            disk.set_vring_enable(0)
            disk.get_vring_base(0)
            assert states(control, "d") == ["stopped", "running"]
            queue = disk.queues[1]
            queue.ring.add([(0xdead_0000_0000, 512, False)], None)
            queue.notify()
            wait_until(lambda: states(control, "d") == ["stopped", "broken"])
            assert "outside of guest memory" in shown(control, "d")["rings"][1]["reason"]
        # Rings are stopped after their front end has gone.
        wait_until(lambda: nothing_is_agreed(control, "d"))
        assert shown(control, "d")["session"]["connection"] == "detached"


@pytest.mark.parametrize("kind", ["blk", "net"])
def test_every_feature_that_is_offered_has_its_name(vhubd, blk, net, folder, path, kind):
    device = {"blks": [blk("d", queues=2)]} if kind == "blk" else {
        "nets": [net("d", driver="bridge", bridge="b", queues=2, mtu=1500, mac="02:00:00:00:00:01")]}
    vhubd(*device.get("blks", []), nets=device.get("nets", []), args=["--control", str(path)])
    with Control(path) as control, (BlkDisk if kind == "blk" else NetPort)(str(folder / "d.sock")) as front_end:
        offered = front_end.ask_u64(Req.GET_FEATURES)
        front_end.negotiate([bit for bit in range(64) if offered >> bit & 1])
        assert front_end.fence() == offered
        session = shown(control, "d")["session"]
        assert int(session["features"], 16) == offered
        assert session["feature_names"] == [class_name(kind, bit) for bit in range(64) if offered >> bit & 1]
        assert session["memory_regions"] == session["memory_bytes"] == 0 and "memory_numa_node" not in session


def test_vhubctl_shows_it_and_the_rings_of_a_port(vhubd, net, folder, path):
    vhubd(nets=[net("port", driver="null", queues=2)], args=["--control", str(path)])
    with NetPort.open(str(folder / "port.sock"), pairs=2, size=256, packed=True):
        text = vhubctl(path, "stats", "port").stdout
        assert re.search(rf"^peer_pid +{os.getpid()}$", text, re.MULTILINE), text
        assert re.search(r"^feature_names +MRG_RXBUF MQ PROTOCOL_FEATURES VERSION_1 RING_PACKED$", text, re.MULTILINE)
        assert re.search(r"^memory_bytes +16\.0 MiB$", text, re.MULTILINE)
        assert re.search(r"^ +3 +256 +packed +no +running$", text, re.MULTILINE), text
    assert vhubctl(path, "stats").stdout.startswith("NAME")
