# SPDX-License-Identifier: BSD-3-Clause
"""vhub-perf net with ports of dpdk-testpmd. In a file of its own and one after the other: it spins as long as it runs."""

import pytest

from perf_net import RINGS, came_back, exchanged, good, perf
from testpmd import EchoTestpmd, Testpmd

pytestmark = [pytest.mark.plain_only, pytest.mark.xdist_group("testpmd")]


@pytest.fixture(scope="module")
def testpmd(place):
    """Its net_vhost port sends back what comes, with addresses swapped."""
    with EchoTestpmd(f"t,socket={place}/testpmd.sock,queues=2", folder=place, name="echo-testpmd"):
        yield place / "testpmd.sock"


@pytest.fixture(scope="module")
def couple(place):
    """Two net_vhost ports of one testpmd, what comes from one goes to the other; its prompt, the paths."""
    paths = [place / "a.sock", place / "b.sock"]
    eal = [word for i, path in enumerate(paths)
           for word in ("--vdev", f"net_vhost{i},iface={path},queues=2")]
    with Testpmd(eal, folder=place, cpu=1, name="couple",
                 args=["--auto-start", "--forward-mode=io", "--rxq=2", "--txq=2"]) as program:
        yield program, *paths


@pytest.mark.parametrize("ring", [ring for ring in RINGS if ring != "offloads"])     # of which it carries none
def test_packets_come_back_from_testpmd(testpmd, ring):
    came_back(perf("--socket", testpmd, *RINGS[ring]))


@pytest.mark.parametrize("ring", ["split", "small-buffers", "queues", "packed", "packed-poll"])
def test_a_pair_exchanges_packets_through_testpmd(couple, ring):
    exchanged(couple[1:], ring)


@pytest.mark.parametrize("packed", [[], ["--packed"]], ids=["split", "packed"])
def test_testpmd_as_a_sink_and_as_a_source(couple, packed):
    program, path, _ = couple
    for forward, mode in (("rxonly", "tx"), ("txonly", "rx"), ("io", None)):
        program.cmd("stop")
        program.cmd(f"set fwd {forward}")
        program.cmd("start")
        if mode:
            good(perf("--mode", mode, "--socket", path, *packed))
