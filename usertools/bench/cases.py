# SPDX-License-Identifier: BSD-3-Clause
"""What is compared with what: groups of cases, each with its sides.

A group is one plot and one heading of the report; a case is one point of its x axis; a side is one line
of it: a back end and how the front end talks to it. A side's run(setting, folder) measures once.
runner.py, the next file on the way, lets sides take turns.
"""

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import partial
from itertools import product

from . import frontends
from .backends import (DISK_MIB, Cheapest, OpenVswitch, StorageDaemon, VhostTestpmd, VhubBackend, file_node,
                       null_node)

QUICK, FULL = "quick", "full"

# Case, side of ours, peer, and the ratio wanted: at least that, or at most where less is better.
# Where a peer has two ways the goal is for both, and so for the better one.
GOALS = [
    ("blk-null-qd1", "vhub *", "qemu-storage-daemon", 3.4),
    ("blk-null-qd32", "vhub *", "qemu-storage-daemon", 9),
    ("blk-null-qd128", "vhub *", "qemu-storage-daemon", 16),
    ("blk-inflight-*", "vhub with", "vhub without", 0.95),
    ("blk-malloc-read-qd32", "vhub *", "memcpy", 0.75),
    ("blk-malloc-read-qd32", "vhub *", "* null-co", 1.6),
    ("blk-malloc-read-512-qd32", "vhub *", "* null-co", 4),
    ("blk-malloc-read-512-qd128", "vhub *", "* null-co", 4.6),
    ("blk-malloc-read-64k-qd32", "vhub *", "memcpy", 0.95),
    ("blk-tmpfs-read-qd32", "vhub", "*", 1.1),
    ("blk-loop-read-qd32", "vhub", "*", 1.5),
    ("net-echo-*", "vhub librte_vhost", "net_vhost", 0.97),
    ("net-echo-split-64", "vhub", "net_vhost", 1.4),
    ("net-echo-split-256", "vhub", "net_vhost", 1.4),
    ("net-echo-split-1518", "vhub", "net_vhost", 1.5),
    ("net-echo-packed-vectorised-64", "vhub", "net_vhost", 1.45),
    ("net-echo-packed-vectorised-256", "vhub", "net_vhost", 1.7),
    ("net-echo-packed-vectorised-1518", "vhub", "net_vhost", 1.5),
    ("net-echo-split-any-order-64", "vhub", "net_vhost", 1.2),
    ("net-echo-packed-64", "vhub", "net_vhost", 1.35),
    ("net-perf-latency-*", "vhub", "net_vhost", 1),
    ("net-pair-split-64", "vhub patch", "net_vhost", 1.1),
    ("net-pair-split-1518", "vhub patch", "net_vhost", 1.5),
    ("net-pair-packed-vectorised-64", "vhub patch", "net_vhost", 1.9),
    ("net-pair-packed-vectorised-1518", "vhub patch", "net_vhost", 1.5),
    ("net-bridge-split-64", "vhub bridge", "Open vSwitch", 2),
    ("net-bridge-split-1518", "vhub bridge", "Open vSwitch", 1.5),
    ("net-bridge-packed-vectorised-64", "vhub bridge", "Open vSwitch", 2),
    ("net-bridge-packed-vectorised-1518", "vhub bridge", "Open vSwitch", 1.5),
    ("net-perf-bridge-*-64", "vhub bridge", "Open vSwitch", 2),
    ("net-perf-bridge-*-1518", "vhub bridge", "Open vSwitch", 1.5),
    ("net-features-*", "every feature", "bare", 0.9),
    ("scale-lcores-*", "vhub, 2 lcores", "vhub, 1 lcore", 1.05),
]


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
    goals: dict = field(default_factory=dict)   # {one of ours: {a peer: the ratio wanted}}


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
        name = f"{self.name}-{suffix}"
        case = Case(name, x, sides, (FULL, *suites), self, goals_of(name, sides))
        self.cases.append(case)


