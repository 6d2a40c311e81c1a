# SPDX-License-Identifier: BSD-3-Clause
"""Back ends that are measured: vhubd, and the peers of Debian's packages.

Each is started by cases.py in a folder of its run, with its worker on the back end's first CPU, and

  sockets          where a front end connects, or listens when `listens` says so
  command_line()   how it was started, for the report
  busy()           (busy, all) of its worker so far, in a unit of its own: the growth of the one divided by
                   that of the other is the share of its time in which it had something to do
  pid              of its polling process
  kill()           ends it; its folder is removed by whoever made that

Peers are started as their own documentation says. frontends.py, the next file on the way, makes the load.
"""

import os
import re
import shlex
import shutil
import subprocess
import time
from pathlib import Path

from control import Control
from testpmd import Testpmd
from vhubd import Program, ProgramError, Vhubd, build_dir, cpu_seconds

BURST = 64
RING = 1024
TESTPMD_MB = 512
VHUBD_MB = 256
DISK_MIB = 256
OVS_PROGRAM = "/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk"
OVS_SCHEMA = "/usr/share/openvswitch/vswitch.ovsschema"
START_SECONDS = 30

# What a peer needs, and the package of Debian 12 that has it.
OVS_PROGRAMS = (OVS_PROGRAM, "ovsdb-server", "ovsdb-tool", "ovs-vsctl", "ovs-ofctl", "ovs-appctl")
PACKAGES = {
    "dpdk-testpmd": "dpdk-dev",
    "qemu-storage-daemon": "qemu-system-common",
    "taskset": "util-linux",
    "losetup": "mount",
    **dict.fromkeys(OVS_PROGRAMS, "openvswitch-switch-dpdk"),       # or what that depends on
}


class Missing(Exception):
    """A side cannot be measured on this machine; one sentence that says what would help."""


def need(*programs):
    gone = [name for name in programs if shutil.which(name) is None]
    if gone:
        raise Missing("%s not installed: apt-get install --no-install-recommends %s"
                      % (" and ".join(name.rsplit("/", 1)[-1] for name in gone),
                         " ".join(sorted({PACKAGES[name] for name in gone}))))


def shell_text(command, strip=()):
    """A command line as a person would type it."""
    return shlex.join(str(word) for word in command if word not in strip)


# --- vhubd

def cycles(lcore):
    """(busy ones, all) of an lcore in lcore_list."""
    counts = [lcore[name] for name in ("busy_cycles", "idle_cycles", "sleep_cycles")]
    return counts[0], sum(counts)


class VhubBackend:
    """vhubd that polls, with a control socket.

    blks, nets   keys of each device, without name and socket: "driver=null,size=1G"
    in_turns     where there are fewer CPUs than workers, these take turns on the ones that there are
    """

    listens = False

    def __init__(self, setting, folder, *, blks=(), nets=(), workers=1, in_turns=False):
        if not os.access(build_dir() / "app/vhubd", os.X_OK):
            raise Missing(f"{build_dir()}/app/vhubd is not there: meson setup build && ninja -C build")
        self.need_drivers([*blks, *nets])
        if workers > len(setting.back) and not in_turns:
            raise Missing(f"{workers} lcores of the back end and one of the front end need {workers + 1} CPUs; "
                          f"there are {len(setting.cpus)}")
        self.control_path = folder / "c"
        self.workers = workers
        self.cpus = setting.back[:workers]
        places = [f"0@{setting.front}", *(f"{i + 1}@{self.cpus[i % len(self.cpus)]}" for i in range(workers))]
        eal = ["--lcores=" + ",".join(places), "--no-pci", "--no-telemetry", "-m", str(VHUBD_MB)]
        eal += ["--in-memory", f"--socket-limit={VHUBD_MB}"] if setting.huge else \
               ["--no-huge", "--no-shconf", "--iova-mode=va"]
        keys = list(enumerate([*blks, *nets]))
        specs = [f"d{number},socket={folder}/{number},{text}" for number, text in keys]
        self.sockets = [folder / str(number) for number, _ in keys]
        self.daemon = Vhubd(*specs[:len(blks)], nets=specs[len(blks):], folder=folder, eal=eal,
                            args=["--idle", "poll", "--control", str(self.control_path)])

    @staticmethod
    def need_drivers(keys):
        """A driver of a later vhubd is missing, no failure."""
        known = subprocess.run([build_dir() / "app/vhubd", "--help"], capture_output=True, text=True,
                               check=False, timeout=20).stdout
        for driver in {name for text in keys for name in re.findall(r"driver=(\w+)", text)}:
            if not re.search(rf"driver={driver}\b", known):
                raise Missing(f"this vhubd has no driver={driver}")

    def command_line(self):
        return shell_text(self.daemon.command())

    @property
    def pid(self):
        return self.daemon.pid

    def start(self):
        self.daemon.start()
        return self

    def lcores(self):
        with Control(self.control_path) as control:
            return control.call("lcore_list")[:self.workers]

    def busy(self):
        """Of all its workers together."""
        found = [cycles(each) for each in self.lcores()]
        return sum(busy for busy, _ in found), sum(every for _, every in found)

    def work(self):
        """What each worker has done so far for the first disk: [{cpu_ns, busy, every, completions}], its time
        on a CPU, busy() of it alone, and the requests that it has completed."""
        with Control(self.control_path) as control:
            found = control.call("lcore_list")[:self.workers]
            done = {each["lcore"]: each["completions"] for each in control.call("device_stats", name="d0")[0]["lcores"]}
        ran = self.worker_ns()
        return [{"cpu_ns": ran[each["lcore"]], "busy": cycles(each)[0], "every": cycles(each)[1],
                 "completions": done.get(each["lcore"], 0)} for each in found]

    def worker_ns(self):
        """{lcore: nanoseconds on a CPU}, by the names that EAL gives its threads."""
        out = {}
        for task in Path(f"/proc/{self.pid}/task").iterdir():
            found = re.search(r"worker-?(\d+)$", (task / "comm").read_text(encoding="ascii").strip())
            if found:
                out[int(found.group(1))] = int((task / "schedstat").read_text(encoding="ascii").split()[0])
        return out

    def kill(self):
        self.daemon.kill()


