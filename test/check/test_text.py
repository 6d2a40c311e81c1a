# SPDX-License-Identifier: BSD-3-Clause
"""Every text file: licence line, spelling, blanks at line ends, links to files and names of tests that exist."""

import re

from tree import ROOT, complaints, files, first_line, text_files, tool

SPDX = "SPDX-License-Identifier: BSD-3-Clause"
NEED_SPDX = {".c", ".h", ".py", ".sh"}
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)[^)]*\)|!\[[^\]]*\]\(([^)\s]+)[^)]*\)|"
                  r"<(?:img|a)\s[^>]*?(?:src|href)=\"([^\"]+)\"")
NAMED_TEST = re.compile(r"``(\w+(?:\.\w+)?)?::(\w+)``")
PICTURE = re.compile(r"^\s*\.\. (?:image|figure):: (\S+)$", re.MULTILINE)
MARKDOWN_TITLE = re.compile(r"^#+\s+(.*?)\s*#*$", re.MULTILINE)


def test_there_are_files():
    assert len(files(".c")) >= 1 and len(files(".h")) >= 1 and len(files(".py")) >= 1


def needs_spdx(path):
    return (path.suffix in NEED_SPDX or path.name in ("meson.build", "meson_options.txt") or
            first_line(path).startswith("#!"))


def test_spdx():
    """The licence is named in the first line, or the second after `#!`; a title line of SVG is not code."""
    bad = []
    for path in filter(needs_spdx, files()):
        lines = (ROOT / path).read_text(errors="replace").splitlines()[:3]
        if lines and lines[0].startswith("#!"):
            lines = lines[1:]
        # `# shellcheck shell=...` has to come before everything else where there is no `#!`.
        if lines and lines[0].startswith("# shellcheck shell="):
            lines = lines[1:]
        if not lines or SPDX not in lines[0]:
            bad.append(str(path))
    assert not bad, f"no '{SPDX}' in the first line:\n" + "\n".join(bad)


def test_no_blanks_at_line_ends():
    bad = []
    for path in text_files():
        text = (ROOT / path).read_bytes()
        bad += [f"{path}:{number}" for number, line in enumerate(text.split(b"\n"), 1)
                if line != line.rstrip()]
        if text and not text.endswith(b"\n"):
            bad.append(f"{path}: no newline at the end")
        if text.endswith(b"\n\n"):
            bad.append(f"{path}: empty lines at the end")
    assert not bad, "\n".join(bad)


def test_spelling():
    ignore = ROOT / "test/check/spelling-ignore.txt"
    found = complaints([tool("codespell"), "--ignore-words", ignore,
                        *(path for path in files() if path.suffix != ".svg" and
                          path != ignore.relative_to(ROOT))])
    assert not found, found


def anchors(path):
    """Names that a `#...` link into a Markdown file may have, made as code hosts do."""
    titles = MARKDOWN_TITLE.findall(path.read_text())
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_links():
    """Links from the README and the documents to files of this repository: they exist."""
    bad = []
    for path in files(".md"):
        text = re.sub(r"```.*?```", "", (ROOT / path).read_text(), flags=re.DOTALL)
        for match in LINK.finditer(text):
            target = next(filter(None, match.groups()))
            if re.match(r"[a-z]+:", target):
                continue
            name, _, anchor = target.partition("#")
            where = (ROOT / path).parent / name if name else ROOT / path
            if not where.exists():
                bad.append(f"{path}: {target}")
            elif anchor and where.suffix == ".md" and anchor not in anchors(where):
                bad.append(f"{path}: {target}: no such title")
    assert not bad, "links to nothing:\n" + "\n".join(bad)


def test_pictures_of_the_guides():
    """They are where the guide looks for them, and git knows them."""
    seen = [(path, path.parent / name) for path in files(".rst")
            for name in PICTURE.findall((ROOT / path).read_text())]
    known = set(files())
    bad = [f"{path}: {picture}" for path, picture in seen if picture not in known]
    assert seen and not bad, "no such picture:\n" + "\n".join(bad)


def test_tests_that_the_guides_name():
    """``file.py::test`` and, in C, ``file::test``: they exist. Without a file it is that of the one before."""
    bad, seen = [], 0
    for path in files(".rst"):
        name = None
        for match in NAMED_TEST.finditer((ROOT / path).read_text()):
            name = match.group(1) or name
            where = name if "." in name else f"{name}.c"
            starts = re.compile(rf"^(?:def )?{match.group(2)}\(", re.MULTILINE)
            seen += 1
            if not any(starts.search(found.read_text()) for found in (ROOT / "test").rglob(where)):
                bad.append(f"{path}: {where}::{match.group(2)}")
    assert seen > 0 and not bad, "no such test:\n" + "\n".join(bad)
