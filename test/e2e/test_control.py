# SPDX-License-Identifier: BSD-3-Clause
"""The control socket: devices come and go while others are served, hostile clients harm nobody, and
vhubctl."""

import json
import re
import resource
import runpy
import socket
import stat
import threading
import time

import pytest

from control import Control, Refused, vhubctl
from vhostuser import PATIENCE, BlkDisk, F, NetPort, packets, pattern, wait_until
from vhostuser.flow import flow
from vhostuser.load import Load
from vhubd import ROOT, build_dir

ROUNDS = 5
DISKS = 64


@pytest.fixture
def path(folder):
    return folder / "control.sock"


def works(path, seed=1):
    with BlkDisk.open(str(path)) as disk:
        disk.write(0, pattern(seed, 4096))
        assert disk.read(0, 4096) == pattern(seed, 4096)


def refused(control, code, words, method, **params):
    with pytest.raises(Refused, match=words) as caught:
        control.call(method, **params)
    assert caught.value.code == code


def test_the_socket_is_its_owners_and_goes_with_vhubd(vhubd, path):
    daemon = vhubd(args=["--control", str(path)])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    daemon.stop()
    assert not path.exists()


def test_a_socket_that_somebody_listens_on_is_left_alone(vhubd, path):
    vhubd(args=["--control", str(path)])
    second = vhubd(args=["--control", str(path)], wait=False)
    assert second.process.wait(60) == 1
    assert f"--control {path}" in second.log
    with Control(path) as control:
        assert control.names() == []


def test_a_device_is_added_served_and_removed(vhubd, blk, folder, path):
    vhubd(blk("first"), args=["--control", str(path)])
    with Control(path) as control:
        args = {"socket": str(folder / "d.sock"), "driver": "malloc", "size": "8M", "queues": 2, "ro": False}
        assert control.call("device_add", kind="blk", name="second", args=args) is True
        works(folder / "d.sock")
        found = control.call("device_list")[1]
        assert (found["name"], found["state"], found["queues"]) == ("second", "serving", 2)
        figures = control.call("device_stats", name="second")[0]
        assert figures["figures"]["write_bytes"] == 4096 and figures["figures"]["read_requests"] == 1
        assert figures["session"]["sessions"] == 1 and len(figures["queues"]) == 2
        assert figures["session"]["requests_by_name"]["SET_MEM_TABLE"] == 1
        assert control.call("device_remove", name="second") is True
        assert control.names() == ["first"] and not (folder / "d.sock").exists()
        # The same again, from a string.
        spec = f"socket={folder}/d.sock,driver=malloc,size=8M"
        assert control.call("device_add", kind="blk", name="second", args=spec) is True
        works(folder / "d.sock")


def test_ports_that_dpdk_makes_come_and_go_side_by_side(vhubd, folder, path):
    """Each by a thread of its own. What DPDK shares between them without a lock of its own, no test can see."""
    vhubd(args=["--control", str(path)])
    clients = [Control(path) for _ in range(4)]
    for _ in range(ROUNDS):
        for i, client in enumerate(clients):
            client.begin("device_add", kind="net", name=f"n{i}",
                         args=f"socket={folder}/n{i}.sock,driver=ethdev,port=net_null{i},rxd=64,txd=64")
        assert [client.receive()["result"] for client in clients] == [True] * len(clients)
        for i, client in enumerate(clients):
            client.begin("device_remove", name=f"n{i}")
        assert [client.receive()["result"] for client in clients] == [True] * len(clients)
    assert clients[0].names() == []
    for client in clients:
        client.__exit__()


def test_the_queues_of_a_port_are_its_pairs(vhubd, net, folder, path):
    vhubd(nets=[net("port", queues=3)], args=["--control", str(path)])
    with Control(path) as control, NetPort.open(str(folder / "port.sock"), pairs=2) as port:
        flow(port, 5, pair=1)
        assert control.call("device_list")[0]["queues"] == 3
        said = control.call("device_stats", name="port")[0]
        assert [each["started"] for each in said["queues"]] == [True, True, False]
        assert [each["from_guest_packets"] for each in said["queues"]] == [0, 5, 0]
        assert said["figures"]["to_guest_packets"] == 5 and said["session"]["started_queues"] == 2


def test_a_device_is_removed_under_its_front_end(vhubd, blk, folder, path):
    daemon = vhubd(blk("gone"), blk("stays"), args=["--control", str(path)])
    with Control(path) as control, BlkDisk.open(str(daemon.sockets[0])) as disk:
        disk.write(0, pattern(1, 4096))
        assert control.call("device_remove", name="gone") is True
        assert disk.wire.wait_closed()
        works(daemon.sockets[1])
        assert control.names() == ["stays"]
    daemon.blks.pop(0)


