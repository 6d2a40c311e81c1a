# SPDX-License-Identifier: BSD-3-Clause
"""Plots of results.json, each as SVG and PNG: medians with bars from the least to the most of the runs.

Called by report.py. Colours are Okabe and Ito's, which people with any kind of colour blindness tell
apart, and each line has a marker of its own as well; peers are dashed. A group with a single point on its
x axis is drawn as bars.
"""

import re

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402
from matplotlib import ticker  # noqa: E402

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "osD^vPX"
STYLE = {"font.size": 11, "axes.titlesize": 12, "axes.grid": True, "grid.alpha": 0.35, "legend.frameon": False,
         "svg.fonttype": "path", "svg.hashsalt": "vhub-bench", "axes.spines.top": False, "axes.spines.right": False}
WIDTH = 7.6
TITLE_LETTERS = 72
LEGEND_COLUMNS = 3
PERCENTILES = (("p50", "50"), ("p90", "90"), ("p99", "99"), ("p99.9", "99.9"), ("max", "max"))
PANELS = 3


def names_of(cases):
    """Of all sides of a group, in the order in which they come."""
    out = {}
    for case in cases:
        for side in case["sides"]:
            out.setdefault(side["name"], side["peer"])
    return out


def look(index, peer):
    return {"color": COLOURS[index % len(COLOURS)], "marker": MARKERS[index % len(MARKERS)],
            "linestyle": "--" if peer else "-", "linewidth": 1.8, "markersize": 6.5, "capsize": 4}


def points(cases, name):
    """[(x, median, least, most)] of a side, where it was measured."""
    found = ((case["x"], side["summary"]) for case in cases for side in case["sides"] if side["name"] == name)
    return [(x, done["median"], done["least"], done["most"]) for x, done in found if done]


def bars_of(found):
    """The two lengths of error bars, below and above the medians."""
    return [[max(0.0, median - least) for _, median, least, _ in found],
            [max(0.0, most - median) for _, median, _, most in found]]


def divisor(values, unit):
    """(number to divide by, the unit with its prefix) so that the axis has short numbers."""
    top = max(values, default=0)
    if unit == "ns":
        return (1e3, "µs") if top >= 1e5 else (1, unit)
    for factor, prefix in ((1e9, "G"), (1e6, "million "), (1e3, "thousand ")):
        if top >= factor:
            return factor, prefix + unit
    return 1, unit


def wrapped(text):
    """In lines of a figure's width."""
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + len(word) >= TITLE_LETTERS:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(lines)


def plain_ticks(axis, values):
    axis.set_ticks(sorted(values))
    axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(ticker.NullLocator())


def log_ticks(axes):
    """1, 2, 5 and so on, where powers of ten alone would be too few."""
    least, most = axes.get_ylim()
    if most / least < 2000:
        axes.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_minor_formatter(ticker.NullFormatter())
    axes.yaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))


def draw_lines(axes, group, cases):
    """Over the group's x axis."""
    everything = [value for name in names_of(cases) for _, *rest in points(cases, name) for value in rest]
    factor, unit = divisor(everything, group["unit"])
    for index, (name, peer) in enumerate(names_of(cases).items()):
        found = points(cases, name)
        if found:
            axes.errorbar([x for x, *_ in found], [median / factor for _, median, *_ in found],
                          yerr=[[length / factor for length in side] for side in bars_of(found)], label=name,
                          **look(index, peer))
    if group["x_log"]:
        axes.set_xscale("log", base=2)
    plain_ticks(axes.xaxis, {case["x"] for case in cases})
    if group["y_log"]:
        axes.set_yscale("log")
        log_ticks(axes)
    else:
        axes.set_ylim(bottom=0)
    axes.set_xlabel(group["x_label"])
    axes.set_ylabel(f"{group['quantity']}, {unit}")


def draw_bars(axes, group, case):
    """Of a single case: one bar a side, with its figure."""
    sides = [(side["name"], side["peer"], side["summary"]) for side in case["sides"]]
    factor, unit = divisor([done["most"] for _, _, done in sides if done], group["unit"])
    for index, (_, peer, done) in enumerate(sides):
        if not done:
            axes.text(0, index, "  no figure", va="center", style="italic")
            continue
        lengths = bars_of([(0, done["median"], done["least"], done["most"])])
        axes.barh(index, done["median"] / factor, height=0.6, color=COLOURS[index % len(COLOURS)],
                  alpha=0.75 if peer else 1.0, hatch="//" if peer else None, edgecolor="white",
                  xerr=[[length / factor for length in side] for side in lengths], capsize=4)
        axes.text(done["most"] / factor, index, f"  {done['median'] / factor:.3g}", va="center")
    axes.set_yticks(range(len(sides)), [name for name, *_ in sides])
    axes.invert_yaxis()
    axes.margins(x=0.14)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel(f"{group['quantity']}, {unit} ({group['x_label']}: {case['x']:g})")


