# SPDX-License-Identifier: BSD-3-Clause
"""vhub-blk and vhub-net: vhubd by the names and options that the vhost-user specification lays down for
back-end programs. They serve one front end and end with it."""

import json
import re
import signal
import socket
import subprocess

import pytest

from manager import Manager
from run_guest import Disk, Guest, complaints, run, sums
from vhostuser import BlkDisk, F, IoError, Wire, pattern
from vhubd import ROOT, Vhubd, build_dir

MIB = 1 << 20
READY = r"ready: 1 device"


class Program(Vhubd):
    """vhub-blk with the options that are given; no EAL arguments, as there are none."""

    def __init__(self, *options, folder, name="vhub-blk", **keywords):
        super().__init__(folder=folder, args=[str(each) for each in options], eal=[], name=name, **keywords)

    def command(self):
        return [str(build_dir() / "app/vhub-blk"), *self.args]

    def ended(self):
        """Its status, once its front end has gone."""
        status = self.process.wait(60)
        self.check_log()
        return status


@pytest.fixture
def program(request, folder):
    started = []

    def start(*options, wait=True, **keywords):
        made = Program(*options, folder=folder, name=f"vhub-blk{len(started)}", **keywords)
        started.append(made)
        made.spawn()
        if wait:
            made.wait_log(READY)
        return made

    yield start
    for made in started:
        made.kill()
        made.check_log()
        if request.node.report_call.failed:
            print(f"--- {made.log_path.name} ---\n{made.log[-8000:]}")


@pytest.fixture
def image(folder):
    def make(name="disk.img", mib=8, data=b""):
        path = folder / name
        with open(path, "wb") as file:
            file.write(data)
            file.truncate(mib * MIB)
        return path

    return make


def call(name, *options):
    """Runs a program that ends by itself."""
    return subprocess.run([build_dir() / "app" / name, *options], capture_output=True, text=True, timeout=60,
                          check=False)


def use(disk, seed):
    assert disk.read(0, 4096) != pattern(seed, 4096)
    disk.write(0, pattern(seed, 4096))
    assert disk.read(0, 4096) == pattern(seed, 4096)


def holds(path, seed):
    with open(path, "rb") as file:
        return file.read(4096) == pattern(seed, 4096)


# --- the ways a front end comes ---

@pytest.mark.parametrize("joined", [True, False], ids=["--opt=value", "--opt value"])
def test_socket_path(program, image, folder, joined):
    """The disk is served, and the program and its socket are gone with the front end."""
    path = folder / "b.sock"
    words = ["--socket-path", path, "--blk-file", image()]
    daemon = program(*([f"{words[0]}={path}", f"{words[2]}={words[3]}"] if joined else words))
    with BlkDisk.open(str(path)) as disk:
        assert disk.capacity * 512 == 8 * MIB
        assert disk.get_id().rstrip(b"\0") == b"disk.img"
        use(disk, 1)
    assert daemon.ended() == 0
    assert not path.exists()
    assert holds(words[3], 1)


