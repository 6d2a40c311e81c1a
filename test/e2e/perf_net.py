# SPDX-License-Identifier: BSD-3-Clause
"""vhub-perf net for its tests: kinds of rings, short runs, and what holds of a good one."""

from perf import vhub_perf

RINGS = {
    "split": [],
    "split-in-order": ["--in-order", "--touch"],
    "one-buffer": ["--mergeable", "off", "--size", "imix"],
    "small-buffers": ["--rx-buffer", "128", "--size", "64-1518", "--touch"],
    "event-idx": ["--event-idx", "--touch", "--size", "1518"],
    "indirect": ["--indirect", "--ring-size", "1024"],
    "poll": ["--poll"],
    "queues": ["--queues", "2", "--size", "imix", "--touch"],
    "packed": ["--packed"],
    "packed-in-order": ["--packed", "--in-order", "--mergeable", "off", "--touch"],
    "packed-small-buffers": ["--packed", "--rx-buffer", "200", "--size", "64-1518", "--touch"],
    "packed-event-idx": ["--packed", "--event-idx", "--ring-size", "100", "--size", "imix"],
    "packed-poll": ["--packed", "--poll", "--queues", "2", "--touch"],
    "offloads": ["--offloads", "--event-idx", "--touch", "--size", "64-1518"],
}
#: Those that differ most, in every stage.
EVERYWHERE = {"split-in-order", "small-buffers", "queues", "packed-in-order", "packed-small-buffers", "packed-poll"}


def perf(*options, runtime="0.3"):
    """Long enough for a back end that shares its CPU to get a turn."""
    return vhub_perf("net", *options, runtime=runtime)


def good(done):
    """Its report, of a run in which all was right."""
    assert done.status == 0, done
    report = done.report
    assert report["ok"] and not any(report["errors"].values()), report
    assert report["items"] > 0 and report["mpps"] > 0 and report["bytes_per_s"] >= 64 * report["mpps"]
    assert 0 < report["busy"] <= 1 and report["cycles_per_item"] > 0
    return report


def came_back(done):
    report = good(done)
    assert report["counts"]["received"] == report["counts"]["sent"] > 0
    assert 0 < report["lat_ns"]["p50"] <= report["lat_ns"]["p99"] <= report["lat_ns"]["max"]
    return report


def exchanged(paths, ring):
    report = came_back(perf("--mode", "pair", "--socket", paths[0], "--peer", paths[1], *RINGS[ring]))
    queues = report["parameters"]["queues"]
    assert [(each["device"], each["queue"]) for each in report["queues"]] == [
        (device, queue) for device in range(2) for queue in range(queues)]
    assert all(each["items"] > 0 for each in report["queues"])
    assert report["parameters"]["peers"] == [str(paths[1])]
