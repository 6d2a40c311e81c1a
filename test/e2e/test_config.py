# SPDX-License-Identifier: BSD-3-Clause
"""The configuration file: what is read, what is refused and how, and that what is saved is read
back."""

import os
import re
import subprocess
from xml.etree import ElementTree

import pytest

from control import Control, Refused
from vhostuser import BlkDisk
from vhubd import ROOT, build_dir, worker_arguments


def read(folder, text):
    """Starts vhubd with a file that is wrong; (status, standard error)."""
    path = folder / "vhubd.ini"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    done = subprocess.run([build_dir() / "app/vhubd", "--config", path], capture_output=True, text=True,
                          timeout=60, check=False)
    return done.returncode, done.stderr


DISK = "[blk d]\nsocket=/tmp/none.sock\ndriver=malloc\n"


@pytest.mark.parametrize("text, line, words", [
    ("[vhubd]\nidle = lazy\n", 2, r"\[vhubd\] idle=lazy: allowed are poll and adaptive"),
    ("[vhubd]\n\nidle-us = -1\n", 3, r"\[vhubd\] idle-us=-1: allowed are 0 to 1000000"),
    ("[vhubd]\nlog-level = loud\n", 2, r"\[vhubd\] log-level=loud: allowed are error, warning"),
    ("[vhubd]\ntelemetry = 2\n", 2, r"\[vhubd\] telemetry=2: allowed are on and off"),
    ("[vhubd]\ncontrol =\n", 2, r"\[vhubd\] control=: allowed are paths of 1 to 107 bytes"),
    ("[vhubd]\ncolour = red\n", 2, r"\[vhubd\] colour=red: there is no such key; allowed: .*idle"),
    ("[vhubd]\nidle=poll\nidle=poll\n", 3, r"\[vhubd\] idle=poll: idle is given twice"),
    ("# x\n[floppy a]\n", 2, r"\[floppy\]: there is no such section; allowed: \[vhubd\], \[blk NAME\]"),
    ("[blk]\n", 1, r"\[blk\]: there is no such section"),
    ("[blk a,b]\n", 1, r"\[blk a,b\]: a name has no comma"),
    (DISK + "\nsize=64Q # much\n", 5, r"\[blk d\] size=64Q"),
    (DISK + "colour=red\nsize=1M\n", 4, r"\[blk d\] colour=red: .*allowed: .*size"),
    ("[blk d]\nsock=/none.sock\ndriver=null\n", 2, r"\[blk d\] sock=/none.sock: .*.*, affinity, socket, fd, "),
    ("[uplink u]\nbridge=b\nport=net_null0\ncolour=red\n", 4, r"\[uplink u\] colour=red: .*, table, affinity; a value"),
    (DISK + "size=1M\nsize=2M\n", 5, r"\[blk d\] size is given twice"),
    (DISK + "size=1M\naffinity=1+x\n", 5, r"\[blk d\] affinity=1\+x; allowed: up to 128 numbers of workers such as 1\+3-4"),
    (DISK + "size=1M\naffinity=3-1\n", 5, r"\[blk d\] affinity=3-1; allowed: "),
    (DISK + "size=1M\naffinity=0-127+1\n", 5, r"\[blk d\] affinity=0-127\+1; allowed: "),
    (DISK + "size=1M\naffinity=\n", 5, r"\[blk d\] affinity=; allowed: "),
    (DISK + "size=1,2\n", 4, r"\[blk d\] size=1,2: a value with a comma goes into brackets"),
    (DISK + "size=[1\n", 4, r"\[blk d\] size=\[1: a '\[' is not closed"),
    (DISK.encode() + b"size=1M\nserial=\xff\n", 5, r"\[blk d\] serial has bytes that are not UTF-8"),
    ("[blk d]\ndriver=null\n", 1, r"\[blk d\] exactly one of socket=PATH"),
    (DISK + "size=1M\n" + DISK + "size=1M\n", 5, r"\[blk d\] another device has this name"),
    ("idle = poll\n", 1, r"idle: it stands before the first \[section\]"),
    ("[vhubd]\nidle\n", 2, r"idle: this is neither a \[section\] nor key=value"),
    ("[vhubd]\n; idle = poll\n", 2, r"comments begin with #"),
    ("[vhubd\n", 1, r"a section is a line \[NAME\]"),
    ("[vhubd] idle=poll\n", 1, r"a section is a line \[NAME\]"),
    ("[blk " + "d" * 64 + "]\ndriver=null\n", 1, r"the device's name, 1 to 63 of A-Z"),
    ("[vhubd]\n= 1\n", 2, r"=1: there is no key"),
    ("[vhubd]\n" + "k" * 400 + "=1\n", 2, r"\[vhubd\] k{400}=1: there is no such key"),
    (b"[vhubd]\nidle\0=poll\n", 2, r"zero byte"),
])
def test_what_is_wrong_is_said_with_file_line_section_and_key(folder, text, line, words):
    status, error = read(folder, text)
    assert status == 2
    assert re.search(rf"^vhubd: {folder}/vhubd.ini:{line}: .*{words}", error), error
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize("name, said", [("none.ini", "--config {}/none.ini: No such file"), ("", "{}/:0: Is a directory")],
                         ids=["none", "folder"])