def test_a_disk_that_cannot_be_saved_is_removed_all_the_same(vhubd, blk, folder, path):
    image = folder / "gone.img"
    daemon = vhubd(blk("gone", size="8M", file=image), args=["--control", str(path)])
    with Control(path) as control, BlkDisk.open(str(folder / "gone.sock"), features=(F.BLK_FLUSH,)) as disk:
        disk.write(8, pattern(1, 65536))
        resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, (32768, 32768))     # larger than the log
        refused(control, -32004, f"last flush is lost: file={image}: File too large", "device_remove", name="gone")
        assert control.names() == []


@pytest.mark.plain_only
def test_the_heap_grows_in_large_steps_and_gives_nothing_back(vhubd, folder, path):
    """To move its end waits for whoever maps or unmaps guest memory."""
    daemon = vhubd(args=["--control", str(path)])
    sizes = [daemon.heap_bytes()]
    with Control(path) as control:
        for i in range(32):
            control.call("device_add", kind="blk", name=f"d{i}", args=f"socket={folder}/d{i}.sock,driver=malloc,size=1M")
            sizes.append(daemon.heap_bytes())
        for i in range(32):
            control.call("device_remove", name=f"d{i}")
            sizes.append(daemon.heap_bytes())
    assert sizes == sorted(sizes) and len(set(sizes)) <= 2


def test_what_cannot_be_added(vhubd, blk, folder, path):
    vhubd(blk("first"), args=["--control", str(path)])
    fine = f"socket={folder}/d.sock,driver=malloc,size=8M"
    with Control(path) as control:
        refused(control, -32002, "first is in use", "device_add", kind="blk", name="first", args=fine)
        refused(control, -32602, "kind=floppy.*allowed: .*blk", "device_add", kind="floppy", name="d",
                args=fine)
        refused(control, -32602, "size=8Q", "device_add", kind="blk", name="d", args=fine.replace("8M", "8Q"))
        refused(control, -32602, "brackets", "device_add", kind="blk", name="d", args={"socket": "a,b"})
        refused(control, -32602, "queues: a value is", "device_add", kind="blk", name="d",
                args={"queues": [1]})
        refused(control, -32602, "fd=3.*inherited", "device_add", kind="blk", name="d",
                args="fd=3,driver=null")
        refused(control, -32602, "name: 'a,b'", "device_add", kind="blk", name="a,b", args=fine)
        refused(control, -32004, "/none/image.*No such file", "device_add", kind="blk", name="d",
                args=f"socket={folder}/d.sock,driver=uring,path=/none/image")
        refused(control, -32004, "cannot listen on socket=/none/d.sock", "device_add", kind="blk", name="d",
                args="socket=/none/d.sock,driver=null")
        refused(control, -32001, "no device d", "device_remove", name="d")
        refused(control, -32001, "no device d", "device_stats", name="d")
        assert control.names() == ["first"]
        # The name of one that failed is free again.
        assert control.call("device_add", kind="blk", name="d", args=fine) is True


def test_adds_queue_and_names_are_held_meanwhile(vhubd, folder, path):
    vhubd(args=["--control", str(path)])
    with Control(path) as control, Control(path) as other:
        # The first takes its time to find memory.
        sizes = {"a": "1G", "b": "8M", "c": "8M"}
        for name, size in sizes.items():
            control.begin("device_add", kind="blk", name=name,
                          args=f"socket={folder}/{name}.sock,driver=malloc,size={size}")
        while other.names() != list(sizes):
            time.sleep(0.01)
        refused(other, -32002, "name c is in use", "device_add", kind="blk", name="c",
                args=f"socket={folder}/x.sock,driver=null")
        refused(other, -32003, "being added", "device_remove", name="c")
        assert [control.receive()["result"] for _ in sizes] == [True] * 3


def busy_figures(daemon):
    """fds, mappings without those of threads, and kB"""
    # More disks at a time may make more threads stand by for blocking work: each has a stack and an arena.
    return len(daemon.fds()), daemon.maps() - 4 * len(daemon.threads()), daemon.rss_kb()


def settle(daemon, before, slack):
    deadline = time.monotonic() + PATIENCE
    while True:
        now = busy_figures(daemon)
        if all(n <= b + s for n, b, s in zip(now, before, slack)):
            return
        assert time.monotonic() < deadline, (before, now)
        time.sleep(0.05)


