# SPDX-License-Identifier: BSD-3-Clause
"""Plots of results.json, each as SVG and PNG: medians with bars from the least to the most of the runs.

Called by report.py. Colours are Okabe and Ito's, which people with any kind of colour blindness tell
apart, and each line has a marker of its own as well; peers are dashed. A group with a single point on its
x axis is drawn as bars. One plot more has all the ratios.
"""

import re

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402
from matplotlib import ticker  # noqa: E402

from . import stats  # noqa: E402

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "osD^vPX"
STYLE = {"font.size": 11, "axes.titlesize": 12, "axes.grid": True, "grid.alpha": 0.35, "legend.frameon": False,
         "svg.fonttype": "path", "svg.hashsalt": "vhub-bench", "axes.spines.top": False, "axes.spines.right": False}
WIDTH = 7.6
TITLE_LETTERS = 72
LEGEND_COLUMNS = 3
PERCENTILES = (("p50", "50"), ("p90", "90"), ("p99", "99"), ("p99.9", "99.9"), ("max", "max"))
PANELS = 3
RATIOS = "ratios"               # the file's name
ROW = 0.235                     # inches
GOAL = {"color": "black", "linestyle": "none", "marker": "|", "markersize": 11,
        "markeredgewidth": 1.8}


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


def log_ticks(axis):
    """1, 2, 5 and so on, where powers of ten alone would be too few."""
    least, most = axis.get_view_interval()
    if most / least < 2000:
        axis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        axis.set_minor_formatter(ticker.NullFormatter())
    axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))


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
        log_ticks(axes.yaxis)
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
    # It may be kept among the guides, where no line ends with a blank.
    svg = folder / f"{name}.svg"
    lines = svg.read_text(encoding="utf-8").split("\n")
    svg.write_text("\n".join(map(str.rstrip, lines)), encoding="utf-8")
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


def goals_of(case, name):
    """{peer: ratio wanted} of a side of ours; results of before there were goals have none."""
    return case.get("goals", {}).get(name, {})


def ratio_rows(group, cases):
    """Of a group as in the table: [(label, ratio, (least, most), goal or None, is it missed)]."""
    out = []
    for case in cases:
        suffix = case["name"].removeprefix(group["name"] + "-")
        done = {side["name"]: side["summary"] for side in case["sides"]}
        for ours, ratios in case["ratios"].items():
            for peer, ratio in ratios.items():
                goal = goals_of(case, ours).get(peer)
                missed = goal is not None and not stats.is_met(ratio, goal, group["unit"])
                out.append((f"{suffix}: {ours} / {peer}", ratio,
                            stats.span(done[ours], done[peer]), goal, missed))
    return out


def draw_ratio(axes, place, ratio, span, goal, missed):
    """A row. A bar that would squeeze the others ends at the edge."""
    left, right = axes.get_xlim()
    colour = COLOURS[1] if missed else COLOURS[0]
    axes.hlines(place, *(min(max(end, left), right) for end in span), color=colour, linewidth=1.8)
    axes.plot(ratio, place, "o", color=colour, markersize=6.5,
              markerfacecolor="white" if missed else colour)
    axes.text(1.01, place, f"{ratio:.2f}", va="center", fontsize=9,
              transform=axes.get_yaxis_transform())
    if goal is not None:
        axes.plot(goal, place, **GOAL)


def ratio_limits(rows):
    """Of the x axis: everything, but bars only as far as they leave the points room."""
    inner = [1.0, *(value for _, ratio, _, goal, _ in rows for value in (ratio, goal) if value)]
    ends = [*inner, *(end for _, _, span, *_ in rows for end in span)]
    return max(min(ends) / 1.1, min(inner) / 2), min(max(ends) * 1.1, max(inner) * 2)


def ratio_legend(figure, axes):
    """A point, one that misses its goal, a goal."""
    axes.plot([], [], "o", color=COLOURS[0], label="ratio")
    axes.plot([], [], "o", color=COLOURS[1], markerfacecolor="white", label="goal missed")
    axes.plot([], [], label="goal", **GOAL)
    legend_below(figure, axes)


def plot_ratios(results, folder):
    """All of them, a row each below the name of its group; None where there are none."""
    groups = [(group, ratio_rows(group, cases)) for group, cases in by_group(results)]
    groups = [(group, rows) for group, rows in groups if rows]
    if not groups:
        return None
    count = sum(1 + len(rows) for _, rows in groups)
    figure, axes = plt.subplots(figsize=(WIDTH, 1.2 + ROW * count))
    axes.set_xscale("log")
    axes.set_xlim(ratio_limits([row for _, rows in groups for row in rows]))
    axes.set_ylim(count - 0.5, -0.5)
    axes.axvline(1, color="black", linewidth=1, zorder=0.8)
    labels = []
    for group, rows in groups:
        less = " (less is better)" if group["unit"] in stats.LESS_IS_BETTER else ""
        axes.axhspan(len(labels) - 0.5, len(labels) + 0.5, color="0.92", zorder=0.9)
        axes.text(0.01, len(labels), group["name"] + less, va="center", fontsize=9,
                  fontweight="bold", transform=axes.get_yaxis_transform())
        labels.append("")
        for label, *row in rows:
            draw_ratio(axes, len(labels), *row)
            labels.append(label)
    axes.set_yticks(range(count), labels, fontsize=9)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)
    log_ticks(axes.xaxis)
    axes.tick_params(axis="x", labeltop=True)
    figure.text(0.02, 1, wrapped("Ratios of medians, ours to the peer's; bars from the least to the "
                                 "most that the runs allow"), fontsize=12)
    if any(row[3] for _, rows in groups for row in rows):
        ratio_legend(figure, axes)
    figure.tight_layout()
    return save(figure, folder, RATIOS)


def plot_all(results, folder):
    """{group, and RATIOS: [names of files without suffix]}; older plots in the folder go."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        if re.fullmatch(r"[\w-]+\.(svg|png)", old.name):
            old.unlink()
    out = {}
    with plt.rc_context(STYLE):
        for group, cases in by_group(results):
            made = [plot_group(group, cases, folder), plot_latency(group, cases, folder)]
            out[group["name"]] = [name for name in made if name]
        out[RATIOS] = [name for name in [plot_ratios(results, folder)] if name]
    return out


def by_group(results):
    """[(group, its cases by x)], in the order of the results."""
    found = {}
    for case in results["cases"]:
        found.setdefault(case["group"]["name"], (case["group"], []))[1].append(case)
    return [(group, sorted(cases, key=lambda case: case["x"])) for group, cases in found.values()]
