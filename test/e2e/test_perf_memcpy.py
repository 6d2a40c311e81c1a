# SPDX-License-Identifier: BSD-3-Clause
"""vhub-perf memcpy: copies without a back end."""

import os

import pytest
from perf import vhub_perf


@pytest.mark.parametrize("order", ["randread", "read"])
def test_every_cpu_copies_and_the_report_has_every_key_of_the_guide(order):
    cpus = sorted(os.sched_getaffinity(0))[:2]
    run = vhub_perf("memcpy", "--rw", order, "--size", "4M", "--bs", "1k", "--hugepages", "off",
                    "--cpus", ",".join(str(cpu) for cpu in cpus), runtime="0.1")
    report = run.report
    assert run.status == 0 and report["ok"] and report["iops"] > 0, run
    assert report["parameters"] == {"rw": order, "bs": 1024, "iodepth": 32, "size": 4 << 20, "hugepages": False}
    assert report["lat_ns"] is None and report["errors"] == report["counts"] == {}
    assert [lcore["cpu"] for lcore in report["lcores"]] == cpus
    assert all(queue["items"] > 0 for queue in report["queues"])


@pytest.mark.parametrize("args, said", [
    (["--rate", "5"], "--rate: it copies as fast as it can"),
    (["--size", "4k", "--bs", "8k"], "--size 4k: allowed are 1 to 2^32 - 1 blocks (--bs) of 8k"),
    # The kernel would promise it, and end something once it is gone.
    (["--size", "1T"], "MB of memory for the guest"),
], ids=["rate", "no-block", "more-than-there-is"])
def test_what_cannot_be_is_told(args, said):
    run = vhub_perf("memcpy", *args)
    assert run.status == 2 and said in run.said and run.report is None, run
