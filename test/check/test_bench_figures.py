# SPDX-License-Identifier: BSD-3-Clause
"""What vhub-bench makes of figures: medians, ratios, limits, tables, plots and the report, from results
made up here. That it still measures is held by test/e2e/test_bench.py."""

import copy
import json
import math
import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import pytest

from tree import ROOT

for each in (ROOT / "usertools", ROOT / "test/e2e", ROOT / "test/conformance"):
    sys.path.insert(0, str(each))

from bench import cases, line, plots, report, runner, setting, stats  # noqa: E402
from bench.backends import Missing, OpenVswitch, StorageDaemon, VhostTestpmd  # noqa: E402
from testpmd import eal_arguments  # noqa: E402
from vhubd import ProgramError  # noqa: E402

LATENCY = {"p50": 1000, "p90": 2000, "p99": 5000, "p99.9": 9000, "max": 20000}
PNG = b"\x89PNG\r\n\x1a\n"


def run(value, **more):
    return {"value": value, "bytes_per_s": value * 4096, "front_busy": 0.4, "back_busy": 0.99, **more}


def side(name, runs, peer=False):
    """A side whose run() gives these, one after the other."""
    left = list(runs)

    def turn(_setting, _folder):
        told = left.pop(0)
        if isinstance(told, Exception):
            raise told
        return copy.deepcopy(told)
    return cases.Side(name, turn, peer)


class Nowhere:
    """A setting in which nothing is started."""

    def __init__(self, tmp_path, ways=()):
        self.tmp_path = tmp_path
        left = list(ways)
        self.line = line.Line((0, 1), look=lambda _cpus: left.pop(0) if left else None)

    def run_folder(self):
        folder = self.tmp_path / "run"
        folder.mkdir()
        return folder


def group(**more):
    return cases.Group(**{"name": "made-up", "title": "A made-up group", "x_label": "queue depth", "unit": "IOPS",
                          **more})


def measured(tmp_path, sides, x=32, runs=3, ways=(), goals=None, **more):
    made = group(**more)
    made.add(str(x), x, sides)
    made.cases[0].goals = goals or {}
    return runner.measure(made.cases[0], Nowhere(tmp_path, ways), runs)


def three(*values, **more):
    return [run(value, **more) for value in values]


def side_named(case, name):
    return next(each for each in case["sides"] if each["name"] == name)


# --- figures

def test_a_summary_has_the_median_and_both_ends():
    done = stats.summary(three(5.0, 1.0, 3.0, lat_ns=LATENCY))
    assert (done["median"], done["least"], done["most"], done["runs"]) == (3.0, 1.0, 5.0, 3)
    assert done["lat_ns"]["p99"] == {"median": 5000, "least": 5000, "most": 5000}
    assert done["back_busy"] == 0.99


def test_a_failed_run_leaves_no_summary():
    assert stats.summary([run(1), {"error": "x"}]) is None
    assert stats.summary([]) is None


def test_what_one_run_does_not_know_the_summary_does_not_know():
    done = stats.summary([run(1), {"value": 2.0, "front_busy": None}])
    assert done["front_busy"] is None and done["bytes_per_s"] is None and "lat_ns" not in done


@pytest.mark.parametrize("front, back, told", [
    (0.99, 0.5, "front end"), (0.5, 0.96, "back end"), (1.0, 1.0, "both"), (0.3, 0.3, "neither"),
    (None, 1.0, "unknown"), (0.99, None, "front end"), (0.5, None, "unknown")])
def test_the_limit_is_the_side_without_time_left(front, back, told):
    assert stats.limit(front, back) == told


def test_slope():
    assert stats.slope([(1, 12.0), (3, 16.0), (5, 20.0)]) == pytest.approx(2.0)
    assert stats.slope([(1, 12.0)]) is None


@pytest.mark.parametrize("value, text", [(0, "0.00 "), (999, "999 "), (1234, "1.23 k"), (45_600_000, "45.6 M"),
                                         (7.8e9, "7.80 G")])
def test_figures_have_three_digits(value, text):
    assert stats.scaled(value) == text


