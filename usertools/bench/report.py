# SPDX-License-Identifier: BSD-3-Clause
"""What a person reads: the table on the terminal, and report.html, which has all in one file: figures,
plots, what the machine is, the commands, and why a side has no figure.

Called by vhub-bench with what runner.py has collected; plots.py draws.
"""

import html
import json
from itertools import chain

from . import plots, stats

NAME_WIDTH = 30
IDLE_GROUP = "scale-idle"
LEFT_OUT = {"apart": "the CPUs were further apart", "away": "a CPU was away for longer"}
COLUMNS = {"median": 15, "least": 15, "most": 15, "front": 6, "back": 6, "limit": 9, "lost": 5, "paused": 6, "line": 7}


# --- figures as text

def figure(value, unit):
    if unit != "ns":
        return stats.scaled(value) + unit
    for factor, name in ((1e6, "ms"), (1e3, "µs")):
        if value >= 10 * factor:
            return f"{value / factor:.{stats.digits(value / factor)}f} {name}"
    return f"{value:.{stats.digits(value)}f} ns"


def percent(value):
    return "?" if value is None else f"{value * 100:.0f} %"


def goal_text(ratio, goal, unit):
    """Behind a ratio that has one."""
    if goal is None:
        return ""
    sign = "≤" if unit in stats.LESS_IS_BETTER else "≥"
    return f" ({sign} {goal:g}{'' if stats.is_met(ratio, goal, unit) else ': missed'})"


def ratio_text(case, name):
    """Of a side of ours to each of its peers."""
    goals, unit = plots.goals_of(case, name), case["group"]["unit"]
    return ", ".join(f"{ratio:.2f} x {peer}{goal_text(ratio, goals.get(peer), unit)}"
                     for peer, ratio in case["ratios"].get(name, {}).items())


def why_not(side):
    """Of a side without a figure: (word for the table, the whole story)."""
    if side["missing"]:
        return "not measured", side["missing"]
    return "failed", "\n".join(run["error"] for run in side["runs"] if "error" in run)


def cells(case, side):
    """median, least, most, busy shares, limit, ratios: the columns of both tables."""
    done, unit = side["summary"], case["group"]["unit"]
    if not done:
        return None
    return [*(figure(done[key], unit) for key in ("median", "least", "most")), percent(done["front_busy"]),
            percent(done["back_busy"]), side["limit"] if side["limit"] != "unknown" else "?", percent(done["lost"]),
            percent(done.get("paused")),
            figure(done["line_ns"], "ns") if done.get("line_ns") else "?",
            ratio_text(case, side["name"])]


def left_out_text(case):
    """Behind the name of a case."""
    every = [run.get("left_out") for side in case["sides"] if side["summary"] for run in side["runs"]]
    # Results of before there was another reason say True.
    left_out = ["apart" if reason is True else reason for reason in every if reason]
    if not left_out:
        return ""
    told = [text for reason, text in LEFT_OUT.items() if reason in left_out]
    return f" ({len(left_out)} of {len(every)} runs left out: {', '.join(told)})"


# --- the table on the terminal

def aligned(values):
    return " ".join(f"{value:>{width}}" for value, width in zip(values, COLUMNS.values()))


def table_head():
    return f"{'case, side':{NAME_WIDTH}} {aligned(COLUMNS)}  ratio of medians (goal)"


def table_rows(case):
    """The lines of one case."""
    lines = [case["name"] + left_out_text(case)]
    for side in case["sides"]:
        found = cells(case, side)
        if found:
            lines.append(f"  {side['name']:{NAME_WIDTH - 2}} {aligned(found)}  {found[-1]}")
            continue
        word, story = why_not(side)
        lines.append(f"  {side['name']:{NAME_WIDTH - 2}} {word}: " + ("\n" + " " * 6).join(story.splitlines()))
    return "\n".join(line.rstrip() for line in lines)


def conclusions(results):
    """What follows from several cases: [sentence]."""
    out = []
    for group, cases in plots.by_group(results):
        if group["name"] != IDLE_GROUP:
            continue
        for name in plots.names_of(cases):
            rise = stats.slope([(x, median) for x, median, *_ in plots.points(cases, name)])
            if rise is not None:
                out.append(f"{name}: one more idle device costs a poll turn {rise:.1f} ns")
    return out


# --- report.html

PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>vhub-bench {when}</title><style>
body {{ font: 15px/1.45 sans-serif; max-width: 62em; margin: 2em auto; padding: 0 1em; color: #111; background: #fff }}
table {{ border-collapse: collapse; margin: 0.8em 0 }}
td, th {{ padding: 0.2em 0.7em; border-bottom: 1px solid #ccc; text-align: right; vertical-align: top }}
td:first-child, th:first-child, .text td {{ text-align: left }}
tr.case td {{ font-weight: bold; border-bottom: none; padding-top: 0.7em }}
svg {{ max-width: 100%; height: auto }}
pre {{ background: #f3f3f3; padding: 0.6em; overflow-x: auto; white-space: pre-wrap; font-size: 12.5px }}
</style></head><body>
<h1>vhub-bench</h1>
<p>{when}; <code>{command}</code></p>
{body}
</body></html>
"""
READING = """<p>Medians of {runs} runs for each side, which took turns; least and most beside them.
<i>front</i> and <i>back</i> are the shares of time in which the front end's and the back end's thread had something to
do: a side at 95 % or more is the limit. <i>lost</i> is the largest share of a run in which another program had the CPU
of one of the two: figures with more than a few percent are worth little. <i>paused</i> is the share in which anybody,
the host included, had the front end's. <i>line</i> is the time that a cache line
takes from one side's CPU to the other's and back: figures compare where it is the same.
Ratios are of medians, of ours to the peer's; behind some is the ratio that is wanted.</p>"""


def escape(text):
    return html.escape(str(text), quote=False)


def html_table(rows, head=(), kind=""):
    top = "<tr>" + "".join(f"<th>{escape(cell)}</th>" for cell in head) + "</tr>" if head else ""
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>\n" for row in rows)
    return f'<table class="{kind}">{top}{body}</table>'


def group_table(cases):
    head = ("", *COLUMNS, "ratio (goal)")
    out = ["<table><tr>" + "".join(f"<th>{cell}</th>" for cell in head) + "</tr>"]
    for case in cases:
        out.append(f'<tr class="case"><td colspan="{len(head)}">{escape(case["name"] + left_out_text(case))}</td></tr>')
        for side in case["sides"]:
            found = cells(case, side) or [why_not(side)[0]]
            out.append(f"<tr><td>{escape(side['name'])}</td>"
                       + "".join(f"<td>{escape(cell)}</td>" for cell in found) + "</tr>")
    return "\n".join(out) + "</table>"


def troubles(cases):
    """The stories of sides without a figure, each once."""
    stories = {}
    for case in cases:
        for side in case["sides"]:
            if not side["summary"]:
                word, story = why_not(side)
                stories.setdefault((side["name"], word, story), []).append(case["name"])
    return "".join(f"<p>{escape(name)}: {word} in {escape(', '.join(where))}</p><pre>{escape(story)}</pre>"
                   for (name, word, story), where in stories.items())


def commands(cases):
    """Of the last run of each side."""
    out = []
    for case in cases:
        for side in case["sides"]:
            if side["commands"]:
                text = "\n".join(side["commands"])
                out.append(f"<p>{escape(case['name'])}, {escape(side['name'])}</p><pre>{escape(text)}</pre>")
    return "<details><summary>commands</summary>" + "".join(out) + "</details>" if out else ""


def inline_svg(path):
    text = path.read_text(encoding="utf-8")
    return text[text.index("<svg"):]


def write_html(results, folder, made):
    parts = [READING.format(runs=results["arguments"]["runs"])]
    parts += [inline_svg(folder / "plots" / f"{name}.svg") for name in made[plots.RATIOS]]
    for group, cases in plots.by_group(results):
        parts.append(f"<h2>{escape(group['title'])}</h2>")
        if group["about"]:
            parts.append(f"<p>{escape(group['about'])}</p>")
        parts += [inline_svg(folder / "plots" / f"{name}.svg") for name in made[group["name"]]]
        parts += [group_table(cases), troubles(cases), commands(cases)]
    found = conclusions(results)
    if found:
        parts.append("<h2>What follows</h2><p>" + "<br>".join(map(escape, found)) + "</p>")
    parts.append("<h2>The machine</h2>" + html_table(results["machine"].items(), kind="text"))
    (folder / "report.html").write_text(PAGE.format(when=escape(results["when"]), body="\n".join(parts),
                                                    command=escape(results["command"])), encoding="utf-8")


def merged(every):
    """Several results as one: a case that several have is the last one's; of all else, what differs
    stands side by side."""
    first = every[0]
    if isinstance(first, dict):
        return {key: merged([each[key] for each in every if key in each]) for key in chain(*every)}
    if isinstance(first, list):
        return list({case["name"]: case for cases in every for case in cases}.values())
    if all(each == first for each in every):
        return first
    return "; ".join(dict.fromkeys(map(str, every)))


def write(results, folder):
    """results.json, plots/, report.html."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    write_html(results, folder, plots.plot_all(results, folder / "plots"))