def goals_of(case, sides):
    """Of a case by its name, as stats.ratios() has ratios; only what a goal is for."""
    out = {}
    for ours, peer in product((side.name for side in sides if not side.peer),
                              (side.name for side in sides if side.peer)):
        for *names, ratio in GOALS:
            if all(map(fnmatchcase, (case, ours, peer), names)):
                out.setdefault(ours, {})[peer] = ratio
    return out


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


# --- block, vhub-perf as front end

DEPTHS = (1, 2, 4, 8, 16, 32, 64, 128)
FEW_DEPTHS = (1, 8, 32, 128)
BLOCKS = {"512": 512, "4k": 4096, "16k": 16384, "64k": 65536}
MEMORY_LOADS = [
    ("read", "4 KiB random reads", {"rw": "randread", "bs": "4k"}),
    ("write", "4 KiB random writes", {"rw": "randwrite", "bs": "4k"}),
    ("read-512", "random reads of 512 bytes", {"rw": "randread", "bs": "512"}),
    ("read-64k", "64 KiB random reads", {"rw": "randread", "bs": "64k"}),
    ("read-touch", "4 KiB random reads, looked at by the front end", {"rw": "randread", "bs": "4k", "touch": True}),
    ("write-touch", "4 KiB random writes, filled by the front end", {"rw": "randwrite", "bs": "4k", "touch": True}),
]
DISK = f"driver=malloc,size={DISK_MIB}M"
NULL = "driver=null,size=1G"
QSD = "qemu-storage-daemon"


def blk_side(name, make, peer=False, front=frontends.perf, **options):
    return Side(name, with_back_end(make, front, command="blk", **options), peer)


def both_rings(keys, **load):
    """vhub with either ring; qemu-storage-daemon has split rings only."""
    return [blk_side("vhub split", vhub_blk(keys), **load),
            blk_side("vhub packed", vhub_blk(keys), packed=True, **load)]


def null_daemon(name=QSD, **load):
    """Its exports and queues are those that the load is for."""
    return blk_side(name, storage_daemon(lambda _: null_node(), queues=load.get("queues", 1)), True, **load)


def copies(touch=None, **load):
    """By one CPU, which has nobody to look at them."""
    return Side("memcpy", partial(frontends.memcpy, size=f"{DISK_MIB}M", **load), True)


def file_sides(where, **load):
    """vhub and qemu-storage-daemon, with either of its ways to files, on what where(setting) names."""
    def vhub(setting, folder):
        return VhubBackend(setting, folder, blks=[f"driver=uring,path={where(setting)}"])

    def daemon(aio):
        return storage_daemon(lambda setting: file_node(where(setting), aio))
    return [blk_side("vhub", vhub, **load),
            *(blk_side(f"{QSD} {aio}", daemon(aio), True, **load) for aio in ("io_uring", "native"))]


def blk_null():
    group = Group("blk-null", "Disk without data, 4 KiB random reads", "queue depth", "IOPS", y_log=True,
                  about="What the way of a request costs by itself. qemu-storage-daemon: null-co.")
    for depth in DEPTHS:
        load = {"rw": "randread", "bs": "4k", "iodepth": depth}
        group.add(f"qd{depth}", depth, [*both_rings(NULL, **load), null_daemon(**load)],
                  *([QUICK] if depth in (1, 128) else []))
    yield group


def blk_inflight():
    for kind, ring in (("split", {}), ("packed", {"packed": True})):
        group = Group(f"blk-inflight-{kind}", f"Disk without data, 4 KiB random reads, inflight tracking ({kind})",
                      "queue depth", "IOPS", y_log=True,
                      about="What it costs to note each request where it survives vhubd's death.")
        for depth in (1, 32, 128):
            load = {"rw": "randread", "bs": "4k", "iodepth": depth, **ring}
            group.add(f"qd{depth}", depth, [blk_side("vhub with", vhub_blk(NULL), inflight=True, **load),
                                            blk_side("vhub without", vhub_blk(NULL), True, **load)])
        yield group