@pytest.mark.parametrize("value, text", [(40.1, "40.1 ns"), (4068, "4068 ns"), (24603, "24.6 µs"), (2.1e8, "210 ms")])
def test_times_have_the_unit_that_suits_them(value, text):
    assert report.figure(value, "ns") == text


@pytest.mark.parametrize("ratio, goal, unit, met", [
    (1.5, 1.4, "IOPS", True), (1.3, 1.4, "IOPS", False), (0.9, 1, "ns", True),
    (1.1, 1.05, "cycles", False)])
def test_a_goal_is_the_least_or_the_most_where_less_is_better(ratio, goal, unit, met):
    assert stats.is_met(ratio, goal, unit) == met
    assert report.goal_text(ratio, goal, unit).endswith(": missed)") != met


def test_the_span_of_a_ratio_is_what_any_two_of_the_runs_allow():
    ours = stats.summary(three(2, 4, 3))
    assert stats.span(ours, stats.summary(three(1, 2, 1))) == (1.0, 4.0)
    assert stats.span(ours, stats.summary(three(0, 2, 1))) == (1.0, math.inf)


# --- turns

def test_sides_take_turns(tmp_path):
    order = []

    def turn(name):
        def go(_setting, _folder):
            order.append(name)
            return run(len(order))
        return go
    case = measured(tmp_path, [cases.Side("a", turn("a")), cases.Side("b", turn("b"), True)])
    assert "".join(order) == "ababab"
    assert [each["value"] for each in side_named(case, "a")["runs"]] == [1, 3, 5]
    assert case["ratios"] == {"a": {"b": 3 / 4}}


def test_runs_with_cpus_apart_are_left_out(tmp_path):
    """A run has the longer of the ways before and after it: a, b, a, b, a, b."""
    case = measured(tmp_path, [side("a", three(10, 2, 12)), side("b", three(5, 6, 1), True)],
                    ways=[100, 102, 101, 480, 105, 104, 490])
    kept = [[each["line_ns"] for each in one["runs"] if not each["left_out"]] for one in case["sides"]]
    assert kept == [[102, 105], [102]]
    assert case["ratios"] == {"a": {"b": 11 / 5}}
    assert "(3 of 6 runs left out: the CPUs were further apart)" in report.table_rows(case)


def test_runs_in_which_a_cpu_was_away_for_longer_are_left_out(tmp_path):
    """Than in others of the same side: for a side whose own work takes the CPU that is as it is."""
    calm, away = {"lost": 0.01, "paused": 0.04}, {"lost": 0.2, "paused": 0.04}
    case = measured(tmp_path, [side("a", [run(10, **calm), run(2, **away), run(12, **calm)]),
                               side("b", [run(5, lost=0.4, paused=0.3), run(7, lost=0.42, paused=0.5), run(1, lost=0.9)],
                                    True)])
    assert [[each["left_out"] for each in one["runs"]] for one in case["sides"]] == \
        [[None, "away", None], [None, "away", "away"]]
    assert case["ratios"] == {"a": {"b": 11 / 5}}
    assert "(3 of 6 runs left out: a CPU was away for longer)" in report.table_rows(case)


@pytest.mark.parametrize("ways", [[480, 480, 480, 100, 480, 480, 480], [100, 100, None, 100, 100, 100, 100]],
                         ids=["never-for-one", "not-known"])
def test_no_run_is_left_out_where_a_side_would_have_none(tmp_path, ways):
    case = measured(tmp_path, [side("a", three(10, 2, 12)), side("b", three(5, 6, 1), True)], ways=ways)
    assert case["ratios"] == {"a": {"b": 10 / 5}} and "left out" not in report.table_rows(case)


def test_it_waits_for_cpus_that_were_moved_apart():
    ways, slept = [100, 480, 470, 110, 480, 490, 500], []
    told = []
    one = line.Line((0, 1), patience=4, look=lambda _cpus: ways.pop(0), sleep=slept.append)
    assert one.around(lambda: {"value": 1}, told.append)["line_ns"] == 480 and not slept
    assert one.around(lambda: {"value": 2}, told.append)["line_ns"] == 480 and len(slept) == 2
    one.before_run(told.append)
    assert len(slept) == 4 and not one.patience and "takes 480 ns, not 100" in told[0]


