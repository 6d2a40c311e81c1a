#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Counts tests that have run, for usertools/run-tests.sh: prints "PASSED FAILED".

  count.py junit FILE    a JUnit file as pytest writes it
  count.py meson FILE    the testlog.json of `meson test`; a cmocka program counts by its own tests

What was skipped, or expected to fail, counts as failed: this project has no test that may be left out.
A file that is not there, is broken or holds no test is one failure. The names of what failed go to
standard error, and what was wrong and where if the runner says it.
"""

import json
import re
import sys
import xml.etree.ElementTree as ElementTree

CMOCKA = {word: re.compile(rf"\[\s*{word}\s*\] (\d+) test")
          for word in ("PASSED", "FAILED", "SKIPPED")}
WHY_CMOCKA = re.compile(r"\[ +(?:ERROR|LINE) +\] --- (.*)")
MOST = 300      # characters of a line that says why


def why(trouble):
    """The first lines of what a failure says, and where it was raised: the last one of its text."""
    first = (trouble.get("message") or "").splitlines()[:3]
    last = (trouble.text or "").strip().splitlines()[-1:]
    return first + [line for line in last if line not in first]


def count_junit(path):
    passed, bad = 0, []
    for case in ElementTree.parse(path).iter("testcase"):
        trouble = [child for child in case if child.tag in ("failure", "error", "skipped")]
        name = f"{case.get('classname')}::{case.get('name')}"
        if trouble:
            reasons = [line[:MOST] for child in trouble for line in why(child)]
            bad.append(" | ".join([f"{name} ({', '.join(child.tag for child in trouble)})", *reasons]))
        else:
            passed += 1
    return passed, len(bad), bad


def count_program(entry):
    """One line of testlog.json: a program, which may hold several tests."""
    text = entry.get("stdout", "") + entry.get("stderr", "")
    numbers = {word: sum(map(int, pattern.findall(text))) for word, pattern in CMOCKA.items()}
    passed = numbers["PASSED"]
    failed = numbers["FAILED"] + numbers["SKIPPED"]
    if entry["result"] != "OK":
        failed = max(failed, 1)         # it may have crashed before it could say which
    elif passed + failed == 0:
        passed = 1
    return passed, failed


def count_meson(path):
    passed, failed, bad = 0, 0, []
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            entry = json.loads(line)
            good, wrong = count_program(entry)
            passed += good
            failed += wrong
            if wrong:
                reasons = WHY_CMOCKA.findall(entry.get("stderr", "") or entry.get("stdout", ""))[:3]
                bad.append(" | ".join([f"{entry['name']} ({entry['result']}, {wrong} failed)", *reasons]))
    return passed, failed, bad


def main():
    kind, path = sys.argv[1:]
    try:
        passed, failed, bad = {"junit": count_junit, "meson": count_meson}[kind](path)
    except (OSError, ValueError, KeyError, ElementTree.ParseError) as err:
        passed, failed, bad = 0, 1, [f"no result in {path}: {err}"]
    if passed + failed == 0:
        failed, bad = 1, [f"no test in {path}"]
    for name in bad:
        print(name, file=sys.stderr)
    print(passed, failed)


if __name__ == "__main__":
    main()
