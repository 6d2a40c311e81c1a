#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Prints doc/guides/requests.rst from the table of requests in lib/conn/vhub_user.h.

After a change of the table: doc/requests.py > doc/guides/requests.rst. test/check holds the two against each other.
"""

import pathlib
import re
import sys

TOP = pathlib.Path(__file__).resolve().parent.parent
ROW = re.compile(
    r"X\((\d+),\s*(\w+),\s*(\w+),\s*(\d+),\s*(\d+),\s*(\d+),\s*(\d+),\s*(-1|VHUB_USER_PF_\w+),\s*(\w+),\s*VHUB_USER_WHEN_(\w+)\)"
)
ANSWERS = {
    "ACK": "ack if asked",
    "REPLY": "its reply",
    "LOG": "u64 once LOG_SHMFD, else ack if asked",
}
WHENS = {
    "ANY": "at any time",
    "STOPPED": "while its vring is stopped",
    "MEMORY": "after a memory table",
    "F_PROTOCOL": "unless bit 30 was left out",
}
HEAD = """..  SPDX-License-Identifier: BSD-3-Clause

..  Made by doc/requests.py from lib/conn/vhub_user.h.

.. list-table::
   :header-rows: 1

   * - number
     - request
     - payload bytes
     - fds
     - protocol feature
     - answer
     - when
     - served
"""


def span(low, high):
    """A range, or one number where both ends are the same."""
    return low if low == high else f"{low} to {high}"


def served_slots():
    """The slots that the stock request handler fills."""
    text = (TOP / "lib/device/handler.c").read_text()
    return set(re.findall(r"^\t\.(\w+) = req_", text, re.M))


def render():
    """The whole page."""
    rows = ROW.findall((TOP / "lib/conn/vhub_user.h").read_text())
    served = served_slots()
    out = [HEAD]
    for num, name, slot, size_min, size_max, fds_min, fds_max, feature, answer, when in rows:
        cells = [
            num,
            name,
            span(size_min, size_max),
            span(fds_min, fds_max),
            "" if feature == "-1" else feature.removeprefix("VHUB_USER_PF_"),
            ANSWERS[answer],
            WHENS[when],
            "yes" if slot in served else "not supported",
        ]
        out.append("   * - " + "\n     - ".join(cells) + "\n")
    return "".join(out).replace("- \n", "-\n")


if __name__ == "__main__":
    sys.stdout.write(render())
