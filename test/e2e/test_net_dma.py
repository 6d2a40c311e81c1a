# SPDX-License-Identifier: BSD-3-Clause
"""Ports whose packets a DMA engine copies (dma=, datapath=librte_vhost), with DPDK's skeleton dmadev, a thread that
calls memcpy: the same packets come back as without, rings stop and front ends go while copies are under way, and
what cannot be is refused."""

import pytest

from control import Control
from vhostuser import wait_until
from vhubd import worker_arguments

ENGINE = "dma_skeleton0"
PACKETS = 5000          # by each queue
KINDS = ["split", "split-one-buffer", "packed", "packed-in-order"]


@pytest.fixture
def start(vhubd, net, folder):
    """Daemons with an engine: start(name={keys}, ...), each port with driver echo. Those of trusted guests are
    copied by it in both directions."""
    def make(wait=True, **ports):
        nets = [net(name, **{"datapath": "librte_vhost", "trust": "on", "queues": 2, **keys})
                for name, keys in ports.items()]
        return vhubd(nets=nets, eal=worker_arguments(1) + ["--vdev", ENGINE], wait=wait,
                     args=["--control", str(folder / "control")])

    return make


def copies(folder, port):
    """Packets to the guest whose copies were begun, and ended (of the other direction the library counts none).
    The library's figures have names once they were asked for while a front end is there."""
    with Control(folder / "control") as control:
        figures = control.call("device_stats", name=port)[0]["figures"]
    return [figures.get(f"library_to_guest_inflight_{what}", 0) for what in ("submitted", "completed")]


def test_the_same_packets_come_back_as_without(start, check, folder):
    """By one engine for all: ports of guests that are trusted, and of some that are not, beside ports without."""
    ways = {"trusted": {"dma": ENGINE}, "other": {"dma": ENGINE, "trust": "off"}, "none": {}}
    ports = {f"{name}{number}": keys for name, keys in ways.items() for number in range(len(KINDS))}
    start(**ports)
    front = check([(folder / f"{name}.sock", KINDS[int(name[-1])], 256) for name in ports], queues=2, packets=PACKETS,
                  allocated=True)
    front.wait_told("least", 1)
    wait_until(lambda: copies(folder, "trusted0")[0] > 0)
    assert [flow["received"] for flow in front.finish()["flows"]] == [PACKETS] * 2 * len(ports)
    for name, keys in ports.items():
        begun, ended = copies(folder, name)
        assert begun == ended and (begun >= 2 * PACKETS if "dma" in keys else begun == 0), (name, begun, ended)


def test_memory_that_is_not_allocated_is_left_to_the_worker(start, check, folder):
    daemon = start(one={"dma": ENGINE})
    front = check(folder / "one.sock")
    front.wait_received(PACKETS)
    assert copies(folder, "one") == [0, 0]
    front.stop()
    assert "the front end's memory was not allocated" in daemon.log


@pytest.mark.plain_only
def test_large_packets_and_checksums(start, check, folder):
    start(one={"dma": ENGINE})
    for options in (["--tso", "60000", "--guest-offload"], ["--csum"]):
        result = check(folder / "one.sock", packets=1000, options=options, allocated=True).finish()
        assert (result["whole"], result["segmented"]) == (1000, 0)


def test_front_ends_go_while_copies_are_under_way(start, check, folder):
    """A packet that were lost with its copy would be missing in the pool of all ports."""
    daemon = start(one={"dma": ENGINE}, two={"dma": ENGINE})
    other = check(folder / "two.sock", "packed", queues=2, allocated=True)
    other.wait_received()
    wait_until(lambda: copies(folder, "two")[0] > 0)
    for turn in range(4):
        front = check(folder / "one.sock", ("split", "packed")[turn % 2], queues=2, sizes="1518",
                      allocated=True)
        front.wait_received(2000)
        if turn < 2:
            front.kill()
        else:
            front.restart_ports()
            front.wait_each(500)
            front.stop()
    check(folder / "one.sock", packets=PACKETS, allocated=True).finish()
    other.stop()
    assert daemon.running()
    begun, ended = copies(folder, "one")
    assert begun == ended


@pytest.mark.plain_only
def test_a_back_end_goes_while_copies_are_under_way(start, check, folder):
    path = folder / "front.sock"
    daemon = start(one={"dma": ENGINE, "connect": path})
    front = check(path, queues=2, server=True, reconnect=True, allocated=True)
    front.wait_received(1000)
    for end in (daemon.stop, daemon.kill):
        end()
        daemon.start()
        front.wait_each(1000)
    assert front.stop()["reconnects"] == 2


@pytest.mark.plain_only
@pytest.mark.parametrize("keys, why", [
    ({"dma": "nobody"}, "dma=nobody: EAL has no DMA device of this name"),
    ({"dma": ENGINE, "datapath": "direct"}, f"dma={ENGINE}: takes datapath=librte_vhost"),
    ({"dma": ENGINE, "iommu": "on"}, f"dma={ENGINE}: serves no vIOMMU, leave out iommu=on"),
    ({"dma": "x" * 64}, "no DMA device has so long a name")])
def test_what_cannot_be_is_refused(start, keys, why):
    daemon = start(wait=False, one=keys)
    assert daemon.process.wait(60) != 0
    assert why in daemon.log
