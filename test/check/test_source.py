# SPDX-License-Identifier: BSD-3-Clause
"""C files: the format is clang-format's, and every header compiles alone with both compilers.

Needs a configured build directory (VHUB_BUILD), for the flags the project compiles with.
"""

import json
import os
import shlex
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest

from tree import ROOT, build_dir, complaints, files, tool

# A fixture of the tests may hold functions that not every test calls.
WARNINGS = ["-Wall", "-Wextra", "-Werror", "-Wno-address-of-packed-member", "-Wno-unused-function"]


def test_format():
    found = complaints([tool("clang-format"), "--dry-run", "-Werror", "--ferror-limit=3",
                        *files(".c", ".h")])
    assert not found, f"{found}\n(clang-format -i FILE puts it right)"


def project_flags():
    """Include directories, definitions and the language of the project, from meson's own commands.

    Relative paths are seen from the build directory, where the compiler is therefore run.
    """
    path = build_dir() / "compile_commands.json"
    assert path.exists(), f"{path} is not there: configure the build first (or set VHUB_BUILD)"
    flags, seen = [], set()
    for entry in json.loads(path.read_text()):
        words = shlex.split(entry["command"])
        for index, word in enumerate(words):
            if word in ("-include", "-isystem", "-I") and index + 1 < len(words):
                item = (word, words[index + 1])
            elif word.startswith(("-I", "-D", "-std=", "-march=", "-m")) and len(word) > 2:
                item = (word,)
            else:
                continue
            if item not in seen:
                seen.add(item)
                flags += item
    return flags


def test_headers_compile_alone(tmp_path):
    """With one compiler: what a header lacks, it lacks for each. What clang says of it is seen where it is built."""
    flags = project_flags()
    headers = files(".h")
    assert headers

    def compile_one(numbered):
        number, header = numbered
        source = tmp_path / f"{number}.c"
        # Twice, so that a missing guard shows.
        source.write_text(f'#include "{ROOT / header}"\n' * 2)
        done = subprocess.run([tool("gcc"), *flags, *WARNINGS, "-fsyntax-only", str(source)],
                              cwd=build_dir(), capture_output=True, text=True, check=False)
        return "" if done.returncode == 0 else f"{header}:\n{done.stderr[:1500]}"

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        bad = [text for text in pool.map(compile_one, enumerate(headers)) if text]
    assert not bad, f"{len(bad)} of {len(headers)} headers do not compile alone:\n" + "\n".join(bad)