def blk_malloc():
    group = Group("blk-malloc-size", "Disk in memory, random reads at depth 32", "block size, bytes", "IOPS",
                  y_log=True, about="memcpy is one CPU that copies the same blocks and does nothing else. "
                                    "qemu-storage-daemon has no disk in memory: a file on tmpfs comes nearest.")
    tmpfs = storage_daemon(lambda setting: file_node(setting.tmpfs_file(DISK_MIB), "io_uring"))
    for name, size in BLOCKS.items():
        load = {"rw": "randread", "bs": name, "iodepth": 32}
        group.add(name, size,
                  [*both_rings(DISK, **load), copies(**load), blk_side(f"{QSD} tmpfs", tmpfs, True, **load)],
                  *([QUICK] if name == "4k" else []))
    yield group
    for name, text, load in MEMORY_LOADS:
        group = Group(f"blk-malloc-{name}", f"Disk in memory, {text}", "queue depth", "IOPS",
                      about="null-co has no data to move: 4 KiB reads of a disk that is nothing.")
        for depth in FEW_DEPTHS:
            sides = both_rings(DISK, iodepth=depth, **load)
            if load["rw"] == "randread":
                sides.append(copies(iodepth=depth, **load))
            if load["bs"] != "64k":             # that takes longer than a 4 KiB request by nature
                sides.append(null_daemon(f"{QSD} null-co", rw="randread", bs="4k", iodepth=depth))
            group.add(f"qd{depth}", depth, sides)
        yield group


FILES = {                       # what the report calls it, where(setting) -> its path
    "tmpfs": ("File on tmpfs", lambda setting: setting.tmpfs_file(DISK_MIB)),
    "loop": ("Loop device over a file on tmpfs", lambda setting: setting.loop_device()),
    "zram": ("Compressed disk in memory (zram)", lambda setting: setting.zram_device(DISK_MIB)),
}


def blk_files():
    for place, (text, where) in FILES.items():
        for rw in ("read", "write"):
            group = Group(f"blk-{place}-{rw}", f"{text}, past the page cache, 4 KiB random {rw}s", "queue depth",
                          "IOPS")
            for depth in FEW_DEPTHS:
                group.add(f"qd{depth}", depth, file_sides(where, rw=f"rand{rw}", bs="4k", iodepth=depth),
                          *([QUICK] if (place, depth, rw) == ("loop", 32, "read") else []))
            yield group


# --- network

RINGS = {                       # of test/e2e/testpmd.py: what the report calls them, quick sizes
    "split": ("split, in-order, mergeable", (64,)),
    "packed-vectorised": ("packed, vectorised", (64,)),
    "split-any-order": ("split, not in-order, mergeable", ()),
    "packed": ("packed, not in-order, mergeable", ()),
}
PERF_RINGS = {                  # the same, as vhub-perf has them
    "split": ("split, in-order, mergeable", {"in_order": True}),
    "packed": ("packed, in-order, not mergeable", {"packed": True, "in_order": True, "mergeable": "off"}),
}
SIZES = (64, 256, 1518)
FLOW_RATES = {"100k": 1e5, "1M": 1e6}
ECHO = {                        # sides of ours: their keys
    "vhub": "driver=echo",
    "vhub librte_vhost": "driver=echo,datapath=librte_vhost,trust=on",
}


WIRE = ([("vhub patch", ["driver=patch,patch=w"] * 2)], [("net_vhost", partial(VhostTestpmd, ports=2))])
SWITCH = ([("vhub bridge", ["driver=bridge,bridge=b"] * 2)], [("Open vSwitch", OpenVswitch)])


def net_sides(ours, peers, front, **load):
    """[(name, keys of each port)] of ours, [(name, how a peer is made)]."""
    return [*(Side(name, with_back_end(vhub_net(keys), front, **load)) for name, keys in ours),
            *(Side(name, with_back_end(make, front, **load), True) for name, make in peers)]


def echo_sides(front, **load):
    return net_sides([(name, [keys]) for name, keys in ECHO.items()], [("net_vhost", VhostTestpmd)], front, **load)


def net_echo():
    for kind, (text, quick) in RINGS.items():
        group = Group(f"net-echo-{kind}", f"One port, every frame sent back ({text}; dpdk-testpmd as front end)",
                      "frame size, bytes", "packets/s")
        for size in SIZES:
            group.add(f"{size}", size, echo_sides(frontends.testpmd, kind=kind, size=size, forward="mac"),
                      *([QUICK] if size in quick else []))
        yield group