# --- programs that log to a file

class Service(Program):
    """A program that writes its log itself; started when its sockets, if it has some, are there.

    pass_fds  descriptors that it gets
    """

    listens = False
    pass_fds = ()

    def __init__(self, name, folder, words, sockets, env=None):
        super().__init__(name, folder)
        self.words = [str(word) for word in words]
        self.sockets = list(sockets)
        self.env = dict(os.environ, **(env or {}))

    def command_line(self):
        return shell_text(self.words)

    def start(self):
        with open(self.log_path, "ab") as log:
            self._spawn(self.words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.env,
                        pass_fds=self.pass_fds)
        self.wait_for(lambda: all(path.is_socket() for path in self.sockets), "does not listen")
        return self

    def wait_for(self, condition, what):
        deadline = time.monotonic() + START_SECONDS
        while not condition():
            if not self.running():
                raise self._error(f"ended with status {self.process.returncode}")
            if time.monotonic() > deadline:
                raise self._error(f"{what} within {START_SECONDS} s")
            time.sleep(0.01)

    def busy(self):
        """CPU time of all its threads, the system's on its behalf included."""
        return cpu_seconds(self.pid), time.monotonic()


class StorageDaemon(Service):
    """qemu-storage-daemon with one vhost-user-blk export for each socket, pinned like vhubd's worker.

    node      --blockdev of each export without its name: "driver=null-co,size=1073741824"
    """

    def __init__(self, setting, folder, node, *, exports=1, queues=1):
        need("qemu-storage-daemon", "taskset")
        words = ["taskset", "-c", str(setting.back[0]), "qemu-storage-daemon"]
        sockets = [folder / str(number) for number in range(exports)]
        for number, socket in enumerate(sockets):
            words += ["--blockdev", f"node-name=n{number},{node}",
                      "--export", f"type=vhost-user-blk,id=e{number},node-name=n{number},addr.type=unix,"
                                  f"addr.path={socket},writable=on,num-queues={queues},logical-block-size=512"]
        super().__init__("qemu-storage-daemon", folder, words, sockets)


class Cheapest(Service):
    """test/tools/cheapest: what a front end reaches with it is the front end's own ceiling.

    kind      "blk" or "net"
    """

    def __init__(self, setting, folder, kind):
        program = build_dir() / "test/tools/vhub-cheapest"
        if not os.access(program, os.X_OK):
            raise Missing(f"{program} is not there: ninja -C {build_dir()}")
        super().__init__("vhub-cheapest", folder, [program, kind, folder / "0", setting.back[0]], [folder / "0"])

    def busy(self):
        """It does not count until it ends."""
        return None


def null_node():
    return f"driver=null-co,size={1 << 30},read-zeroes=off"


def file_node(path, aio):
    """A file, or a block device, past the page cache."""
    driver = "host_device" if Path(path).is_block_device() else "file"
    return f"driver={driver},filename={path},aio={aio},cache.direct=on"


# --- network

class VhostTestpmd(Testpmd):
    """dpdk-testpmd with net_vhost ports: one that sends everything back, or two wired to each other."""

    __test__ = False
    listens = False

    def __init__(self, setting, folder, *, ports=1, queues=1):
        need("dpdk-testpmd")
        self.sockets = [folder / str(number) for number in range(ports)]
        eal = [word for number, socket in enumerate(self.sockets)
               for word in ("--vdev", f"net_vhost{number},iface={socket},queues={queues}")]
        args = ["--auto-start", f"--burst={BURST}", f"--txd={RING}", f"--rxd={RING}", f"--rxq={queues}",
                f"--txq={queues}", "--record-core-cycles"]
        args += ["--forward-mode=mac", "--port-topology=loop"] if ports == 1 else ["--forward-mode=io"]
        super().__init__(eal, args=args, folder=folder, cpu=setting.place(setting.back[0]), memory_mb=TESTPMD_MB,
                         name="net_vhost", huge=setting.huge)

    def command_line(self):
        return shell_text(self.command(), strip=("stdbuf", "-oL"))

    def busy(self):
        return self.busy_seconds(), time.monotonic()