@pytest.mark.plain_only
def test_many_disks_come_and_go_under_traffic_on_another(vhubd, blk, folder, path):
    daemon = vhubd(blk("busy"), args=["--control", str(path)])
    load = Load(str(daemon.sockets[0]))
    load.wait_running()
    before = None
    rounds = []             # (begin, end)
    with Control(path, 60) as control:
        for number in range(ROUNDS):
            begin = time.monotonic()
            for i in range(DISKS):
                control.begin("device_add", kind="blk", name=f"d{i}",
                              args=f"socket={folder}/d{i}.sock,driver=malloc,size=4M")
            for i in range(DISKS):
                assert control.receive()["result"] is True
            for i in range(0, DISKS, 16):
                works(folder / f"d{i}.sock", number)
            held = [BlkDisk.open(str(folder / f"d{i}.sock")) for i in range(4)]
            for i in range(DISKS):
                control.begin("device_remove", name=f"d{i}")
            for i in range(DISKS):
                assert control.receive()["result"] is True
            rounds.append((begin, time.monotonic()))
            for disk in held:
                assert disk.wire.wait_closed()
                disk.close()
            assert control.names() == ["busy"]
            if number == 0:     # what a process keeps once it has had it
                time.sleep(0.3)
                before = busy_figures(daemon)
        settle(daemon, before, (0, 4, 8 * 1024))
    for begin, end in rounds:
        assert load.rate(begin, end) > 0, "the busy disk stood still while others came or went"
    load.stop()
    assert not list(folder.glob("d*.sock"))


def test_devices_take_the_lcores_that_are_used_least(vhubd, blk, folder, path):
    """Three workers on whatever CPUs there are; a place that was given up is taken next."""
    daemon = vhubd(blk("a"), blk("b"), blk("c"), args=["--control", str(path)],
                   eal=["--no-huge", "--no-shconf", "--no-pci", "--no-telemetry", "--iova-mode=va", "-m", "128",
                        "--lcores=0@0,1@0,2@0,3@0"])
    with Control(path) as control:
        def places():
            return {each["name"]: each["lcores"] for each in control.call("device_list")}

        assert places() == {"a": [1], "b": [2], "c": [3]}
        control.call("device_remove", name="b")
        for name in "de":
            control.call("device_add", kind="blk", name=name, args=f"socket={folder}/{name}.sock,driver=null")
        assert places() == {"a": [1], "c": [3], "d": [2], "e": [1]}
        assert [each["devices"] for each in control.call("lcore_list")] == [["a", "e"], ["d"], ["c"]]
        assert [each["cpus"] for each in control.call("lcore_list")] == [[0], [0], [0]]
    daemon.blks.pop(1)


def test_a_build_that_failed_is_cleaned_up_beside_the_control_thread(vhubd, blk, folder, path):
    """Which goes on meanwhile, however long it takes."""
    stall = folder / "stall"
    stall.touch()
    vhubd(blk("good"), loads=[build_dir() / "test/tools/unruly.so"], args=["--control", str(path)])
    with Control(path) as control, Control(path, timeout=20) as other:
        control.begin("device_add", kind="blk", name="wrong",
                      args=f"socket={folder}/wrong.sock,driver=unruly,over=uring,path={folder}/none,stall={stall}")
        wait_until(lambda: "wrong" in other.names())
        time.sleep(0.2)
        assert other.names() == ["good", "wrong"]
        stall.unlink()
        assert "No such file" in control.receive()["error"]["message"]
        assert other.names() == ["good"]


# --- what else can be asked

def test_version_drivers_lcores_and_log_levels(vhubd, blk, path):
    daemon = vhubd(blk(), args=["--control", str(path)])
    with Control(path) as control:
        version = control.call("version")
        assert version["pid"] == daemon.pid and version["dpdk"].startswith("DPDK ")
        drivers = {(each["kind"], each["name"]) for each in control.call("driver_list")}
        assert {("blk", "malloc"), ("blk", "null"), ("blk", "uring")} <= drivers
        (lcore,) = control.call("lcore_list")
        assert lcore["devices"] == ["disk0"] and 0 <= lcore["busy_percent"] <= 100
        assert control.call("log_level_set", level="debug") == {"pattern": "vhub.*", "level": "debug"}
        assert "log-level = debug" in control.call("config_save")["text"]
        control.call("log_level_set", level="error", pattern="lib.eal")
        assert "log-level = debug" in control.call("config_save")["text"]
        refused(control, -32602, "level=loud.*error, warning", "log_level_set", level="loud")
        refused(control, -32602, "pattern=vhub.nothere: .*vhub.blk, ", "log_level_set", level="debug",
                pattern="vhub.nothere")


