# SPDX-License-Identifier: BSD-3-Clause
"""Shell and Python files: they parse, shellcheck agrees, and what is meant to be run can be run."""

import ast
import os
import re
import subprocess

from tree import ROOT, complaints, files, first_line, scripts, tool


def test_bash_parses():
    bad = [complaints(["bash", "-n", path]) for path in scripts("bash")]
    assert not any(bad), "\n".join(filter(None, bad))


def test_shellcheck():
    found = complaints([tool("shellcheck"), "-x", "--severity=style", *scripts("bash")])
    assert not found, found


def test_guest_init_parses():
    """The guest's init is for busybox; its shell reads it without running it."""
    found = complaints([tool("busybox"), "sh", "-n", "test/guest/init"])
    assert not found, found


def test_python_parses():
    bad = []
    for path in scripts("python3"):
        try:
            ast.parse((ROOT / path).read_text(), filename=str(path))
        except SyntaxError as err:
            bad.append(f"{path}:{err.lineno}: {err.msg}")
    assert not bad, "\n".join(bad)


def test_python_is_debians():
    """`env python3` may find another Python, which has none of Debian's modules."""
    bad = [str(path) for path in scripts("python3")
           if first_line(path).startswith("#!") and first_line(path).strip() != "#!/usr/bin/python3"]
    assert not bad, "not '#!/usr/bin/python3':\n" + "\n".join(bad)


def test_programs_are_executable():
    bad = [str(path) for path in files()
           if first_line(path).startswith("#!") and not os.access(ROOT / path, os.X_OK)]
    assert not bad, "'#!' but no permission to run:\n" + "\n".join(bad)


def test_vhubctl_has_the_version_of_the_project():
    version = re.search(r"^\tversion: '(.*)',$", (ROOT / "meson.build").read_text(), re.MULTILINE).group(1)
    said = subprocess.run([ROOT / "usertools/vhubctl", "--version"], check=True, capture_output=True, text=True)
    assert said.stdout == f"vhubctl {version}\n"