class OpenVswitch:
    """A bridge with two vhost-user-client ports, each sending all to the other by one flow rule. Its
    database and its sockets are in the folder; the system's own Open vSwitch is not touched."""

    listens = True

    def __init__(self, setting, folder):
        need(*OVS_PROGRAMS)
        self.folder = folder
        self.setting = setting
        self.sockets = [folder / "0", folder / "1"]
        self.env = {"OVS_RUNDIR": str(folder), "OVS_LOGDIR": str(folder), "OVS_DBDIR": str(folder)}
        self.database = Service("ovsdb-server", folder, [
            "ovsdb-server", folder / "conf.db", f"--remote=punix:{folder}/db", f"--unixctl={folder}/dbctl",
            "--no-chdir"], [folder / "db"], self.env)
        self.switch = Service("ovs-vswitchd", folder, [
            OVS_PROGRAM, f"unix:{folder}/db", f"--unixctl={folder}/ctl", "--no-chdir"], [folder / "ctl"], self.env)
        self.commands = []

    def command_line(self):
        return "\n".join([self.database.command_line(), self.switch.command_line(), *self.commands])

    @property
    def pid(self):
        return self.switch.pid

    def run(self, *words, timeout=START_SECONDS):
        self.commands.append(shell_text(words))
        try:
            done = subprocess.run([str(word) for word in words], env=self.switch.env, capture_output=True,
                                  text=True, check=False, timeout=timeout)
            told = (done.stdout + done.stderr).strip() if done.returncode != 0 else None
        except subprocess.TimeoutExpired:
            told = f"no end within {timeout} s"
        if told is not None:
            raise ProgramError("%s: %s\n--- last lines of ovs-vswitchd's log ---\n%s" % (
                shell_text(words), told, "\n".join(self.switch.log.splitlines()[-40:])))
        return done.stdout

    def start(self):
        database = f"--db=unix:{self.folder}/db"
        self.run("ovsdb-tool", "create", self.folder / "conf.db", OVS_SCHEMA)
        self.database.start()
        # It adds --in-memory by itself unless --legacy-mem is there, and DPDK refuses that beside --no-huge. The
        # pool that all its ports share would take more ordinary memory, and longer to fill, than a run waits for.
        memory = ["dpdk-extra=--in-memory --no-pci --no-telemetry --single-file-segments",
                  f"dpdk-socket-mem={2 * TESTPMD_MB}"] if self.setting.huge else \
                 [f"dpdk-extra=--no-huge --legacy-mem --no-shconf --no-pci --no-telemetry -m {2 * TESTPMD_MB}",
                  "per-port-memory=true"]
        options = ["dpdk-init=true", f"dpdk-lcore-mask={1 << self.setting.front:#x}",
                   f"pmd-cpu-mask={1 << self.setting.back[0]:#x}", *memory]
        self.run("ovs-vsctl", database, "--no-wait", "init")
        self.run("ovs-vsctl", database, "--no-wait", "set", "Open_vSwitch", ".",
                 *(f'other_config:{key}="{value}"' for key, value in (each.split("=", 1) for each in options)))
        self.switch.start()
        self.run("ovs-vsctl", database, "add-br", "br0", "--", "set", "bridge", "br0", "datapath_type=netdev")
        for number, socket in enumerate(self.sockets):
            self.run("ovs-vsctl", database, "add-port", "br0", f"p{number}", "--", "set", "Interface",
                     f"p{number}", "type=dpdkvhostuserclient", f"options:vhost-server-path={socket}",
                     f"ofport_request={number + 1}")
        self.run("ovs-ofctl", "del-flows", "br0")
        self.run("ovs-ofctl", "add-flow", "br0", "in_port=1,actions=output:2")
        self.run("ovs-ofctl", "add-flow", "br0", "in_port=2,actions=output:1")
        return self

    def busy(self):
        """As its polling thread counts."""
        text = subprocess.run(["ovs-appctl", "-t", self.folder / "ctl", "dpif-netdev/pmd-stats-show"],
                              capture_output=True, text=True, check=False, timeout=START_SECONDS).stdout
        idle, worked = (re.search(rf"pmd thread.*?{name} cycles:\s*(\d+)", text, re.DOTALL)
                        for name in ("idle", "processing"))
        if not idle or not worked:
            return None
        return int(worked.group(1)), int(worked.group(1)) + int(idle.group(1))

    def kill(self):
        for service in (self.switch, self.database):
            service.kill()
