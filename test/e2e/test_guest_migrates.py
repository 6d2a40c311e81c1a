# SPDX-License-Identifier: BSD-3-Clause
"""A guest migrates while it writes to its disk and verifies what it reads: from one vhubd to another that
has the same image, and back again. Each time its memory is compared, page by page, while the guest stands
still: what a device has written and not marked in the dirty log differs.

QEMU under TCG has faults of its own there ("Crashes and migrations" in doc/guides/testing.rst). What remains
of them with the memory that a Guest gets for it, about once in a hundred migrations, fits a page whose TLB
entry a CPU was just making while QEMU took the mark off. A mark that we did not set is missing again at the
next attempt; so an arrival that differs is thrown away, and the guest, still whole where it came from, tries
again.

Environment
  VHUB_MIGRATIONS   how often the guest migrates (2); when it is set, with both formats of rings
"""

import os
import time

import pytest

from migration import Monitor, differences
from run_guest import Disk, Guest, complaints

KIB = 1024
QUEUES = 2
BOOT = 200      # seconds, on a machine that does much else
TIMES = int(os.environ.get("VHUB_MIGRATIONS", 2))
FORMATS = {"split": False, "packed": True}
CHOSEN = list(FORMATS) if "VHUB_MIGRATIONS" in os.environ else ["packed"]
ATTEMPTS = 3


class Travel:
    """A guest on its way between two daemons."""

    def __init__(self, daemons, folder, packed):
        self.daemons = daemons
        self.folder = folder
        self.packed = packed
        self.arrivals = 0
        self.thrown_away = []           # numbers of pages
        self.place = 0
        self.here = self.guest("qmp").start()
        self.monitor = Monitor(folder / "qmp")

    def guest(self, name, *qemu):
        disk = Disk(self.daemons[self.place].sockets[0], queues=QUEUES, packed=self.packed)
        return Guest([disk], "mkfs,churn", timeout=800, options={"kib": KIB}, migrates=True,
                     qemu=["-qmp", f"unix:{self.folder}/{name},server=on,wait=off", *qemu])

    def attempt(self):
        """Over to the other daemon; the pages that differ. Then the guest goes on where it was."""
        self.place ^= 1
        name = f"qmp{self.arrivals}.{len(self.thrown_away)}"
        socket = f"{self.folder}/{name}.in"
        there = self.guest(name, "-S", "-incoming", f"unix:{socket}").start()
        try:
            monitor = Monitor(self.folder / name)
            self.here.alive()
            figures = self.monitor.migrate(socket)
            monitor.arrived()
            pages = differences(self.here, there)
        except BaseException:
            there.kill()
            raise
        print(f"migration {self.arrivals + 1}: {figures['downtime']} ms down, "
              f"{figures['ram']['transferred'] >> 10} KiB, dirty pages taken "
              f"{figures['ram']['dirty-sync-count']} times, {len(pages)} differ")
        if pages:
            there.kill()
            monitor.close()
            self.place ^= 1
        else:
            self.here.kill()
            self.monitor.close()
            self.here, self.monitor = there, monitor
        self.monitor.call("cont")
        return pages

    def move(self):
        pages = []
        for _ in range(ATTEMPTS):
            pages.append(self.attempt())
            if not pages[-1]:
                break
            self.thrown_away.append(len(pages[-1]))
        else:
            raise AssertionError(f"pages differ each time: {[[hex(page) for page in each[:20]] for each in pages]}")
        self.arrivals += 1


@pytest.mark.plain_only
@pytest.mark.seconds(900)
@pytest.mark.parametrize("packed", [FORMATS[name] for name in CHOSEN], ids=CHOSEN)
def test_a_guest_migrates_under_load(vhubd, blk, folder, packed):
    """The image's lock goes along."""
    path = folder / "disk.img"
    with open(path, "wb") as file:
        file.truncate(64 << 20)
    daemons = [vhubd(blk(f"disk{i}", driver="uring", path=path, queues=QUEUES, serial="disk"))
               for i in (0, 1)]
    travel = Travel(daemons, folder, packed)
    try:
        travel.here.expect("churn", "begin", BOOT)
        for _ in range(TIMES):
            time.sleep(0.5)
            travel.move()
        travel.here.send()              # enough
        results = travel.here.wait()
    finally:
        travel.here.kill()
    print(f"{travel.arrivals} arrivals, pages that differed in others: {travel.thrown_away}")
    assert len(travel.thrown_away) <= 1 + TIMES // 10
    assert "error" not in results
    assert not complaints(results), complaints(results)
    assert min(int(results[f"churn.cpu{cpu}"]) for cpu in range(QUEUES)) > 0
