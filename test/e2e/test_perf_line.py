# SPDX-License-Identifier: BSD-3-Clause
"""vhub-perf line: a cache line between two CPUs, without a back end."""

import json
import os
import subprocess

import pytest

from vhubd import build_dir


def line(*args):
    return subprocess.run([build_dir() / "app/vhub-perf", "line", *args], capture_output=True, text=True, check=False,
                          timeout=120)


def test_a_line_goes_there_and_back():
    cpus = sorted(os.sched_getaffinity(0))[:2]
    done = line("--cpus", ",".join(map(str, cpus)), "--json", "-")
    told = json.loads(done.stdout)
    assert done.returncode == 0 and told["command"] == "line" and told["cpus"] == cpus, done
    assert 0 < told["least_ns"] <= told["median_ns"] <= told["most_ns"] and told["cycles"] > 0
    assert f"CPU {cpus[0]} to CPU {cpus[1]} and back: " in line("--cpus", f"{cpus[0]},{cpus[1]}").stdout


@pytest.mark.parametrize("args, said", [
    ([], "--cpus A,B is missing"), (["--cpus", "0"], "--cpus 0: two CPUs are needed"),
    (["--cpus", "0,x"], "no list of CPUs"),
], ids=["none", "one", "no-cpu"])
def test_without_two_cpus_it_says_what_is_needed(args, said):
    done = line(*args)
    assert done.returncode == 2 and said in done.stderr, done
