# SPDX-License-Identifier: BSD-3-Clause
"""Where the measurements take place: CPUs, hugepages, files in memory, and what this machine is.

Made once by vhub-bench, given to every run; backends.py, the next file on the way, starts programs in it.
What is taken here (hugepages, loop devices, folders) is given back by close().
"""

import os
import platform
import re
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from vhubd import ROOT, build_dir, usable_cpus

from .backends import Missing, need
from .line import Line

SHM = Path("/dev/shm")
BOOT_OPTIONS = re.compile(r"isolcpus|nohz|rcu_nocb|mitigations|idle|(default_)?hugepages|.*_pstate|.*max_cstate|"
                          r"transparent_hugepage|spec|nosmt|preempt|iommu|.*_iommu")
HUGE_MIB = 2304             # two testpmd or one and Open vSwitch, vhubd, a disk in memory, the front end


class NoSetting(Exception):
    """This machine, or the command line, does not allow it; one sentence."""


# --- CPUs

def topology(cpu):
    """(package, core) of a CPU; a machine that does not tell has a core for each."""
    folder = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology")
    try:
        return tuple(int((folder / name).read_text()) for name in ("physical_package_id", "core_id"))
    except (OSError, ValueError):
        return (0, cpu)


def choose_cpus(allowed, where=topology):
    """The front end's CPU, then those of the back end: of one package and no two threads of a core, as
    long as there are such."""
    first = min(allowed)
    cores, rest = {where(first)}, []
    for cpu in sorted(allowed, key=lambda each: (where(each)[0] != where(first)[0], each)):
        if where(cpu) not in cores:
            cores.add(where(cpu))
            rest.append(cpu)
    rest += [cpu for cpu in sorted(allowed) if cpu != first and cpu not in rest]
    return [first, *rest[:2]]


# --- hugepages