def net_perf_echo():
    for kind, (text, ring) in PERF_RINGS.items():
        group = Group(f"net-perf-echo-{kind}", f"One port, every frame sent back ({text}; vhub-perf as front end)",
                      "frame size, bytes", "packets/s")
        for size in SIZES:
            group.add(f"{size}", size, echo_sides(frontends.perf, command="net", mode="echo", size=size,
                                                  ring_size=1024, **ring))
        yield group
    group = Group("net-perf-latency",
                  "Round trip of 64-byte frames at a fixed rate (split, in-order; vhub-perf as front end)", "packets a second", "ns", quantity="99th percentile", y_log=True,
                  about="Less is better, and so is a smaller ratio. vhub-cheapest is a back end that does next to "
                        "nothing: what it has is the machine's, whatever the others do.")
    for name, rate in FLOW_RATES.items():
        load = {"command": "net", "mode": "echo", "size": 64, "ring_size": 1024, "rate": name}
        cheapest = with_back_end(partial(Cheapest, kind="net"), frontends.perf_latency, mergeable="off", poll=True, **load)
        group.add(name, rate, [*echo_sides(frontends.perf_latency, in_order=True, **load),
                               Side("vhub-cheapest", cheapest, True)])
    yield group


def net_features():
    """The same port and the same front end, with as little as one can have and with everything."""
    bare = "driver=echo"
    every = (f"{bare},frame_sizes=on,from_guest_packets_per_s=1000000000,from_guest_bytes_per_s=100G,"
             "to_guest_packets_per_s=1000000000,to_guest_bytes_per_s=100G")
    for kind, ring in (("split", {}), ("packed", {"packed": True})):
        group = Group(f"net-features-{kind}", f"One port with every feature, and the same without ({kind}, in-order; "
                      "vhub-perf as front end)", "frame size, bytes", "packets/s",
                      about="Every feature: mergeable buffers, event index, checksums and segmentation left to the "
                            "other, limits of packets and bytes both ways, counters of sizes.")
        load = {"command": "net", "mode": "echo", "ring_size": 1024, "in_order": True, **ring}
        for size in SIZES:
            group.add(f"{size}", size, [
                Side("every feature", with_back_end(vhub_net([every]), frontends.perf, size=size, event_idx=True,
                                                    offloads=True, **load)),
                Side("bare", with_back_end(vhub_net([bare]), frontends.perf, size=size, mergeable="off", **load), True)])
        yield group


def ceilings():
    """The front end alone: its back end does as little as one can."""
    group = Group("ceiling-blk", "vhub-perf's own ceiling: requests without data, 4 KiB random reads", "queue depth",
                  "IOPS", y_log=True, about="The back end only walks the chain and writes the status.")
    for depth in FEW_DEPTHS:
        load = {"rw": "randread", "bs": "4k", "iodepth": depth, "poll": True}
        make = partial(Cheapest, kind="blk")
        group.add(f"qd{depth}", depth, [blk_side("split", make, **load), blk_side("packed", make, packed=True, **load)])
    yield group
    group = Group("ceiling-net", "vhub-perf's own ceiling: one port, every frame sent back", "frame size, bytes",
                  "packets/s", about="The back end copies the header and the first 64 bytes of a frame.")
    for size in SIZES:
        group.add(f"{size}", size, [Side(name, with_back_end(partial(Cheapest, kind="net"), frontends.perf,
                                                             command="net", mode="echo", size=size, ring_size=1024,
                                                             mergeable="off", poll=True, **ring))
                                    for name, ring in (("split", {}), ("packed", {"packed": True}))])
    yield group