def test_a_file_that_cannot_be_read_may_be_there_the_next_time(folder, name, said):
    done = subprocess.run([build_dir() / "app/vhubd", "--config", f"{folder}/{name}"], capture_output=True,
                          text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert said.format(folder) in done.stderr


@pytest.mark.parametrize("name", ["none", "x" * 400])
def test_an_object_that_cannot_be_loaded_may_be_there_the_next_time(folder, name):
    status, error = read(folder, f"[vhubd]\nload = /{name}.so # {'y' * 400}\n")
    assert status == 1
    assert re.search(rf"^vhubd: {folder}/vhubd.ini:2: \[vhubd\] load=/{name}.so: .*/{name}", error), error
    assert len(error.splitlines()) == 1


def test_options_and_files_go_together(vhubd, blk, folder):
    (folder / "a.ini").write_text("[vhubd]\nidle = poll   # burns\nidle-us=70\ntelemetry = yes\n"
                                  f"[blk inner]\nsocket = {folder}/inner.sock\ndriver=malloc\nsize=8M\n"
                                  f"[ blk  odd ]\nsocket = {folder}/a\\#b=c.sock # x\ndriver=[null]\n")
    vhubd(blk("outer"), args=["--config", str(folder / "a.ini"), "--idle", "adaptive", "--control",
                              str(folder / "c.sock")])
    with Control(folder / "c.sock") as control:
        assert control.names() == ["outer", "inner", "odd"]
        text = control.call("config_save")["text"]
    assert "idle = adaptive\n" in text and "idle-us = 70\n" in text and "telemetry = on\n" in text
    with BlkDisk.open(str(folder / "a#b=c.sock")) as disk:
        disk.read(0, 4096)


@pytest.mark.parametrize("way", ["text", "file"])
def test_what_is_saved_is_read_back(vhubd, blk, folder, way):
    control_path = folder / "c.sock"
    first = vhubd(blk("a"), blk("b", size="8M", queues=4, serial="x#y[1,2]", ro="on"), blk("gone", driver="null"),
                  args=["--control", str(control_path), "--idle-us", "77", "--log-level", "debug"])
    with Control(control_path) as control:
        control.call("device_add", kind="blk", name="hot",
                     args={"socket": f"{folder}/hot.sock", "driver": "null", "size": "1G", "mode": "0600"})
        control.call("device_remove", name="gone")
        devices = control.call("device_list")
        saved = folder / "saved.ini"
        saved.write_text("before")
        saved.chmod(0o640)
        if way == "text":
            saved.write_text(control.call("config_save")["text"])
        else:
            assert control.call("config_save", path=str(saved)) == {"path": str(saved)}
        text = control.call("config_save")["text"]
    assert saved.stat().st_mode & 0o777 == 0o640
    assert [path.name for path in folder.glob("saved.ini*")] == ["saved.ini"]
    first.blks.pop()
    first.stop()
    vhubd(args=["--config", str(saved)])
    with Control(control_path) as control:
        assert control.call("device_list") == devices
        assert control.call("config_save")["text"] == text


def owners(control):
    return {each["name"]: [queue["lcore"] for queue in control.call("device_stats", name=each["name"])[0]["queues"]]
            for each in control.call("device_list")}


def test_where_queues_are_is_saved_and_holds_after_a_restart(vhubd, blk, net, folder):
    """As the key says, which is there for every kind of device, and after queue_move."""
    path, saved = folder / "c.sock", folder / "saved.ini"
    begin = {"a": [3, 1, 3, 1], "b": [1, 2], "port": [2, 3, 1], "up0": [3, 2]}
    moved = {"a": [3, 2, 3, 1], "b": [1, 1], "port": [2, 3, 1], "up0": [3, 2]}
    first = vhubd(blk("a", queues=4, affinity="3+1"), blk("b", driver="null", queues=2, lcores=2),
                  nets=[net("port", queues=3, affinity="2-3+1")], eal=worker_arguments(3),
                  args=["--control", str(path), "--uplink", "up0,bridge=br0,port=[net_null0],queues=2,affinity=3+2"])
    with Control(path) as control:
        assert owners(control) == begin
        control.call("queue_move", device="a", queue=1, lcore=2)
        control.call("queue_move", device="b", queue=1, lcore=1)
        assert owners(control) == moved
        control.call("config_save", path=str(saved))
        text = control.call("config_save")["text"]
    assert re.findall(r"affinity = (.*)", text) == ["3+2+3+1", "1", "2-3+1", "3+2"]
    first.stop()
    vhubd(args=["--config", str(saved)], eal=worker_arguments(3))
    with Control(path) as control:
        assert owners(control) == moved
        assert control.call("config_save")["text"] == text
    with BlkDisk.open(str(folder / "a.sock"), queues=4) as disk:
        for queue in range(4):
            disk.read(0, 4096, queue=queue)


def test_a_worker_that_is_not_there_is_named_with_those_that_are(vhubd, blk, net, folder):
    path = folder / "c.sock"
    daemon = vhubd(blk("a", affinity="1+4"), eal=worker_arguments(2), wait=False)
    assert daemon.process.wait(60) == 1
    assert "a: affinity: there is no worker 4; there are 1, 2\n" in daemon.log
    vhubd(args=["--control", str(path)], eal=worker_arguments(1))
    with Control(path) as control:
        for kind, keys in (("blk", {"driver": "null"}), ("net", {"driver": "echo"})):
            with pytest.raises(Refused, match="^affinity: there is no worker 0; there is 1$") as caught:
                control.call("device_add", kind=kind, name="d", args={"socket": f"{folder}/d.sock", "affinity": 0, **keys})
            assert caught.value.code == -32602
        assert control.names() == []


@pytest.mark.parametrize("there", [True, False], ids=["there", "to be made"])
@pytest.mark.parametrize("text", ["{}/real/saved.ini", "real/saved.ini"], ids=["absolute", "relative"])
def test_a_link_is_saved_to_where_it_leads(vhubd, folder, text, there):
    real, link, more = folder / "real" / "saved.ini", folder / "link.ini", folder / "more.ini"
    real.parent.mkdir()
    if there:
        real.write_text("before")
    link.symlink_to(text.format(folder))
    more.symlink_to("link.ini")
    vhubd(args=["--control", str(folder / "c.sock")])
    with Control(folder / "c.sock") as control:
        control.call("config_save", path=str(more))
        assert link.is_symlink() and more.is_symlink() and not real.is_symlink()
        assert real.read_text() == control.call("config_save")["text"]
    assert [path.name for path in real.parent.iterdir()] == ["saved.ini"]


def test_a_file_keeps_its_owner_and_its_mode(vhubd, folder):
    saved = folder / "saved.ini"
    saved.write_text("before")
    os.chown(saved, 4711, 4712)
    saved.chmod(0o640)
    vhubd(args=["--control", str(folder / "c.sock")])
    with Control(folder / "c.sock") as control:
        for path in (saved, folder / "new.ini"):
            control.call("config_save", path=str(path))
    found = saved.stat()
    assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (4711, 4712, 0o640)
    assert saved.read_text().startswith("# vhubd")
    assert (folder / "new.ini").stat().st_mode & 0o777 == 0o600


def test_who_may_not_give_files_away_keeps_no_rights_of_another_group(vhubd, folder):
    saved = folder / "saved.ini"
    saved.write_text("before")
    os.chown(saved, 4711, 4712)
    saved.chmod(0o664)
    vhubd(args=["--control", str(folder / "c.sock")],
          prefix=["setpriv", "--bounding-set=-chown", "--inh-caps=-chown", "--"])
    with Control(folder / "c.sock") as control:
        control.call("config_save", path=str(saved))
    found = saved.stat()
    assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (os.geteuid(), os.getegid(), 0o604)


def test_what_is_not_saved_to(vhubd, folder):
    """A link that others can have lead anywhere, one that leads nowhere, and what is no file."""
    for name, to in (("theirs", "x.ini"), ("loop", "loop")):
        (folder / name).symlink_to(to)
    os.chown(folder / "theirs", 4711, 4711, follow_symlinks=False)
    os.mkfifo(folder / "fifo")
    vhubd(args=["--control", str(folder / "c.sock")])
    before = sorted(folder.iterdir())
    with Control(folder / "c.sock") as control:
        for name, words in (("theirs", "theirs is a link that user 4711 has made"), ("loop", "loop is a link that leads too far"),
                            ("fifo", "fifo is no file"), (".", "is no file")):
            with pytest.raises(Refused, match=words) as caught:
                control.call("config_save", path=f"{folder}/{name}")
            assert caught.value.code == -32007
    assert sorted(folder.iterdir()) == before
    assert (folder / "fifo").is_fifo()


def test_a_file_that_cannot_be_written(vhubd, folder):
    """As often as it is tried: what fails at once may be over before its caller looks again."""
    vhubd(args=["--control", str(folder / "c.sock")])
    with Control(folder / "c.sock") as control:
        for _ in range(1000):
            with pytest.raises(Refused, match="/none/x.ini.* cannot be made: No such file") as caught:
                control.call("config_save", path="/none/x.ini")
            assert caught.value.code == -32007


def bridges(control):
    return {each["name"]: (each["ageing_s"], each["max_stations"]) for each in control.call("bridge_list")}


def test_what_ports_have_from_others_is_saved_with_them(vhubd, folder):
    """What their bridge has from its first port, and how long tx queues are with what others have left: in the file,
    which has the order of adding, others may come first."""
    path, saved = folder / "c.sock", folder / "saved.ini"
    ports = {"a": "driver=bridge,bridge=br0,ageing=60,table=1000", "b": "driver=bridge,bridge=br0",
             "other": "driver=bridge,bridge=br1",
             **{f"e{i}": f"driver=ethdev,port=[net_null{i}],rxd=64" for i in range(1, 6)}}

    def add(control, name, more=""):
        control.call("device_add", kind="net", name=name, args=f"socket={folder}/{name}.sock,{ports[name]}{more}")

    def restart(daemon):
        daemon.stop()
        return vhubd(args=["--config", str(saved)])

    daemon = vhubd(args=["--control", str(path)])
    with Control(path) as control:
        add(control, "a")
        control.call("device_add", kind="uplink", name="up", args="bridge=br0,port=[net_null0],rxd=64")
        add(control, "b")
        add(control, "other")
        with pytest.raises(Refused, match="txd=32768") as caught:
            add(control, "e1", ",txd=32768")
        ports["e1"] += ",txd=%d" % (int(re.search(r"(\d+) are left", str(caught.value)).group(1)) - 512)
        for i in range(1, 6):
            add(control, f"e{i}")
        for name in ("a", "e1"):
            control.call("device_remove", name=name)
            add(control, name)
        names = control.names()
        text = control.call("config_save")["text"]
        control.call("config_save", path=str(saved))
    assert re.findall(r"txd = (.*)", text)[:4] == ["128", "64", "64", "64"]
    daemon = restart(daemon)
    with Control(path) as control:
        assert control.names() == names
        assert bridges(control) == {"br0": (60, 1000), "br1": (300, 8192)}
        assert control.call("config_save")["text"] == text
        control.call("device_remove", name="a")
        control.call("config_save", path=str(saved))
    restart(daemon)
    with Control(path) as control:
        assert bridges(control) == {"br0": (60, 1000), "br1": (300, 8192)}


def test_what_is_long_is_saved_and_read_back(vhubd, blk, net, folder):
    """Whatever was taken: a name, a path, a trunk, and where each of many queues is."""
    path, saved = folder / "c.sock", folder / "saved.ini"
    deep = folder / ("x" * 200) / ("y" * 200)
    deep.mkdir(parents=True)
    trunk = "+".join(map(str, range(1000, 1408, 2)))
    eal = [word.replace(",1@", ",126@").replace(",2@", ",127@") for word in worker_arguments(2)]
    first = vhubd(blk("wide", driver="null", queues=128, affinity="126+127"), blk("d" * 63, size="1M", file=deep / "disk"),
                  nets=[net("port", driver="bridge", bridge="br0")], eal=eal, args=["--control", str(path)])
    with Control(path) as control:
        assert control.call("bridge_port_set", name="port", trunk=trunk)["trunk"] == trunk
        control.call("queue_move", name="wide", queue=3, lcore=126)
        moved = owners(control)
        control.call("config_save", path=str(saved))
        text = control.call("config_save")["text"]
    assert max(map(len, text.splitlines())) > 1000
    first.stop()
    vhubd(args=["--config", str(saved)], eal=eal)
    with Control(path) as control:
        assert owners(control) == moved
        assert control.call("bridge_list")[0]["ports"][0]["trunk"] == trunk
        assert control.call("config_save")["text"] == text


def test_what_a_file_cannot_hold_is_not_saved(vhubd, folder):
    vhubd(args=["--control", f"{folder}/c.sock "])
    with Control(f"{folder}/c.sock ") as control:
        with pytest.raises(Refused, match="the value of control begins or ends with a blank") as caught:
            control.call("config_save")
        assert caught.value.code == -32007


def test_what_a_file_cannot_hold_no_device_has(vhubd, folder):
    path, saved = folder / "c.sock", folder / "saved.ini"
    first = vhubd(args=["--control", str(path)])
    with Control(path) as control:
        def add(file):
            control.call("device_add", kind="blk", name="d",
                         args={"socket": f"{folder}/d.sock", "driver": "malloc", "size": "1M", "file": file})
        for file, words in ((f"{folder}/x ", "begins or ends with a blank"), (f"\t{folder}/x", "begins or ends with a blank"),
                            (f"[{folder}/x\ny]", "has more than one line")):
            with pytest.raises(Refused, match=f"the value of file {words}; allowed: one line, in brackets") as caught:
                add(file)
            assert caught.value.code == -32602
        add(f"[{folder}/x ]")
        assert (folder / "x ").is_file()
        control.call("config_save", path=str(saved))
        devices = control.call("device_list")
    first.stop()
    vhubd(args=["--config", str(saved)])
    with Control(path) as control:
        assert control.call("device_list") == devices


def test_the_example_can_be_used(vhubd, folder):
    text = (ROOT / "config/vhubd/example.ini").read_text()
    path = folder / "example.ini"
    path.write_text(text.replace("/run/vhub", str(folder)))
    vhubd(args=["--config", str(path)])
    with Control(folder / "control.sock") as control:
        assert control.names() == ["disk0", "disk1"]
    for name in ("disk0", "disk1"):
        with BlkDisk.open(str(folder / f"{name}.sock")) as disk:
            disk.read(0, 4096)


def test_libvirts_disk_asks_for_as_many_queues_as_the_disks_have():
    """QEMU does not start with fewer; without a number it asks for as many as the guest has CPUs."""
    disk = ElementTree.parse(ROOT / "config/libvirt/disk0.xml").getroot()
    unit = re.search(r"VHUBD_ARGS=(--blk .*)", (ROOT / "config/systemd/vhubd.service").read_text()).group(1)
    program = re.search(r"ExecStart=(.*)", (ROOT / "config/systemd/vhub-blk@.service").read_text()).group(1)
    example = re.search(r"\[blk disk0\]\n([^\[]*)", (ROOT / "config/vhubd/example.ini").read_text()).group(1)
    for text in (unit, program, example):
        given = re.search(r"queues ?= ?(\d+)", text)
        assert disk.find("driver").get("queues") == (given.group(1) if given else "1"), text