def test_no_ratio_when_a_run_failed(tmp_path):
    """The failure is shown, and the side is not asked again."""
    why = ProgramError("front ended\ncommand: front --x\n--- last lines of what it said ---\nboom")
    case = measured(tmp_path, [side("vhub", three(2, 2, 2)), side("bad", [run(1), why], True),
                               side("good", three(1, 1, 1), True)])
    assert case["ratios"] == {"vhub": {"good": 2.0}}
    assert side_named(case, "bad")["summary"] is None
    table = report.table_rows(case)
    assert "front --x" in table and "boom" in table and "x bad" not in table
    case = measured(tmp_path, [side("vhub", [why]), side("good", three(1, 1, 1), True)])
    assert case["ratios"] == {}


def test_what_cannot_be_measured_says_what_would_help(tmp_path):
    case = measured(tmp_path, [side("vhub", three(2, 2, 2)),
                               side("peer", [Missing("peer not installed: apt-get install peer")], True)])
    assert side_named(case, "peer")["missing"] and not side_named(case, "peer")["runs"]
    assert case["ratios"] == {"vhub": {}}
    assert "not measured: peer not installed: apt-get install peer" in report.table_rows(case)


@pytest.mark.parametrize("make, package", [
    (VhostTestpmd, "dpdk-dev"), (OpenVswitch, "openvswitch-switch-dpdk"),
    (lambda where, folder: StorageDaemon(where, folder, ""), "qemu-system-common"),
], ids=["testpmd", "ovs", "qsd"])
def test_a_peer_that_is_not_installed_is_left_out(monkeypatch, tmp_path, make, package):
    monkeypatch.setenv("PATH", str(tmp_path))
    case = measured(tmp_path, [cases.Side("peer", lambda where, folder: make(where, folder), True)])
    assert "not installed: apt-get install" in side_named(case, "peer")["missing"]
    assert package in side_named(case, "peer")["missing"]


@pytest.mark.parametrize("losetup", [None, "#!/bin/sh\necho Permission denied >&2\nexit 1\n"], ids=["gone", "refused"])
def test_without_loop_devices_their_sides_are_left_out(monkeypatch, tmp_path, losetup):
    if losetup:
        (tmp_path / "losetup").write_text(losetup)
        (tmp_path / "losetup").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    case = measured(tmp_path, [cases.Side("vhub", lambda where, folder: setting.Loop(folder / "disk.img"))])
    said = "Permission denied; loop devices need root" if losetup else "apt-get install --no-install-recommends mount"
    assert said in side_named(case, "vhub")["missing"]


def test_without_zram_its_sides_are_left_out(monkeypatch, tmp_path):
    monkeypatch.setattr(setting.Zram, "CONTROL", tmp_path / "none")
    case = measured(tmp_path, [cases.Side("vhub", lambda where, folder: setting.Zram(1))])
    assert "the kernel's module zram" in side_named(case, "vhub")["missing"]


# --- the list of cases

def test_cases_have_names_of_their_own_and_sides():
    every = [case for each in cases.groups() for case in each.cases]
    names = [case.name for case in every]
    assert len(set(names)) == len(names)
    assert all(len({each.name for each in case.sides}) == len(case.sides) > 0 for case in every)
    quick = cases.cases(cases.groups(), "quick")
    assert 0 < len(quick) < len(every) == len(cases.cases(cases.groups(), "full"))


def test_only_chooses_cases_and_groups():
    found = cases.cases(cases.groups(), "quick", ["scale-idle", "net-echo-split-256"])
    assert [case.name for case in found] == ["net-echo-split-256", *(f"scale-idle-{count}" for count in cases.DEVICES)]
    with pytest.raises(KeyError):
        cases.cases(cases.groups(), "quick", ["nothing"])


def test_the_guide_names_every_group():
    text = (ROOT / "doc/guides/benchmarks.rst").read_text()
    missing = [each.name for each in cases.groups() if f"``{each.name}``" not in text]
    assert not missing, missing


