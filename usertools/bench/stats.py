# SPDX-License-Identifier: BSD-3-Clause
"""Figures of runs: medians, ratios, slopes, and which side was the limit.

Used by runner.py and report.py; works on plain numbers and on the dictionaries of results.json, starts
nothing. A run is a dictionary with `value`, or with `error` and no value.
"""

import math
import statistics

#: A side whose lcore found something to do in this share of its time had no time left.
BUSY = 0.95

#: Units in which less is better, so that a goal is the most that a ratio may be, not the least.
LESS_IS_BETTER = ("ns", "cycles")

#: CPUs are near each other while a cache line takes no more than this times the shortest way.
NEAR = 1.5

#: A run in which a CPU was away for that much more of the time than in another one is no equal of it.
AWAY = 0.05


def failed(runs):
    return not runs or any("error" in run for run in runs)


def is_near(line_ns, least_ns):
    return line_ns <= NEAR * least_ns


def leave_out(sides):
    """Marks the runs of a case, [{runs}], that compare with none of the others: during which the CPUs were further
    apart than during others, if each side has one that stays ("apart"); during which a CPU was away for AWAY more of
    the time than in another run of that side ("away"). Where not every way is known, none is "apart"; a share that
    is not known counts as none."""
    runs = [run for side in sides for run in side["runs"] if "error" not in run]
    for run in runs:
        run["left_out"] = None
    lines = [[run.get("line_ns") for run in side["runs"]] for side in sides if not failed(side["runs"])]
    if lines and not any(None in each for each in lines):
        least = min(map(min, lines))
        if all(is_near(min(each), least) for each in lines):
            for run in runs:
                run["left_out"] = None if is_near(run["line_ns"], least) else "apart"
    for side in sides:
        left = [run for run in side["runs"] if "error" not in run and not run["left_out"]]
        for run in left:
            run["left_out"] = "away" if away(run) > min(map(away, left)) + AWAY else None


def away(run):
    """The larger of the shares of a run's time in which one of the two sides had no CPU, as far as that is known."""
    return max(run.get("lost") or 0.0, run.get("paused") or 0.0)


def middle(runs, key):
    """The median of what the runs say under the key; None where one of them does not say."""
    values = [run.get(key) for run in runs]
    return None if not values or None in values else statistics.median(values)


def summary(runs):
    """{median, least, most, runs}, and the medians of what else is known; None when a run failed: what
    is left of such a side would flatter it."""
    if failed(runs):
        return None
    left_out = sum(bool(run.get("left_out")) for run in runs)
    runs = [run for run in runs if not run.get("left_out")]
    values = [run["value"] for run in runs]
    out = {"median": statistics.median(values), "least": min(values), "most": max(values), "runs": len(values),
           "left_out": left_out}
    for key in ("bytes_per_s", "front_busy", "back_busy", "paused", "line_ns"):
        out[key] = middle(runs, key)
    out["lost"] = max((run["lost"] for run in runs if run.get("lost") is not None), default=None)
    percentiles = [run["lat_ns"] for run in runs if run.get("lat_ns")]
    if len(percentiles) == len(runs):
        names = [name for name in percentiles[0] if all(name in each for each in percentiles)]
        out["lat_ns"] = {name: spread(each[name] for each in percentiles) for name in names}
    return out


def spread(values):
    values = list(values)
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}


def ratios(sides):
    """{name of one of ours: {name of a peer: ratio of the medians}} of [{name, peer, summary}]. No
    ratio where one of the two has failed."""
    out = {}
    for ours in sides:
        if ours["peer"] or not ours.get("summary"):
            continue
        out[ours["name"]] = {peer["name"]: ours["summary"]["median"] / peer["summary"]["median"]
                             for peer in sides
                             if peer["peer"] and peer.get("summary") and peer["summary"]["median"] > 0}
    return out


def span(ours, peer):
    """The least and the most ratio that the runs of two summaries allow, whichever one compares."""
    return (ours["least"] / peer["most"],
            ours["most"] / peer["least"] if peer["least"] else math.inf)


def is_met(ratio, goal, unit):
    return ratio <= goal if unit in LESS_IS_BETTER else ratio >= goal


def limit(front, back):
    """Which side had no time left, by the busy shares of both. A front end that has none left is the limit
    though nobody knows the other side's."""
    if front is None or (back is None and front < BUSY):
        return "unknown"
    sides = [name for name, share in (("front end", front), ("back end", back)) if share is not None and share >= BUSY]
    return {0: "neither", 1: sides[0] if sides else "", 2: "both"}[len(sides)]


def slope(points):
    """Of the straight line through [(x, y)], by least squares; None without two different x."""
    xs = [x for x, _ in points]
    if len(set(xs)) < 2:
        return None
    return statistics.linear_regression(xs, [y for _, y in points]).slope


def scaled(value):
    """1234567 -> "1.23 M": three digits and a decimal prefix."""
    for factor, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= factor:
            value /= factor
            return f"{value:.{digits(value)}f} {prefix}"
    return f"{value:.{digits(value)}f} "


def digits(value):
    """How many digits after the point make three in all."""
    return 2 if abs(value) < 10 else 1 if abs(value) < 100 else 0