def net_pair():
    """Two ports, by a wire and by a switch. On the wire frames go round as they are (io); for the switch the
    front end addresses them (mac), so that it has something to look up."""
    for name, title, (ours, peers), forward in (("pair", "wired to each other", WIRE, "io"),
                                                ("bridge", "behind a switch", SWITCH, "mac")):
        for kind, (text, _) in RINGS.items():
            group = Group(f"net-{name}-{kind}", f"Two ports {title} ({text}; dpdk-testpmd as front end of both)",
                          "frame size, bytes", "packets/s", about="Packets a second of both directions together.")
            for size in SIZES:
                group.add(f"{size}", size, net_sides(ours, peers, frontends.testpmd, kind=kind, size=size,
                                                     forward=forward),
                          *([QUICK] if (kind, size) == ("split", 64) else []))
            yield group


def net_perf_pair():
    """The same with a front end that is not at its end before them. A run in which a packet is lost fails."""
    for name, title, (ours, peers) in (("pair", "wired to each other", WIRE), ("bridge", "behind a switch", SWITCH)):
        for kind, (text, ring) in PERF_RINGS.items():
            group = Group(f"net-perf-{name}-{kind}", f"Two ports {title} ({text}; vhub-perf as front end of both)",
                          "frame size, bytes", "packets/s", about="Packets a second of both directions together.")
            for size in SIZES:
                group.add(f"{size}", size, net_sides(ours, peers, frontends.perf, command="net", mode="pair",
                                                     size=size, ring_size=1024, **ring))
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
                  *([QUICK] if count in (1, 64) else []))
    yield group


def scale_busy():
    """Many disks on one lcore: one of them has work, or all."""
    for name, title, front, depth in (("scale-one-busy", "One disk with work, the others idle", frontends.one_busy, 32),
                                      ("scale-all-busy", "All disks with work", frontends.perf, 8)):
        group = Group(name, f"{title} (no data, 4 KiB random reads, depth {depth} each)", "devices on one lcore",
                      "IOPS", quantity="throughput of all", y_log=True)
        for count in DEVICES:
            load = {"rw": "randread", "bs": "4k", "iodepth": depth, "front": front}
            daemon = storage_daemon(lambda _: null_node(), exports=count)
            group.add(str(count), count, [blk_side("vhub", vhub_blk(NULL, count), **load),
                                          blk_side(QSD, daemon, True, **load)])
        yield group


def scale_queues():
    group = Group("scale-queues", "Queues of one disk (no data, 4 KiB random reads, depth 32 each)", "queues", "IOPS",
                  x_log=False, about="With two lcores a third CPU is needed.")
    for queues in (1, 2, 3, 4):
        load = {"rw": "randread", "bs": "4k", "iodepth": 32, "queues": queues}
        sides = [blk_side(f"vhub, {workers} lcore{'s' if workers > 1 else ''}",
                          partial(VhubBackend, blks=[f"{NULL},queues={queues},lcores={min(workers, queues)}"],
                                  workers=workers), **load)
                 for workers in (1, 2)]
        group.add(str(queues), queues, [*sides, null_daemon(**load)])
    yield group


def scale_lcores():
    for kind, ring in (("split", {}), ("packed", {"packed": True})):
        group = Group(f"scale-lcores-{kind}", f"One disk with 4 queues on one lcore and on two ({kind}; no data, "
                      "4 KiB random reads)", "queue depth", "cycles",
                      quantity="busy cycles of the back end for a request",
                      about="Less is better, and so is a smaller ratio. Where there are two CPUs, of which the front "
                            "end has one, two lcores take turns on the other one: that shows what a request costs, "
                            "not how many there would be.")
        for depth in (8, 32):
            load = {"rw": "randread", "bs": "4k", "iodepth": depth, "queues": 4, "front": frontends.perf_cycles, **ring}
            group.add(f"qd{depth}", depth, [
                blk_side(f"vhub, {lcores} lcore{'s' if lcores > 1 else ''}",
                         partial(VhubBackend, blks=[f"{NULL},queues=4,lcores={lcores}"], workers=lcores, in_turns=True),
                         lcores == 1, **load) for lcores in (1, 2)])
        yield group


def groups():
    """All of them, in the order of the report."""
    return [*blk_null(), *blk_inflight(), *blk_malloc(), *blk_files(), *net_echo(), *net_perf_echo(), *net_pair(),
            *net_perf_pair(), *net_features(), *ceilings(), *scale_idle(), *scale_busy(), *scale_queues(), *scale_lcores()]


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
