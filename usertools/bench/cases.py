# SPDX-License-Identifier: BSD-3-Clause
"""What is compared with what: groups of cases, each with its sides.

A group is one plot and one heading of the report; a case is one point of its x axis; a side is one line
of it: a back end and how the front end talks to it. A side's run(setting, folder) measures once.
runner.py, the next file on the way, lets sides take turns.
"""

from dataclasses import dataclass, field
from functools import partial

from . import frontends
from .backends import (DISK_MIB, OpenVswitch, StorageDaemon, VhostTestpmd, VhubBackend, file_node, need,
                       null_node)

QUICK, FULL = "quick", "full"


@dataclass
class Side:
    name: str
    run: callable               # run(setting, folder) -> {"value": ..., "commands": [...], ...}
    peer: bool = False


@dataclass
class Case:
    name: str
    x: float                    # its place on the group's x axis
    sides: list
    suites: tuple = (FULL,)
    group: "Group" = field(default=None, repr=False)


@dataclass
class Group:
    """quantity: what the y axis shows, in units of `unit`; x_log, y_log: which axes are logarithmic."""

    name: str
    title: str
    x_label: str
    unit: str
    quantity: str = "throughput"
    about: str = ""
    x_log: bool = True
    y_log: bool = False
    cases: list = field(default_factory=list)

    def add(self, suffix, x, sides, *suites):
        case = Case(f"{self.name}-{suffix}", x, sides, (FULL, *suites), self)
        self.cases.append(case)


def with_back_end(make, front, **shape):
    """A side's run: a fresh back end, one measurement by the front end, and both command lines."""
    def run(setting, folder):
        back = make(setting, folder)
        try:
            back.start()
            result = front(setting, folder, back, **shape)
            result["commands"] = [back.command_line(), *result["commands"]]
            return result
        finally:
            back.kill()
    return run


def vhub_net(keys):
    return lambda setting, folder: VhubBackend(setting, folder, nets=keys)


def vhub_blk(keys, count=1):
    return lambda setting, folder: VhubBackend(setting, folder, blks=[keys] * count)


def storage_daemon(node, **more):
    return lambda setting, folder: StorageDaemon(setting, folder, node(setting), **more)


# --- network, dpdk-testpmd as front end

RINGS = {                       # of test/e2e/testpmd.py: what the report calls them, quick sizes
    "split": ("split, in-order, mergeable", (64, 1518)),
    "packed-vectorised": ("packed, vectorised", (64,)),
    "split-any-order": ("split, not in-order, mergeable", ()),
    "packed": ("packed, not in-order, mergeable", ()),
}
SIZES = (64, 256, 1518)


def testpmd_side(name, make, kind, size, forward, peer=False):
    return Side(name, with_back_end(make, frontends.testpmd, kind=kind, size=size, forward=forward), peer)


def net_echo():
    for kind, (text, quick) in RINGS.items():
        group = Group(f"net-echo-{kind}", f"One port, every frame sent back ({text}; dpdk-testpmd as front end)",
                      "frame size, bytes", "packets/s")
        for size in SIZES:
            sides = [("vhub", vhub_net(["driver=echo"])),
                     ("vhub trust=on", vhub_net(["driver=echo,trust=on"])),
                     ("net_vhost", VhostTestpmd)]
            group.add(f"{size}", size, [testpmd_side(name, make, kind, size, "mac", name == "net_vhost")
                                        for name, make in sides], *([QUICK] if size in quick else []))
        yield group


def net_pair():
    for kind, (text, _) in RINGS.items():
        group = Group(f"net-pair-{kind}", f"Two ports, each frame from one to the other ({text}; dpdk-testpmd as "
                      "front end of both)", "frame size, bytes", "packets/s",
                      about="Packets a second of both directions together. Open vSwitch has one flow rule for each.")
        for size in SIZES:
            sides = [("vhub patch", vhub_net(["driver=patch,to=d1", "driver=patch,to=d0"])),
                     ("net_vhost", partial(VhostTestpmd, ports=2)), ("Open vSwitch", OpenVswitch)]
            group.add(f"{size}", size, [testpmd_side(name, make, kind, size, "io", not name.startswith("vhub"))
                                        for name, make in sides],
                      *([QUICK] if (kind, size) == ("split", 64) else []))
        yield group


# --- scale

DEVICES = (1, 4, 16, 64, 256)


def scale_idle():
    group = Group("scale-idle", "What devices cost that have nothing to do", "devices on one lcore", "ns",
                  quantity="turn of the polling loop",
                  about="Nanoseconds of one turn of the polling loop, each disk with a ring that is polled and on "
                        "which nothing comes. The slope is what one idle device costs.", y_log=True)
    for count in DEVICES:
        group.add(str(count), count, [Side("vhub", with_back_end(vhub_blk("driver=null,size=1G", count),
                                                                 frontends.idle))],
                  *([QUICK] if count in (1, 64, 256) else []))
    yield group


def groups():
    """All of them, in the order of the report."""
    return [*net_echo(), *net_pair(), *scale_idle()]


def cases(all_groups, suite=None, only=()):
    """The chosen ones: those of the suite, or those that are named, by themselves or by their group."""
    every = [case for group in all_groups for case in group.cases]
    if not only:
        return [case for case in every if suite in case.suites]
    known = {case.name for case in every} | {group.name for group in all_groups}
    wrong = [name for name in only if name not in known]
    if wrong:
        raise KeyError(wrong[0])
    return [case for case in every if case.name in only or case.group.name in only]