def test_every_method_is_documented_with_its_parameters(vhubd, path):
    vhubd(args=["--control", str(path)])
    text = (ROOT / "doc/guides/control.rst").read_text()
    with Control(path) as control:
        for method in control.call("rpc_methods"):
            title = f"\n{method['name']}\n{'~' * len(method['name'])}\n"
            assert title in text, method["name"]
            part = re.split(r"\n\w+\n~+\n", text[text.index(title) + len(title):])[0]
            # In the same order, which is theirs by position: where the terms of the lists name them.
            terms = re.findall(r"``(\w+)``", "".join(re.findall(r"^``.*$", part, re.MULTILINE)))
            names = [param["name"] for param in method["params"]]
            assert [term for term in terms if term in names] == names, method["name"]
    header = (ROOT / "app/vhubd/control_methods.h").read_text()
    for number in re.findall(r"VHUB_CONTROL_OWN - (\d+)", header):
        assert f"{-32000 - int(number)}" in text


# --- hostile clients

def hello(path):
    with Control(path) as control:
        control.call("version")


def test_half_a_message_and_garbage(vhubd, path):
    vhubd(args=["--control", str(path)])
    with Control(path) as half, Control(path) as noise:
        half.send('{"jsonrpc": "2.0", "id": 1, "meth')
        noise.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        for _ in range(2):
            assert noise.receive()["error"]["code"] == -32700
        hello(path)
        noise.call("version")
        half.send('od": "version"}')
        assert "result" in half.receive()


def test_a_message_of_two_megabytes(vhubd, path):
    daemon = vhubd(args=["--control", str(path)])
    before = daemon.rss_kb()
    with Control(path) as control:
        try:
            control.send('{"jsonrpc": "' + "x" * (2 << 20))
        except OSError:
            pass
        hello(path)
        assert control.receive()["error"]["code"] == -32700
        with pytest.raises((EOFError, OSError)):
            control.receive()
    assert daemon.rss_kb() < before + 8192


def test_a_client_that_never_reads_is_closed(vhubd, blk, path):
    daemon = vhubd(blk(), args=["--control", str(path)])
    fds = len(daemon.fds())
    with Control(path) as control:
        # Until it is closed, which is no matter of how fast anybody is.
        call = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "rpc_methods"}).encode() * 100
        control.sock.settimeout(0.2)
        at, closed, deadline = 0, False, time.monotonic() + 60
        while not closed:
            assert time.monotonic() < deadline
            hello(path)
            try:
                at = (at + control.sock.send(call[at:])) % len(call)
            except TimeoutError:
                pass
            except OSError:
                closed = True
        while len(daemon.fds()) > fds:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert "left" in daemon.log and "unread" in daemon.log


def test_a_storm_of_connections(vhubd, blk, path):
    daemon = vhubd(blk(), args=["--control", str(path)])
    end = time.monotonic() + 2
    fds = len(daemon.fds())

    def storm():
        socks = []
        while time.monotonic() < end:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            sock.settimeout(1)
            try:
                sock.connect(str(path))
            except OSError:
                sock.close()
                continue
            socks = [*socks, sock][-100:]
        for sock in socks:
            sock.close()

    threads = [threading.Thread(target=storm) for _ in range(3)]
    with Control(path) as control:
        control.call("version")
        for thread in threads:
            thread.start()
        n = 0
        while time.monotonic() < end:
            control.call("version")
            n += 1
        for thread in threads:
            thread.join()
        assert n > 10
        works(daemon.sockets[0])
        control.call("version")
    wait_until(lambda: len(daemon.fds()) <= fds)


# --- vhubctl

