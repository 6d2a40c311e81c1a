# SPDX-License-Identifier: BSD-3-Clause
"""How long requests of a disk take, measured by vhubd while front ends use it: device_latency and vhubctl."""

import re

import pytest

from control import Control, Refused, vhubctl
from perf import Perf, vhub_perf
from vhostuser import BlkDisk, pattern
from vhubd import worker_arguments

PERCENTILES = ["p50", "p90", "p99", "p99_9", "p99_99", "max"]
VERIFY = ["--verify", "--rw", "randrw", "--size", "4M", "--queues", "2", "--iodepth", "16"]


@pytest.fixture
def path(folder):
    return folder / "control.sock"


@pytest.fixture
def disk(vhubd, blk, folder, path):
    """Starts a disk of that driver with two queues, each on a worker of its own; its socket."""

    def make(driver):
        options = {"size": "8M"}
        if driver == "uring":
            (folder / "image").write_bytes(bytes(8 << 20))
            options = {"path": folder / "image"}
        vhubd(blk("disk", driver=driver, queues=2, lcores=2, **options), eal=worker_arguments(2),
              args=["--control", str(path)])
        return folder / "disk.sock"

    return make


def figures(control):
    control.settle()
    return control.call("device_stats", name="disk")[0]["figures"]


@pytest.mark.parametrize("driver", ["malloc", "uring"])
def test_each_request_is_measured(disk, path, driver):
    """No less of them than were answered, and no longer than the front end has waited."""
    socket = disk(driver)
    with Control(path) as control:
        assert vhub_perf("blk", "--socket", socket, *VERIFY, runtime="0.1").status == 0
        assert control.call("device_latency", name="disk") == {"name": "disk", "measuring": False}
        assert control.call("device_latency", name="disk", measure=True)["latency_us"] == {}
        before = figures(control)
        run = vhub_perf("blk", "--socket", socket, *VERIFY, runtime="0.5")
        after = figures(control)
        measured = control.call("device_latency", name="disk")
        queues = control.call("device_stats", name="disk")[0]["queues"]
    assert run.status == 0, run
    assert all(queue["read_requests"] and queue["write_requests"] for queue in queues)
    assert len({queue["lcore"] for queue in queues}) == 2
    assert measured["measuring"] and measured["seconds"] >= 0.5
    assert set(measured["latency_us"]) == {"read", "write"}
    for operation, each in measured["latency_us"].items():
        assert each["count"] == after[operation + "_requests"] - before[operation + "_requests"]
        assert each["count"] == sum(count for _, count in each["buckets"])
        times = [each[name] for name in PERCENTILES]
        assert 0 < each["mean"] <= each["max"] and 0 < times[0] and times == sorted(times), each
        bounds = [bound for bound, _ in each["buckets"]]
        # The greatest is in the last bucket, to the half of a nanosecond that each is rounded by.
        assert bounds == sorted(bounds) and bounds[-1] / 2 - 0.001 <= each["max"] <= bounds[-1] + 0.001, each
    count = sum(each["count"] for each in measured["latency_us"].values())
    assert count == run.report["lat_ns"]["count"]
    mean_ns = sum(each["count"] * each["mean"] for each in measured["latency_us"].values()) / count * 1000
    assert mean_ns <= run.report["lat_ns"]["mean"] + 1


def test_it_begins_and_ends_while_queues_move_under_load(disk, path):
    socket = disk("malloc")
    load = Perf("blk", "--socket", socket, *VERIFY, runtime="2")
    rounds = 0
    with Control(path) as control:
        while load.process.poll() is None:
            for number in range(8):
                begun = control.call("device_latency", name="disk", measure=True)
                assert begun["measuring"]
                ended = control.call("device_latency", name="disk", measure=number % 2 == 0)
                assert ended["measuring"] == (number % 2 == 0)
            control.call("device_latency", name="disk", measure=True)
            try:
                for queue in (0, 1):
                    control.call("queue_move", name="disk", queue=queue, lcore=1 + (queue + rounds) % 2)
            except Refused as error:
                # It ends in between.
                assert error.code == -32008, error
            rounds += 1
    run = load.finish()
    assert run.status == 0 and run.report["counts"]["checked"] > 0 and rounds > 2, (rounds, run)


def test_what_is_asked_for_is_checked_and_shown(vhubd, blk, net, folder, path):
    vhubd(blk("disk"), nets=[net("port")], args=["--control", str(path)])
    assert "is not measured" in vhubctl(path, "latency", "disk").stdout
    assert vhubctl(path, "latency", "disk", "on").stdout == "disk is measured from now on\n"
    with Control(path) as control, BlkDisk.open(str(folder / "disk.sock")) as disk:
        for params, code, words in [({"name": "port"}, -32602, "port is no disk"),
                                    ({"name": "port", "measure": True}, -32602, "port is no disk"),
                                    ({"name": "port", "measure": False}, -32602, "port is no disk"),
                                    ({"name": "none"}, -32001, "none"),
                                    ({"name": "disk", "measure": 1}, -32602, "boolean")]:
            with pytest.raises(Refused, match=words) as caught:
                control.call("device_latency", **params)
            assert caught.value.code == code
        disk.write(0, pattern(1, 4096))
        for sector in range(3):
            disk.read(sector, 512)
        control.settle()
    for words in ([], ["off"]):
        shown = vhubctl(path, "latency", "disk", *words).stdout
        assert re.search(r"^disk (has been|was) measured for [0-9.]+ s$", shown, re.MULTILINE), shown
        assert re.search(r"^OPERATION  REQUESTS +MEAN +P50 +P90 +P99 +P99\.9 +P99\.99 +MAX$", shown, re.MULTILINE), shown
        assert re.search(r"^read +3( +[0-9.]+ [mun]?s){7}$", shown, re.MULTILINE), shown
        assert re.search(r"^write +1( +[0-9.]+ [mun]?s){7}$", shown, re.MULTILINE), shown
        assert re.search(r"^LESS THAN +READ +WRITE$", shown, re.MULTILINE), shown
    assert "is not measured" in vhubctl(path, "latency", "disk").stdout
    assert vhubctl(path, "latency", "disk", "maybe").returncode == 2
    assert "latency" not in vhubctl(path, "save").stdout
