# SPDX-License-Identifier: BSD-3-Clause
"""vhub-bench measures: its smallest cases with every kind of side, once and briefly. The figures are nobody's
business here; that there are some is."""

import json
import os
import subprocess

import pytest

from vhubd import ROOT, build_dir

CASES = ["blk-malloc-size-4k", "net-echo-split-64", "net-perf-pair-split-64", "scale-idle-4", "scale-one-busy-4"]


@pytest.mark.plain_only
def test_vhub_bench_measures_and_reports(folder):
    done = subprocess.run([ROOT / "usertools/vhub-bench", "--only", *CASES, "--runs", "1", "--seconds", "0.3",
                           "--no-huge", "--out", folder / "out"], capture_output=True, text=True,
                          check=False, timeout=230,
                          env=dict(os.environ, VHUB_BUILD=str(build_dir()), TMPDIR=str(folder)))
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads((folder / "out/results.json").read_text())
    assert [case["name"] for case in results["cases"]] == CASES
    for case in results["cases"]:
        for side in case["sides"]:
            assert side["missing"] is None and side["summary"]["median"] > 0, (case["name"], side)
            assert side["commands"], (case["name"], side["name"])
    disk, echo, *_ = results["cases"]
    assert set(disk["ratios"]) == {"vhub split", "vhub packed"} and "memcpy" in disk["ratios"]["vhub split"]
    assert set(echo["ratios"]) == set(echo["goals"]) == {"vhub", "vhub librte_vhost"}
    for side in [*disk["sides"], *echo["sides"]]:
        assert 0 <= side["summary"]["back_busy"] <= 1, side
        assert side["name"] == "memcpy" or 0 < side["summary"]["front_busy"] <= 1, side
    assert all(side["summary"]["lat_ns"]["p99"]["median"] > 0 for side in disk["sides"] if side["name"] != "memcpy")
    assert results["machine"]["kernel"] and results["machine"]["vhubd"].startswith("vhubd ")
    assert (folder / "out/report.html").stat().st_size > 10000
    assert (folder / "out/plots/ratios.svg").stat().st_size > 10000
    # Nothing is left of what it has started.
    assert [path.name for path in folder.iterdir()] == ["out"]