def draw_percentiles(axes, case, labels):
    """Latency of each side over percentiles."""
    places = range(len(labels))
    for index, (name, peer) in enumerate(names_of([case]).items()):
        done = next(side["summary"] for side in case["sides"] if side["name"] == name)
        if not done or not done.get("lat_ns") or not all(key in done["lat_ns"] for key, _ in labels):
            continue
        found = [(place, *(done["lat_ns"][key][which] / 1e3 for which in ("median", "least", "most")))
                 for place, (key, _) in zip(places, labels)]
        axes.errorbar(places, [median for _, median, *_ in found], yerr=bars_of(found), label=name,
                      **look(index, peer))
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_xticks(places, [label for _, label in labels])
    axes.set_xlabel("percentile")


def with_latency(cases):
    return [case for case in cases
            if any(side["summary"] and side["summary"].get("lat_ns") for side in case["sides"])]


def legend_below(figure, axes):
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=LEGEND_COLUMNS)


def save(figure, folder, name):
    """Both formats; the SVG says nothing of when it was made, so that equal results give equal files."""
    for suffix, more in (("svg", {"metadata": {"Date": None}}), ("png", {"dpi": 120})):
        figure.savefig(folder / f"{name}.{suffix}", bbox_inches="tight", **more)
    plt.close(figure)
    return name


def plot_group(group, cases, folder):
    """Throughput, or whatever the group measures; the file's name without its suffix, or None where
    nothing was measured."""
    cases = [case for case in cases if any(side["summary"] for side in case["sides"])]
    if not cases:
        return None
    single = len({case["x"] for case in cases}) == 1
    height = 1.2 + 0.5 * len(cases[0]["sides"]) if single else 4.4
    figure, axes = plt.subplots(figsize=(WIDTH, height))
    axes.set_title(wrapped(group["title"]), loc="left")
    if single:
        draw_bars(axes, group, cases[0])
    else:
        draw_lines(axes, group, cases)
        legend_below(figure, axes)
    figure.tight_layout()
    return save(figure, folder, group["name"])


def plot_latency(group, cases, folder):
    """Percentiles of up to PANELS cases beside each other, the first, the last and one between."""
    cases = with_latency(cases)
    if not cases:
        return None
    chosen = sorted({0, len(cases) // 2, len(cases) - 1})[:PANELS]
    figure, panels = plt.subplots(1, len(chosen), sharey=True, squeeze=False,
                                  figsize=(WIDTH if len(chosen) > 1 else WIDTH * 0.7, 4.2))
    known = set.intersection(*(set(side["summary"]["lat_ns"]) for case in cases for side in case["sides"]
                               if side["summary"] and side["summary"].get("lat_ns")))
    labels = [pair for pair in PERCENTILES if pair[0] in known]
    for axes, number in zip(panels[0], chosen):
        draw_percentiles(axes, cases[number], labels)
        axes.set_title(f"{group['x_label']}: {cases[number]['x']:g}", fontsize=11)
    panels[0][0].set_ylabel("latency, µs")
    figure.suptitle(wrapped("Latency: " + group["title"]), fontsize=12, x=0.02, ha="left")
    legend_below(figure, panels[0][0])
    figure.tight_layout()
    return save(figure, folder, f"{group['name']}-latency")


def plot_all(results, folder):
    """{group: [names of files without suffix]}; older plots in the folder go."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        if re.fullmatch(r"[\w-]+\.(svg|png)", old.name):
            old.unlink()
    out = {}
    with plt.rc_context(STYLE):
        for group, cases in by_group(results):
            made = [plot_group(group, cases, folder), plot_latency(group, cases, folder)]
            out[group["name"]] = [name for name in made if name]
    return out


def by_group(results):
    """[(group, its cases by x)], in the order of the results."""
    found = {}
    for case in results["cases"]:
        found.setdefault(case["group"]["name"], (case["group"], []))[1].append(case)
    return [(group, sorted(cases, key=lambda case: case["x"])) for group, cases in found.values()]