def test_fd_with_a_listening_descriptor(program, image, folder):
    """As under socket activation: each front end has a program of its own, on the one socket."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(folder / "a.sock"))
    listener.listen(4)
    file = image()
    for seed in (1, 2):
        daemon = program(f"--fd={listener.fileno()}", f"--blk-file={file}", pass_fds=[listener.fileno()])
        with BlkDisk.open(str(folder / "a.sock")) as disk:
            use(disk, seed)
        assert daemon.ended() == 0
        assert holds(file, seed)
        assert (folder / "a.sock").is_socket(), "the socket file is its maker's"
    listener.close()


def test_fd_with_a_connected_descriptor(program, image):
    mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    file = image()
    daemon = program(f"--fd={theirs.fileno()}", f"--blk-file={file}", "--queues=2",
                     pass_fds=[theirs.fileno()])
    theirs.close()
    with BlkDisk.open(wire=Wire(mine), queues=2) as disk:
        use(disk, 1)
    assert daemon.ended() == 0
    assert holds(file, 1)


def test_a_front_end_that_breaks_a_rule_is_an_error(program, image, folder):
    daemon = program(f"--socket-path={folder}/b.sock", f"--blk-file={image()}")
    wire = Wire.connect_served(str(folder / "b.sock"))
    wire.send_raw(b"\xff" * 12)
    wire.wait_closed()
    wire.close()
    assert daemon.ended() == 5
    assert "session ended" in daemon.log


@pytest.mark.parametrize("connected", [True, False], ids=["connected", "waiting"])
def test_sigterm_ends_it(program, image, folder, connected):
    path = folder / "b.sock"
    daemon = program(f"--socket-path={path}", f"--blk-file={image()}")
    disk = BlkDisk.open(str(path)) if connected else None
    daemon.process.send_signal(signal.SIGTERM)
    assert daemon.ended() == 0
    assert not path.exists()
    if disk:
        disk.close()


# --- the image ---

def test_read_only(program, image, folder):
    file = image(data=pattern(7, 4096))
    file.chmod(0o444)
    daemon = program(f"--socket-path={folder}/b.sock", f"--blk-file={file}", "--read-only")
    with BlkDisk.open(str(folder / "b.sock"), features={F.BLK_RO}) as disk:
        assert disk.offered >> F.BLK_RO & 1
        assert disk.read(0, 4096) == pattern(7, 4096)
        with pytest.raises(IoError):
            disk.write(0, pattern(8, 4096))
        assert disk.read(0, 4096) == pattern(7, 4096)
    assert daemon.ended() == 0
    assert holds(file, 7)


@pytest.mark.parametrize("name", ["a,b.img", "a=b.img", "[a.img", "with blank.img", "ü,=].img"])
def test_a_path_may_have_any_character(program, image, folder, name):
    file = image(name)
    daemon = program(f"--socket-path={folder}/b.sock", f"--blk-file={file}", "--queues=2", "--serial=x")
    with BlkDisk.open(str(folder / "b.sock"), queues=2) as disk:
        assert disk.get_id().rstrip(b"\0") == b"x"
        use(disk, 1)
    assert daemon.ended() == 0
    assert holds(file, 1)


def test_a_missing_image_is_an_error_at_the_start(program, folder):
    daemon = program(f"--socket-path={folder}/b.sock", f"--blk-file={folder}/none.img", wait=False)
    assert daemon.ended() == 1
    assert "none.img: No such file" in daemon.log
    assert not (folder / "b.sock").exists()


def test_the_unit_for_systemd_tries_nothing_again_but_a_start():
    """One that is started when there is no guest holds the image until one comes."""
    unit = (ROOT / "config/systemd/vhub-blk@.service").read_text()
    assert re.findall(r"^Restart\w*=.*", unit, re.MULTILINE) == ["RestartForceExitStatus=1", "RestartSec=1"]


def test_a_descriptor_that_is_no_socket_is_an_error(program, image):
    file = image()
    with open(file, "rb") as inherited:
        daemon = program(f"--fd={inherited.fileno()}", f"--blk-file={file}", wait=False,
                         pass_fds=[inherited.fileno()])
        assert daemon.ended() == 1
    assert "cannot use fd=" in daemon.log


def test_another_driver(program, folder):
    daemon = program(f"--socket-path={folder}/b.sock", "--driver=malloc", "--size=16M", "--idle=poll",
                     "--log-level=debug")
    with BlkDisk.open(str(folder / "b.sock")) as disk:
        assert disk.capacity * 512 == 16 * MIB
        assert disk.get_id().rstrip(b"\0") == b"vhub-blk"
        use(disk, 1)
    assert daemon.ended() == 0


# --- several at once ---

def test_several_at_once_do_not_disturb_each_other(program, image, folder):
    """All start in the same moment, without EAL arguments; one ends, another comes, the rest go on."""
    files = [image(f"{i}.img") for i in range(4)]

    def start(i):
        return program(f"--socket-path={folder}/{i}.sock", f"--blk-file={files[i]}", wait=False)

    daemons = [start(i) for i in range(3)]
    for daemon in daemons:
        daemon.wait_log(READY)
        # Hugepages if there are some, ordinary memory if not: what it says is what it has.
        assert daemon.uses_hugepages() == ("using ordinary memory" not in daemon.log)
    disks = [BlkDisk.open(f"{folder}/{i}.sock") for i in range(3)]
    for i, disk in enumerate(disks):
        use(disk, i + 1)
    disks[0].close()
    assert daemons[0].ended() == 0
    daemons[0] = start(3)
    daemons[0].wait_log(READY)
    disks[0] = BlkDisk.open(f"{folder}/3.sock")
    use(disks[0], 4)
    for i, disk in enumerate(disks[1:], 1):
        assert disk.read(0, 4096) == pattern(i + 1, 4096)
    for disk in disks:
        disk.close()
    assert [daemon.ended() for daemon in daemons] == [0, 0, 0]
    assert [holds(file, i + 1) for i, file in enumerate(files)] == [True] * 4


# --- a guest ---

@pytest.mark.plain_only
def test_a_linux_guest_uses_it(program, image, folder, slow):
    """QEMU with a disk of vhub-blk: ext4 is made and written; another program serves the next boot."""
    file = image(mib=256)
    results = []
    for do in ("mkfs-write", "verify"):
        daemon = program(f"--socket-path={folder}/b.sock", f"--blk-file={file}", "--queues=2")
        results.append(run([Disk(folder / "b.sock", queues=2)], do, timeout=150 * slow))
        assert not complaints(results[-1])
        assert daemon.ended() == 0
    written, read = sums(results[0], "written"), sums(results[1], "read")
    assert len(written) >= 8 and read == written


@pytest.mark.plain_only
def test_a_guest_lives_through_a_new_program(program, image, folder, slow):
    """Under socket activation: the program is killed, QEMU connects again to the socket that stayed, and the
    next program has what the guest has written."""
    path = folder / "a.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen(4)
        words = [f"--fd={listener.fileno()}", f"--blk-file={image(mib=256)}"]
        daemon = program(*words, pass_fds=[listener.fileno()])
        with Guest([Disk(path)], "mkfs-write,wait,verify", timeout=150 * slow) as guest:
            guest.expect("wait", "begin", 150 * slow)
            daemon.kill()
            daemon = program(*words, pass_fds=[listener.fileno()])
            guest.send()
            results = guest.wait()
        assert not complaints(results)
        assert daemon.ended() == 0
    written, read = sums(results, "written"), sums(results, "read")
    assert len(written) >= 8 and read == written


# --- the command line ---

@pytest.mark.parametrize("name, expected", [
    ("vhub-blk", {"type": "block", "features": ["read-only", "blk-file"]}),
    ("vhub-net", {"type": "net"}),
])
def test_print_capabilities(name, expected):
    """Members are those that vhost-user.json gives the type; other options are ignored."""
    for options in ([], ["--nonsense", "--fd=x"]):
        done = call(name, *options, "--print-capabilities")
        assert (done.returncode, done.stderr) == (0, "")
        assert json.loads(done.stdout) == expected


@pytest.mark.parametrize("name", ["vhub-blk", "vhub-net"])
def test_help_and_version(name):
    shown = call(name, "--help")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert all(word in shown.stdout for word in (f"usage: {name} ", "--socket-path=PATH", "--fd=FDNUM"))
    assert ("--blk-file=PATH" in shown.stdout) == (name == "vhub-blk")
    version = call(name, "--version")
    assert version.returncode == 0 and version.stdout.startswith(f"{name} ")


FILE = "--blk-file=/x"


@pytest.mark.parametrize("name, options, said", [
    ("vhub-blk", [], "exactly one of --socket-path=PATH and --fd=FDNUM"),
    ("vhub-blk", [FILE], "exactly one of"),
    ("vhub-blk", [FILE, "--fd=3", "--socket-path=/x"], "exactly one of"),
    ("vhub-blk", [FILE, "--fd=2"], "--fd 2: allowed is"),
    ("vhub-blk", [FILE, "--fd=3x"], "--fd 3x: allowed is"),
    ("vhub-blk", [FILE, "--fd", "-1"], "--fd -1: allowed is"),
    ("vhub-blk", [FILE, "--fd=3", "--fd=4"], "--fd is given twice"),
    ("vhub-blk", [FILE, "--socket-path="], "a path of 1 to 107 bytes"),
    ("vhub-blk", [FILE, "--socket-path=/" + 107 * "x"], "a path of 1 to 107 bytes"),
    ("vhub-blk", ["--fd=3"], "--blk-file=PATH is missing"),
    ("vhub-blk", ["--fd=3", "--driver=uring"], "--blk-file=PATH is missing"),
    ("vhub-blk", ["--fd=3", "--blk-file="], "--blk-file: its value is empty"),
    ("vhub-blk", ["--fd=3", "--blk-file"], "--blk-file: a value must follow"),
    ("vhub-blk", ["--fd=3", FILE, FILE], "--blk-file is given twice"),
    ("vhub-blk", ["--fd=3", FILE, "--read-only=on"], "--read-only=on: it takes no value"),
    ("vhub-blk", ["--fd=3", FILE, "--read-only", "--read-only"], "--read-only is given twice"),
    ("vhub-blk", ["--fd=3", FILE, "--queues=129"], "queues=129: not a number from 1 to 128"),
    ("vhub-blk", ["--fd=3", FILE, "--direct=maybe"], "direct=maybe"),
    ("vhub-blk", ["--fd=3", FILE, "--driver=tape"], "driver=tape: there is no such driver"),
    ("vhub-blk", ["--fd=3", FILE, "--driver=malloc"], "path=/x: driver malloc has no such argument"),
    ("vhub-blk", ["--fd=3", FILE, "--idle=never"], "--idle never: allowed are"),
    ("vhub-blk", ["--fd=3", FILE, "--log-level"], "--log-level: a value must follow"),
    ("vhub-blk", ["--fd=3", FILE, "--mac=02:00:00:00:00:01"], "--mac: there is no such option"),
    ("vhub-blk", ["--fd=3", FILE, "stray"], "stray: there is no such option"),
    ("vhub-blk", ["--fd=3", FILE, "--", "-l0-1"], "--: there is no such option"),
    ("vhub-net", [], "exactly one of --socket-path=PATH and --fd=FDNUM"),
    ("vhub-net", ["--fd=3", FILE], "--blk-file: there is no such option"),
    ("vhub-net", ["--fd=3", "--read-only"], "--read-only: there is no such option"),
    ("vhub-net", ["--fd=3", "--mtu", "1500", "--mtu=1500"], "--mtu is given twice"),
    ("vhub-net", ["--fd=3", "--mac"], "--mac: a value must follow"),
    ("vhub-net", ["--fd=3", "--driver=bridge"], "--driver=bridge: it joins ports of one process"),
])
def test_a_wrong_option_is_one_line_and_status_2(name, options, said):
    done = call(name, *options)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith(f"{name}: ") and said in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_program_with_one_device_tells_a_service_manager_too(program, folder):
    with Manager(folder / "notify") as manager:
        program("--socket-path", folder / "d.sock", "--driver=null", "--size=1M", env=manager.env(), wait=False)
        manager.hear_until("READY=1")
        assert (folder / "d.sock").is_socket()
        BlkDisk.open(str(folder / "d.sock")).close()
        manager.hear_until("STOPPING=1")