def test_vhubctl_says_what_there_is(vhubd, blk, folder, path):
    vhubd(blk("disk0"), args=["--control", str(path)])
    done = vhubctl(path, "add", f"blk disk1,socket={folder}/disk1.sock,driver=malloc,size=8M,queues=2")
    assert (done.returncode, done.stdout) == (0, "disk1 is served\n")
    works(folder / "disk1.sock")
    assert re.search(r"^disk1 +blk +serving +2 ", vhubctl(path, "list").stdout, re.MULTILINE)
    assert re.search(r"^disk1 +detached +1 +2 +8\.0 KiB +0 +0$", vhubctl(path, "stats").stdout, re.MULTILINE)
    assert re.search(r"^read_bytes +4\.0 KiB +4\.0 KiB +0 B$", vhubctl(path, "stats", "disk1").stdout,
                     re.MULTILINE)
    assert "disk0 disk1" in vhubctl(path, "lcores").stdout
    assert "blk driver=malloc" in vhubctl(path, "drivers").stdout
    assert "device_add" in vhubctl(path, "methods").stdout
    assert vhubctl(path, "log-level", "debug").stdout == "vhub.* is at debug\n"
    assert "[blk disk1]" in vhubctl(path, "save").stdout
    assert vhubctl(path, "save", "saved.ini", cwd=folder).stdout == f"saved to {folder}/saved.ini\n"
    assert "[blk disk1]" in (folder / "saved.ini").read_text()
    assert "REQUESTS|PACKETS/S" in vhubctl(path, "watch", "--interval", "0.1", "--count", "1").stdout
    assert json.loads(vhubctl(path, "call", "device_stats", '["disk1"]').stdout)[0]["name"] == "disk1"
    assert json.loads(vhubctl(path, "--json", "list").stdout)[1]["name"] == "disk1"
    assert vhubctl(path, "remove", "disk1").stdout == "disk1 is gone\n"


def test_vhubctl_counts_packets_and_drops_of_a_port(vhubd, net, folder, path):
    vhubd(nets=[net("port")], args=["--control", str(path)])
    with Control(path) as control, NetPort.open(str(folder / "port.sock")) as port:
        flow(port, 5)
        control.call("port_set_link", name="port", state="down")
        port.wait_sent(port.submit([port.prepare(packets.plain(1, 60))]))
        control.settle()
        size = sum(60 + i for i in range(5)) * 2
        shown = vhubctl(path, "stats").stdout
        assert re.search(rf"^port +running +1 +10 +{size} B +1 +-$", shown, re.MULTILINE), shown
        row, = json.loads(vhubctl(path, "--json", "watch", "--interval", "0.1", "--count", "1").stdout)
        assert row["packets_per_second"] == row["bytes_per_second"] == row["dropped_per_second"] == 0


def test_vhubctl_counts_what_bridge_and_patch_drop(vhubd, net, folder, path):
    names = ("alone", "nobody")
    vhubd(nets=[net("alone", driver="patch", patch="wire0"), net("nobody", driver="bridge", bridge="br0")],
          args=["--control", str(path)])
    with Control(path) as control:
        for name in names:
            with NetPort.open(str(folder / f"{name}.sock")) as port:
                port.wait_sent(port.submit([port.prepare(packets.plain(1, 60))]))
        control.settle()
    shown = vhubctl(path, "stats").stdout
    for name in names:
        assert re.search(rf"^{name} +\w+ +1 +1 +60 B +1 +-$", shown, re.MULTILINE), shown


@pytest.mark.parametrize("figures, dropped", [
    ({"dropped_ring_full": 1, "imissed": 2, "ierrors": 4, "rx_nombuf": 8, "ipackets": 100}, 15),
    ({"dropped_port_full": 3, "oerrors": 3}, 3),
    ({"dropped_port_full": 0, "oerrors": 5}, 5),
    ({"mirror_dropped": 1, "capture_dropped": 1}, 0),
])
def test_vhubctl_counts_what_a_port_of_dpdks_loses(figures, dropped):
    sums = runpy.run_path(str(ROOT / "usertools/vhubctl"))["sums"]
    assert sums({"kind": "uplink", "figures": figures})["dropped"] == dropped


@pytest.mark.parametrize("words, status, text", [
    (["remove", "none"], 1, "there is no device none"),
    (["--socket", "/none/x.sock", "list"], 1, "/none/x.sock"),
    (["add", "blk"], 2, "KIND NAME"),
    (["call", "version", "{"], 2, "no JSON"),
    (["watch", "--interval", "0"], 2, "seconds"),
    (["fly"], 2, "fly"),
    ([], 2, "COMMAND"),
])
def test_vhubctl_says_what_is_wrong(vhubd, path, words, status, text):
    vhubd(args=["--control", str(path)])
    done = vhubctl(path, *words)
    assert done.returncode == status and text in done.stderr
    assert "Traceback" not in done.stderr and done.stdout == ""


def test_vhubctl_helps(path):
    done = vhubctl(path, "--help")
    assert done.returncode == 0
    for word in ("add SPEC", "VHUB_CONTROL", "Exit status"):
        assert word in done.stdout
