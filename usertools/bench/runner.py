# SPDX-License-Identifier: BSD-3-Clause
"""Lets the sides of a case take turns, A B A B, every run with fresh processes, and collects what they
said or why they failed.

Called by vhub-bench with the cases it has chosen; the result is what results.json holds. report.py is
the next file on the way.
"""

import shutil
import time
from functools import partial

from . import stats
from .backends import Missing

# What a side may fail with; anything else is a fault of this program.
FAILURES = (AssertionError, OSError, EOFError, ValueError)


def run_once(side, setting):
    """One run: what it said, or {"error": the reason with the command and the end of its log}."""
    folder = setting.run_folder()
    try:
        return side.run(setting, folder)
    except FAILURES as err:
        return {"error": str(err) or type(err).__name__}
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def measure(case, setting, runs, tell=lambda text: None, note=lambda text: None):
    """A case as results.json has it. A side that has failed once, or that cannot be measured here, has
    no further turn. tell(text) at each turn, note(text) while it has to wait."""
    sides = [{"name": side.name, "peer": side.peer, "runs": [], "missing": None, "commands": []}
             for side in case.sides]
    for number in range(runs):
        for side, out in zip(case.sides, sides):
            if out["missing"] or (out["runs"] and stats.failed(out["runs"])):
                continue
            tell(f"{case.name}: {side.name}, run {number + 1} of {runs}")
            try:
                run = setting.line.around(partial(run_once, side, setting), note)
            except Missing as err:
                out["missing"] = str(err)
                continue
            out["commands"] = run.pop("commands", out["commands"])
            out["runs"].append(run)
    stats.leave_out(sides)
    for out in sides:
        out["summary"] = None if out["missing"] else stats.summary(out["runs"])
        done = out["summary"]
        out["limit"] = stats.limit(done["front_busy"], done["back_busy"]) if done else None
    group = case.group
    return {"name": case.name, "x": case.x, "sides": sides,
            "ratios": stats.ratios(sides), "goals": case.goals,
            "group": {key: getattr(group, key)
                      for key in ("name", "title", "about", "x_label", "unit", "quantity", "x_log", "y_log")}}


class Progress:
    """How far it is: on a terminal one line that is written over, elsewhere nothing, for there the
    table's rows tell."""

    def __init__(self, stream, turns):
        self.stream = stream
        self.live = stream.isatty()
        self.turns = turns
        self.turn = 0
        self.begin = time.monotonic()

    def __call__(self, text):
        self.turn += 1
        passed = time.monotonic() - self.begin
        left = passed / (self.turn - 1) * (self.turns - self.turn + 1) if self.turn > 3 else None
        about = f", about {left:.0f} s to go" if left is not None else ""
        self.note(f"{text}; {passed:.0f} s{about}")

    def note(self, text):
        if self.live:
            self.stream.write(f"\r\033[K[{self.turn}/{self.turns}] {text}")
            self.stream.flush()

    def clear(self):
        if self.live:
            self.stream.write("\r\033[K")
            self.stream.flush()


def measure_all(chosen, setting, runs, stream, show):
    """All cases; show(case as a dictionary) is called as each is done."""
    progress = Progress(stream, runs * sum(len(case.sides) for case in chosen))
    for number, case in enumerate(chosen):
        result = measure(case, setting, runs, progress, progress.note)
        # Turns that were left out after a failure.
        progress.turn = runs * sum(len(each.sides) for each in chosen[:number + 1])
        progress.clear()
        show(result)
