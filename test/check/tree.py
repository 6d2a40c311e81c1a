# SPDX-License-Identifier: BSD-3-Clause
"""What the checks of this folder share: the list of this project's files, and running a tool on them."""

import os
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
TEXT = {".c", ".h", ".py", ".sh", ".md", ".build", ".txt", ".ini", ".svg", ".rst", ".service", ".json",
        ".socket", ".xml", ".map", ".conf", ".supp"}


def files(*suffixes):
    """Files known to git (all, or those with one of the suffixes), that are there, as paths from ROOT."""
    out = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    found = (Path(name) for name in out.stdout.split("\0") if name)
    return [path for path in found
            if (not suffixes or path.suffix in suffixes) and (ROOT / path).is_file()]


def first_line(path):
    with open(ROOT / path, "rb") as file:
        return file.readline(200).decode("utf-8", "replace")


def scripts(interpreter):
    """Files whose first line names the interpreter, or that lie under its suffix."""
    suffix = {"bash": ".sh", "python3": ".py"}[interpreter]
    return [path for path in files()
            if path.suffix == suffix or
            (first_line(path).startswith("#!") and interpreter in first_line(path))]


def text_files():
    return [path for path in files()
            if path.suffix in TEXT or not path.suffix and first_line(path).startswith(("#", "BSD"))]


def tool(name):
    """The path of a program that the tests' packages bring; not having it is a failure, no skip."""
    path = shutil.which(name)
    assert path is not None, f"{name} is not installed: usertools/run-tests.sh --only packages"
    return path


def complaints(command, timeout=120):
    """Output of a checker that found something, '' if it found nothing."""
    env = dict(os.environ, LC_ALL="C.UTF-8")
    done = subprocess.run([str(word) for word in command], cwd=ROOT, capture_output=True, text=True,
                          env=env, timeout=timeout, stdin=subprocess.DEVNULL, check=False)
    return "" if done.returncode == 0 else (done.stdout + done.stderr).strip() or "failed, in silence"


def build_dir():
    path = Path(os.environ.get("VHUB_BUILD") or "build")
    return path if path.is_absolute() else ROOT / path