class Hugepages:
    """Takes what is missing, as root and when three times as much memory is available; gives back what
    it took."""

    def __init__(self):
        found = re.search(r"Hugepagesize:\s+(\d+)", Path("/proc/meminfo").read_text())
        self.size_kib = int(found.group(1)) if found else 2048
        self.folder = Path(f"/sys/kernel/mm/hugepages/hugepages-{self.size_kib}kB")
        self.taken = 0

    def count(self, name):
        try:
            return int((self.folder / name).read_text())
        except (OSError, ValueError):
            return 0

    @property
    def free_mib(self):
        return self.count("free_hugepages") * self.size_kib // 1024

    def reserve(self, mib):
        """Whether that much is free now."""
        if self.free_mib >= mib:
            return True
        available = re.search(r"MemAvailable:\s+(\d+)", Path("/proc/meminfo").read_text())
        if not available or int(available.group(1)) < 3 * 1024 * mib:
            return False
        before = self.count("nr_hugepages")
        missing = -(-(mib - self.free_mib) * 1024 // self.size_kib)
        if not self.write(before + missing):
            return False
        self.taken = self.count("nr_hugepages") - before
        return self.free_mib >= mib

    def give_back(self):
        if self.taken:
            self.write(self.count("nr_hugepages") - self.taken)
            self.taken = 0

    def write(self, number):
        try:
            (self.folder / "nr_hugepages").write_text(f"{number}\n")
        except OSError:
            return False
        return True


# --- files in memory

class Loop:
    """A loop device over a file. It is told to go as soon as nobody has it open, and we have it open: so
    it goes with us, however we end."""

    def __init__(self, path):
        need("losetup")
        done = subprocess.run(["losetup", "--find", "--show", str(path)], capture_output=True, text=True,
                              check=False)
        if done.returncode != 0:
            raise Missing(f"no loop device over {path}: {done.stderr.strip() or 'losetup failed'}; "
                          "loop devices need root")
        self.path = done.stdout.strip()
        self.fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        subprocess.run(["losetup", "--detach", self.path], capture_output=True, check=False)

    def close(self):
        os.close(self.fd)


class Zram:
    """A compressed disk in memory, of a number that the kernel chooses, which goes with us."""

    CONTROL = Path("/sys/class/zram-control")

    def __init__(self, mib):
        try:
            self.number = int((self.CONTROL / "hot_add").read_text())
            Path(f"/sys/block/zram{self.number}/disksize").write_text(f"{mib}M\n")
        except OSError as err:
            raise Missing(f"no zram device: {err}; it needs the kernel's module zram, and root") from None
        self.path = f"/dev/zram{self.number}"

    def close(self):
        try:
            Path(f"/sys/block/zram{self.number}/reset").write_text("1\n")
            (self.CONTROL / "hot_remove").write_text(f"{self.number}\n")
        except OSError as err:
            print(f"{self.path} is left: {err}; echo {self.number} > {self.CONTROL}/hot_remove", file=sys.stderr)


def write_noise(path, mib):
    """What cannot be compressed."""
    block = os.urandom(1 << 20)
    with open(path, "wb") as file:
        for _ in range(mib):
            file.write(block)


class Setting:
    """All that runs have in common.

    front, back   CPUs: the front end's, those of the back end
    huge          hugepages are used
    seconds       that one run measures
    line          how far these two CPUs are from each other
    """

    def __init__(self, *, cpus=None, huge=True, seconds=1.0, patience=0.0, fifo=True):
        allowed = os.sched_getaffinity(0)
        self.cpus = list(cpus) if cpus else choose_cpus(allowed)
        if len(self.cpus) < 2 or not set(self.cpus) <= allowed:
            raise NoSetting("two CPUs are needed, one for the front end and one for the back end; this process "
                            f"may use {','.join(map(str, sorted(allowed)))}")
        self.front, self.back = self.cpus[0], self.cpus[1:]
        self.seconds = seconds
        self.fifo = fifo
        self.line = Line(self.cpus[:2], patience)
        self.hugepages = Hugepages()
        self.wanted_huge = huge
        self.huge = huge and self.hugepages.reserve(HUGE_MIB)
        self.closers = []
        self.made = {}
        self.folder = Path(tempfile.mkdtemp(prefix="vhub-bench-"))
        # Sessions with many devices: a handful of descriptors each.
        resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
        # What is started without saying where it runs stays off other CPUs as well.
        os.sched_setaffinity(0, self.cpus)

    def place(self, cpu):
        """What the classes of test/e2e call a CPU: its number among ours."""
        return usable_cpus().index(cpu)

    def about_hugepages(self):
        mib = f"{HUGE_MIB} MiB"
        if not self.wanted_huge:
            return "not used (--no-huge)"
        if not self.huge:
            return f"{mib} of hugepages cannot be had: ordinary memory is used, which is slower on both sides"
        if self.hugepages.taken:
            return f"took {self.hugepages.taken} pages of {self.hugepages.size_kib} KiB, given back at the end"
        return f"{mib} of pages of {self.hugepages.size_kib} KiB were free already"

    def run_folder(self):
        """A new folder for sockets and logs."""
        return Path(tempfile.mkdtemp(dir=self.folder))

    def tmpfs_file(self, mib=256):
        """A file in memory with data in it, made once."""
        if "tmpfs" not in self.made:
            folder = Path(tempfile.mkdtemp(prefix="vhub-bench-", dir=SHM))
            self.closers.append(lambda: shutil.rmtree(folder, ignore_errors=True))
            path = folder / "disk.img"
            write_noise(path, mib)
            self.made["tmpfs"] = path
        return self.made["tmpfs"]

    def loop_device(self):
        """A loop device over such a file, made once."""
        if "loop" not in self.made:
            loop = Loop(self.tmpfs_file())
            self.closers.append(loop.close)
            self.made["loop"] = loop.path
        return self.made["loop"]

    def zram_device(self, mib=256):
        """A zram device with data in it, made once."""
        if "zram" not in self.made:
            zram = Zram(mib)
            self.closers.append(zram.close)
            write_noise(zram.path, mib)
            self.made["zram"] = zram.path
        return self.made["zram"]

    def close(self):
        """May be called again after a signal came into it."""
        while self.closers:
            self.closers.pop()()
        shutil.rmtree(self.folder, ignore_errors=True)
        self.hugepages.give_back()


# --- what this machine is

def said(*command):
    """The first line of what a program prints; None when it is not there."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20, cwd=ROOT)
    except (OSError, subprocess.TimeoutExpired):
        return None
    lines = (done.stdout or done.stderr).strip().splitlines()
    return lines[0].strip() if done.returncode == 0 and lines else None


def content(path):
    try:
        return Path(path).read_text(errors="replace").strip()
    except OSError:
        return None


def cpu_model():
    found = re.search(r"model name\s*:\s*(.*)", content("/proc/cpuinfo") or "")
    return found.group(1) if found else platform.machine()


def debian_version(package):
    try:
        done = subprocess.run(["dpkg-query", "-W", "-f", "${db:Status-Abbrev}${Version}", package],
                              capture_output=True, text=True, check=False)
    except OSError:
        return "unknown"
    return done.stdout[2:].strip() if done.stdout.startswith("ii") else "not installed"


def facts(setting):
    """{what: value}, in the order in which the report shows it."""
    governor = content(f"/sys/devices/system/cpu/cpu{setting.front}/cpufreq/scaling_governor")
    pages, flags = setting.hugepages, content("/proc/cpuinfo") or ""
    return {
        "CPU": cpu_model(),
        "CPUs of the machine": os.cpu_count(),
        "vector units": " ".join(name for name in ("sse4_2", "avx2", "avx512f") if re.search(rf"\b{name}\b", flags)),
        "virtual machine": said("systemd-detect-virt", "--vm") or
                           ("yes" if re.search(r"\bhypervisor\b", flags) else "no"),
        "front end on CPU": setting.front,
        "back end on CPU": ",".join(map(str, setting.back)),
        "frequency governor": governor or "not to be seen here",
        "clock source": content("/sys/devices/system/clocksource/clocksource0/current_clocksource") or "unknown",
        "memory": memory(),
        "hugepages": f"{setting.about_hugepages()}; {pages.count('nr_hugepages')} in all",
        "load when it began": "%.2f %.2f %.2f" % os.getloadavg(),
        "kernel": f"{platform.system()} {platform.release()}",
        "of the kernel's command line": boot_options() or "nothing that matters here",
        "distribution": distribution(),
        "vhub": said("git", "describe", "--always", "--dirty", "--tags") or "not a git clone",
        "vhubd": said(str(build_dir() / "app/vhubd"), "--version") or "not built",
        "DPDK": debian_version("dpdk-dev"),
        "QEMU": debian_version("qemu-system-common"),
        "Open vSwitch": debian_version("openvswitch-switch-dpdk"),
    }


def boot_options():
    """Those that change what is measured."""
    return " ".join(word for word in (content("/proc/cmdline") or "").split() if BOOT_OPTIONS.match(word))


def memory():
    found = re.search(r"MemTotal:\s+(\d+)", content("/proc/meminfo") or "")
    return f"{int(found.group(1)) / 1048576:.1f} GiB" if found else "unknown"


def distribution():
    found = re.search(r'PRETTY_NAME="(.*)"', content("/etc/os-release") or "")
    return found.group(1) if found else "unknown"