def test_each_goal_is_for_a_case_and_its_sides(monkeypatch):
    """And none is hidden by another one: without it the goals are others."""
    def goals():
        return {case.name: case.goals for each in cases.groups() for case in each.cases}
    every = goals()
    assert every["net-echo-split-64"] == {"vhub": {"net_vhost": 1.4},
                                          "vhub librte_vhost": {"net_vhost": 0.97}}
    assert every["blk-loop-read-qd32"] == {"vhub": {"qemu-storage-daemon io_uring": 1.5,
                                                    "qemu-storage-daemon native": 1.5}}
    assert every["scale-idle-1"] == {}
    for goal in cases.GOALS:
        monkeypatch.setattr(cases, "GOALS", [each for each in cases.GOALS if each != goal])
        assert goals() != every, goal
        monkeypatch.undo()


# --- where it measures

def test_cpus_are_cores_of_one_package():
    def where(cpu):                     # 0 and 4, 1 and 5, ... are threads of a core; 2 and 3 are elsewhere
        return (cpu % 4 // 2, cpu % 4)
    assert setting.choose_cpus({0, 1, 2, 3, 4, 5, 6, 7}, where) == [0, 1, 2]
    assert setting.choose_cpus({0, 4}, where) == [0, 4]
    assert setting.choose_cpus({4, 5, 0}, where) == [0, 5, 4]
    assert setting.choose_cpus({3}, where) == [3]


@pytest.mark.parametrize("worker", ["gw0", "gw1"])
def test_a_side_has_its_own_cpu_beside_other_tests_too(monkeypatch, worker):
    """Among pytest's processes the CPUs of the helpers of test/e2e are in turn."""
    monkeypatch.setenv("PYTEST_XDIST_WORKER", worker)
    allowed = os.sched_getaffinity(0)
    where = setting.Setting(huge=False)
    try:
        for cpu in where.cpus:
            assert eal_arguments(where.place(cpu), 1, 64)[-1] == f"--lcores=0@{cpu}"
    finally:
        where.close()
        os.sched_setaffinity(0, allowed)


# --- output

def results(tmp_path):
    every = []
    for x in (1, 32, 128):
        lat = {key: value * x for key, value in LATENCY.items()}
        every.append(measured(tmp_path, [
            side("vhub", three(1e6 * x, 1.1e6 * x, 0.9e6 * x, lat_ns=lat)),
            side("peer <one>", three(4e5 * x, 5e5 * x, 4.5e5 * x, lat_ns=lat), True),
            side("broken", [ProgramError("broken & <gone>")], True)], x=x,
            goals={"vhub": {"peer <one>": 2 if x < 128 else 2.5, "broken": 1}}))
    every += [measured(tmp_path, [side("vhub", three(20.0 + x, 21.0 + x, 22.0 + x))], x=x, name="scale-idle", unit="ns")
              for x in (1, 64)]
    every.append(measured(tmp_path, [side("vhub", three(7, 8, 9))], name="single"))
    return {"version": 1, "when": "now", "command": "vhub-bench quick", "machine": {"CPU": "made <up>"},
            "arguments": {"suite": "quick", "runs": 3, "seconds": 0.5}, "cases": every}


def check_output(folder):
    names = {"made-up", "made-up-latency", "scale-idle", "single", "ratios"}
    assert {path.name for path in (folder / "plots").iterdir()} == {f"{name}.{suffix}" for name in names
                                                                    for suffix in ("svg", "png")}
    for name in names:
        assert (folder / "plots" / f"{name}.png").read_bytes().startswith(PNG)
        assert ElementTree.parse(folder / "plots" / f"{name}.svg").getroot().tag.endswith("svg")
        assert " \n" not in (folder / "plots" / f"{name}.svg").read_text()
    page = (folder / "report.html").read_text()
    assert page.count("<svg") == len(names)
    assert page.count("(≥ 2)") == 2 and page.count("(≥ 2.5: missed)") == 1
    assert "broken &amp; &lt;gone&gt;" in page and "made &lt;up&gt;" in page and "2.22 x peer &lt;one&gt;" in page
    assert "src=" not in page and "href=\"http" not in page


def test_the_report_stands_alone_and_can_be_drawn_anew(tmp_path):
    out = tmp_path / "out"
    made = results(tmp_path)
    report.write(made, out)
    check_output(out)
    assert json.loads((out / "results.json").read_text()) == made
    assert report.conclusions(made) == ["vhub: one more idle device costs a poll turn 1.0 ns"]
    (out / "report.html").unlink()
    (out / "plots/of-an-earlier-run.svg").write_text("")
    done = subprocess.run([ROOT / "usertools/vhub-bench", "--redraw", out], capture_output=True, text=True, check=False,
                          timeout=60)
    assert done.returncode == 0, done.stderr
    check_output(out)


def test_a_plot_shows_medians_ends_and_units(tmp_path):
    made = results(tmp_path)
    found, chosen = plots.by_group(made)[0]
    assert plots.points(chosen, "vhub") == [(x, 1e6 * x, 0.9e6 * x, 1.1e6 * x) for x in (1, 32, 128)]
    assert plots.points(chosen, "broken") == []
    with plots.plt.rc_context(plots.STYLE):
        figure, axes = plots.plt.subplots()
        plots.draw_lines(axes, found, chosen)
        assert axes.get_xlabel() == "queue depth" and axes.get_ylabel() == "throughput, million IOPS"
        assert [text.get_text() for text in axes.get_xticklabels()] == ["1", "32", "128"]
        colours = {each.lines[0].get_color() for each in axes.containers}
        assert len(colours) == len(axes.containers) == 2
        plots.plt.close(figure)


def test_the_plot_of_ratios_has_rows_points_bars_and_goals(tmp_path):
    made = results(tmp_path)
    (found, chosen), *rest = plots.by_group(made)
    rows = plots.ratio_rows(found, chosen)
    assert [row[0] for row in rows] == [f"{x}: vhub / peer <one>" for x in (1, 32, 128)]
    assert [row[1] for row in rows] == [pytest.approx(1 / 0.45)] * 3
    assert [row[2] for row in rows] == [pytest.approx((0.9 / 0.5, 1.1 / 0.4))] * 3
    assert [row[3:] for row in rows] == [(2, False), (2, False), (2.5, True)]
    assert not any(plots.ratio_rows(*each) for each in rest)
    least, most = plots.ratio_limits(rows)
    assert least < 1 and most > 2.75
    assert plots.ratio_limits([("", 2.0, (0.0, math.inf), None, False)]) == (0.5, 4.0)
    del made["cases"][0]["goals"]
    assert plots.ratio_rows(found, chosen)[0][3:] == (None, False)
    made["cases"] = made["cases"][3:]
    assert plots.plot_ratios(made, tmp_path) is None


def test_reports_of_several_folders_are_drawn_together(tmp_path):
    made = results(tmp_path)
    later = {**copy.deepcopy(made), "when": "later", "cases": copy.deepcopy(made["cases"][2:])}
    later["cases"][0]["x"] = 256
    del later["cases"][0]["goals"]
    for name, each in (("a", made), ("b", later)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "results.json").write_text(json.dumps(each))
    command = [ROOT / "usertools/vhub-bench", "--redraw", tmp_path / "a", tmp_path / "b"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2 and "--out" in done.stderr
    done = subprocess.run([*command, "--out", tmp_path / "both"], capture_output=True, text=True,
                          check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    both = json.loads((tmp_path / "both/results.json").read_text())
    assert [case["x"] for case in both["cases"]] == [1, 32, 256, 1, 64, 32]
    assert both["when"] == "now; later" and both["machine"] == made["machine"]
    assert all("goals" in case for case in both["cases"])
    assert (tmp_path / "both/plots/ratios.png").exists() and not (tmp_path / "a/plots").exists()


# --- the command line

@pytest.mark.parametrize("words, told", [(["--only", "nothing"], "nothing"), (["--runs", "0"], "allowed are 1"),
                                         (["--cpus", "0"], "wanted are"), (["slow"], "quick")])
def test_a_wrong_command_line_ends_with_2(words, told):
    done = subprocess.run([ROOT / "usertools/vhub-bench", *words], capture_output=True, text=True, check=False,
                          timeout=60)
    assert done.returncode == 2 and told in done.stderr
