# SPDX-License-Identifier: BSD-3-Clause
"""Services of a port: rate limits, figures, mirrors and captures, for packets as views and as mbufs, on both data
paths.

Rates are so low that no more becomes due during a test; what may come at once is what passes.
"""

import os
import struct
import time

import pytest

from control import Refused, vhubctl
from lan import QUIET, control, daemon, lan     # noqa: F401
from vhostuser import NF, NetHeader, packets

WAYS = ["from_guest", "to_guest"]


def whole(lan, name):
    return "%s-%s" % (lan.name, name)


def frames(count, size=100, first=0):
    return [packets.plain(seed, size) for seed in range(first, first + count)]


def send(session, some, **shape):
    """All published together, and taken."""
    session.wait_sent(session.submit([session.prepare(each, **shape) for each in some]))


def receive(session, expected):
    """These, in order, and no more."""
    for each in expected:
        assert session.receive().frame == each
    assert session.quiet(seconds=QUIET)


# rate limits


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("driver", ["echo", "patch"])
def test_packets_over_the_limit_are_dropped(lan, driver, way):
    limits = {way + "_packets_per_s": 1, way + "_packets_burst": 20}
    limited, other = ("b", "a") if way == "to_guest" else ("a", "b")
    if driver == "echo":
        sender = receiver = lan.port(limited, driver="echo", **limits)
    else:
        ports = {limited: lan.port(limited, driver="patch", **limits), other: lan.port(other, driver="patch")}
        sender, receiver = ports["a"], ports["b"]
    sent = frames(30)
    send(sender, sent)
    receive(receiver, [packets.swapped(each) for each in sent[:20]] if driver == "echo" else sent[:20])
    figures = lan.figures(limited)
    assert figures["dropped_rate_limited_" + way] == 10
    # What is refused was sent all the same; what was not given was not received.
    assert figures[way + "_packets"] == (30 if way == "from_guest" else 20)
    lan.control.call("port_set_qos", name=whole(lan, limited), **{way + "_packets_per_s": 0})
    sent = frames(30, first=100)
    send(sender, sent)
    receive(receiver, [packets.swapped(each) for each in sent] if driver == "echo" else sent)
    assert lan.figures(limited)["dropped_rate_limited_" + way] == 10


def test_bytes_over_the_limit_are_dropped_and_small_ones_pass(lan):
    port = lan.port("a", driver="echo", session={"buffers": 120}, from_guest_bytes_per_s=512, from_guest_bytes_burst="100k")
    large, small = frames(4, 40000), frames(20, 200)
    send(port, large[:2])
    send(port, large[2:] + small)
    receive(port, [packets.swapped(each) for each in large[:2] + small])
    assert lan.figures("a")["dropped_rate_limited_from_guest"] == 2


def test_frames_that_have_to_be_completed_are_paid_once(lan):
    """A receiver that takes no offloads gets its packets by another way."""
    a = lan.port("a", driver="patch", session={"features": (NF.CSUM,)})
    b = lan.port("b", driver="patch", to_guest_packets_per_s=1, to_guest_packets_burst=10)
    made = packets.segment(4, packets.TCP, b"x" * 500)
    send(a, [made.frame] * 15, header=made.header)
    for _ in range(10):
        assert packets.sums_up(b.receive().frame, 4, packets.TCP)
    assert b.quiet(seconds=QUIET)
    assert lan.figures("b")["dropped_rate_limited_to_guest"] == 5


def test_all_pairs_share_a_limit(lan):
    port = lan.port("a", driver="echo", session={"pairs": 2}, queues=2, from_guest_packets_per_s=1,
                    from_guest_packets_burst=10)
    for pair in range(2):
        sent = [port.prepare(each) for each in frames(8)]
        port.wait_sent(port.submit(sent, pair), pair)
    assert lan.figures("a")["dropped_rate_limited_from_guest"] == 6


def test_limits_are_checked_shown_and_saved(lan):
    name = lan.add("a", driver="echo", to_guest_bytes_per_s="1M")
    socket = lan.folder / "control.sock"
    for wrong, says in (({"from_guest_packets_per_s": -1}, "from_guest_packets_per_s=-1"),
                        ({"from_guest_bytes_per_s": 100}, "from_guest_bytes_per_s=100: allowed"),
                        ({"iops": 1}, "iops")):
        with pytest.raises(Refused, match=says) as refused:
            lan.control.call("port_set_qos", name=name, **wrong)
        assert refused.value.code == -32602
    with pytest.raises(Refused, match="to_guest_packets_per_s=1x.*to 1000000000"):
        lan.add("b", driver="echo", to_guest_packets_per_s="1x")
    now = lan.control.call("port_set_qos", name=name)
    assert len(now) == 8 and now["to_guest_bytes_per_s"] == 1 << 20 and sum(now.values()) == 1 << 20
    out = vhubctl(socket, "port-qos", name, "--from-guest-packets-per-s", "2k", "--to-guest-bytes-burst", "2M")
    assert out.returncode == 0 and "from_guest_packets_per_s=2000" in out.stdout, out.stderr
    saved = vhubctl(socket, "save").stdout
    assert "from_guest_packets_per_s = 2000" in saved and "to_guest_bytes_burst = 2097152" in saved


# all that a guest sends


def test_packets_that_go_no_further_count_with_their_bytes(lan):
    """Too short, too long, or with a sum that lies behind them."""
    port = lan.port("a", driver="echo", mtu=1500, session={"features": (NF.CSUM,)})
    sent = [packets.plain(1, 100)[:13], packets.plain(2, 1600), packets.plain(3, 200), packets.plain(4, 100)]
    for each in sent:
        port.send(each, header=NetHeader(flags=1, csum_start=300) if len(each) == 200 else NetHeader())
    while port.receive().frame != packets.swapped(sent[-1]):
        pass
    figures = lan.figures("a")
    assert figures["dropped_runt"] == figures["dropped_oversize"] == 1
    assert (figures["from_guest_packets"], figures["from_guest_bytes"]) == (len(sent), sum(map(len, sent)))


# frame sizes


def test_frames_are_counted_by_size(lan):
    port = lan.port("a", driver="echo", frame_sizes="on")
    sizes = [60, 63, 64, 64, 64, 65, 127, 128, 255, 256, 511, 512, 1023, 1024, 1518, 1519, 9000]
    for size in sizes:
        port.exchange(packets.plain(size, size))
    figures = lan.figures("a")
    bounds = [("undersize", 0, 63), ("size_64", 64, 64), ("size_65_127", 65, 127), ("size_128_255", 128, 255),
              ("size_256_511", 256, 511), ("size_512_1023", 512, 1023), ("size_1024_1518", 1024, 1518),
              ("size_1519_max", 1519, 65535)]
    for way in WAYS:
        found = {name: figures["%s_%s_packets" % (way, name)] for name, _, _ in bounds}
        assert found == {name: sum(low <= size <= high for size in sizes) for name, low, high in bounds}
    lan.port("b", driver="echo")
    assert "from_guest_size_64_packets" not in lan.figures("b")


@pytest.mark.parametrize("lan", ["librte_vhost"], indirect=True)
def test_the_library_s_figures_are_whole_when_traffic_has_stopped(lan):
    """Though nobody but the worker looks at them, which sleeps then."""
    port = lan.port("a", driver="echo")
    for count in (5, 10):
        sent = frames(5)
        send(port, sent)
        receive(port, [packets.swapped(each) for each in sent])
        for way in WAYS:
            lan.wait_figure("a", "library_%s_good_packets" % way, count)


# mirrors


@pytest.mark.parametrize("direction", ["both", "from_guest", "to_guest"])
def test_a_mirror_gets_what_passes_a_port(lan, direction):
    a, b = (lan.port(name, driver="patch") for name in "ab")
    probe = lan.port("probe", driver="null")
    lan.control.call("port_mirror_set", name=whole(lan, "a"), to=whole(lan, "probe"), direction=direction)
    expected = []
    for seed in range(10):
        one, two = packets.plain(seed, 60 + 700 * seed), packets.plain(100 + seed, 1000)
        a.send(one)
        assert b.receive().frame == one
        b.send(two)
        assert a.receive().frame == two
        expected += [one] * (direction != "to_guest") + [two] * (direction != "from_guest")
    receive(probe, expected)
    figures = lan.figures("a")
    assert (figures["mirrored_packets"], figures["mirror_dropped"]) == (len(expected), 0)
    lan.control.call("port_mirror_clear", name=whole(lan, "a"))
    a.send(packets.plain(5, 100))
    assert b.receive().frame == packets.plain(5, 100)
    assert probe.quiet(seconds=QUIET)


def test_a_mirror_gets_nothing_longer_than_its_mtu(lan):
    name = lan.add("probe", driver="null", mtu=1500)
    probe = lan.open("probe")
    port = lan.port("a", driver="echo", mirror=name, mirror_direction="from_guest")
    for size in (1523, 1522):
        sent = packets.plain(size, size)
        assert port.echo(sent) == packets.swapped(sent)
    receive(probe, [packets.plain(1522, 1522)])
    lan.wait_figure("probe", "dropped_oversize", 1)


def test_a_mirror_that_takes_nothing_costs_its_port_nothing(lan):
    """Copies are dropped and counted: without a guest, without buffers, with the ring full."""
    name = lan.add("probe", driver="null")
    port = lan.port("a", driver="echo", mirror=name)
    port.exchange(packets.plain(1, 100))
    assert lan.figures("a")["mirror_dropped"] == 2
    probe = lan.open("probe", buffers=4)
    for seed in range(300):
        assert port.echo(packets.plain(seed, 600)) == packets.swapped(packets.plain(seed, 600))
    figures = lan.figures("a")
    assert figures["dropped_no_mbuf"] == figures["dropped_ring_full"] == 0
    assert figures["mirrored_packets"] + figures["mirror_dropped"] == 602
    assert probe.receive().frame == packets.plain(0, 600)


def test_mirrors_of_each_other_make_no_loop(lan):
    a, b = (lan.port(name, driver="echo", mirror="%s-%s" % (lan.name, other)) for name, other in ("ab", "ba"))
    sent = packets.plain(7, 300)
    a.send(sent)
    receive(a, [packets.swapped(sent)])
    receive(b, [sent, packets.swapped(sent)])
    assert (lan.figures("a")["mirrored_packets"], lan.figures("b")["mirrored_packets"]) == (2, 0)


def test_a_mirror_goes_and_comes_again(lan):
    port = lan.port("a", driver="echo", mirror=lan.name + "-probe", mirror_direction="from_guest")
    for turn in range(2):
        probe = lan.port("probe", driver="null")
        sent = packets.plain(turn, 200)
        port.exchange(sent)
        receive(probe, [sent])
        lan.remove("probe")
        port.exchange(sent)
    assert lan.figures("a")["mirror_dropped"] == 2


def test_copies_are_completed_for_who_does_not_take_them(lan):
    """Each frame once, also where it is completed for its own receiver."""
    a = lan.port("a", driver="patch", session={"features": (NF.CSUM,)})
    b = lan.port("b", driver="patch", mirror=lan.name + "-probe")
    probe = lan.port("probe", driver="null")
    made = packets.segment(4, packets.TCP, b"x" * 500)
    send(a, [made.frame] * 5, header=made.header)
    for session in (b, probe):
        for _ in range(5):
            assert packets.sums_up(session.receive().frame, 4, packets.TCP)
        assert session.quiet(seconds=QUIET)


def test_mirrors_are_checked_shown_and_saved(lan):
    name, probe = lan.add("a", driver="echo"), lan.add("probe", driver="null")
    socket = lan.folder / "control.sock"
    for wrong, says in (({"to": name}, "its own mirror"), ({"to": "nowhere"}, "no port nowhere"), ({"to": ""}, "to="),
                        ({"to": probe, "direction": "up"}, "direction=up; allowed")):
        with pytest.raises(Refused, match=says) as refused:
            lan.control.call("port_mirror_set", name=name, **wrong)
        assert refused.value.code == -32602
    with pytest.raises(Refused, match="mirror_direction"):
        lan.add("b", driver="echo", mirror=name, mirror_direction="up")
    out = vhubctl(socket, "mirror", name, probe, "--direction", "to_guest")
    assert out.returncode == 0 and "mirrored to" in out.stdout, out.stderr
    saved = vhubctl(socket, "save").stdout
    assert "mirror = " + probe in saved and "mirror_direction = to_guest" in saved
    assert vhubctl(socket, "mirror", name, "none").returncode == 0
    assert "mirror = none" in vhubctl(socket, "save").stdout


# captures


def blocks(path):
    """(type, body) of each block of a pcapng file, which is whole."""
    data, at, found = path.read_bytes(), 0, []
    while at < len(data):
        kind, size = struct.unpack_from("<II", data, at)
        assert size % 4 == 0 and struct.unpack_from("<I", data, at + size - 4)[0] == size
        found.append((kind, data[at + 8:at + size - 4]))
        at += size
    return found


def captured(path):
    """(bytes that are there, length, direction, pair) of each packet, and their times in ns."""
    (first, section), (second, interface), *rest = blocks(path)
    assert (first, second) == (0x0a0d0d0a, 1) and section[:8] == struct.pack("<IHH", 0x1a2b3c4d, 1, 0)
    assert struct.unpack_from("<H", interface)[0] == 1
    found, times = [], []
    for kind, body in rest:
        which, high, low, here, length = struct.unpack_from("<IIIII", body)
        assert (kind, which) == (6, 0)
        options = body[20 + (here + 3) // 4 * 4:]
        flags, pair = struct.unpack_from("<4xI4xI", options)
        found.append((body[20:20 + here], length, {1: "from_guest", 2: "to_guest"}[flags], pair))
        times.append(high << 32 | low)
    return found, times


def start(lan, name, path, **keys):
    lan.control.call("port_capture_start", name=whole(lan, name), path=str(path), **keys)


def stop(lan, name):
    return lan.control.call("port_capture_stop", name=whole(lan, name))


def test_a_capture_has_what_passes(lan, tmp_path):
    port, path = lan.port("a", driver="echo", session={"pairs": 2}, queues=2), tmp_path / "a.pcapng"
    begin = time.time_ns()
    start(lan, "a", path)
    assert path.stat().st_mode & 0o777 == 0o600
    expected = []
    for seed in range(12):
        frame = packets.plain(seed, 60 + 333 * seed)
        assert port.echo(frame, seed % 2) == packets.swapped(frame)
        expected += [(frame, len(frame), "from_guest", seed % 2),
                     (packets.swapped(frame), len(frame), "to_guest", seed % 2)]
    result = stop(lan, "a")
    port.echo(packets.plain(99, 100))
    assert result == {"packets": 24, "bytes": path.stat().st_size, "error": ""}
    found, times = captured(path)
    assert found == expected
    assert begin <= times[0] and times == sorted(times) and times[-1] <= time.time_ns()
    figures = lan.figures("a")
    assert (figures["captured_packets"], figures["capture_dropped"]) == (24, 0)


def test_a_capture_is_filtered_and_cut(lan, tmp_path):
    port, path = lan.port("a", driver="echo"), tmp_path / "a.pcapng"
    start(lan, "a", path, filter="udp and ip", snaplen=50, direction="from_guest")
    made = [packets.segment(4, protocol, b"x" * size, csum="full").frame
            for size in (10, 5000) for protocol in (packets.TCP, packets.UDP)]
    for frame in made:
        port.exchange(frame)
    assert stop(lan, "a")["packets"] == 2
    assert captured(path)[0] == [(frame[:50], len(frame), "from_guest", 0) for frame in (made[1], made[3])]


def test_a_capture_ends_where_its_file_is_full(lan, tmp_path):
    port, path = lan.port("a", driver="echo"), tmp_path / "a.pcapng"
    start(lan, "a", path, max_bytes=4096)
    for seed in range(10):
        port.exchange(packets.plain(seed, 900))
    result = stop(lan, "a")
    assert result["packets"] == len(captured(path)[0]) == 4 and path.stat().st_size <= 4096
    assert result["error"] == ""


def test_captures_that_cannot_be_made(lan, tmp_path):
    name, path = lan.add("a", driver="echo"), tmp_path / "a.pcapng"
    (tmp_path / "there").write_bytes(b"mine")
    os.symlink(path, tmp_path / "link")
    for wrong, says in (({"path": str(tmp_path / "there")}, "File exists"), ({"path": str(tmp_path / "link")}, "path="),
                        ({"path": str(tmp_path / "no" / "a")}, "No such file"), ({"filter": "tcp prot 80"}, "filter="),
                        ({"snaplen": 0}, "snaplen=0"), ({"max_bytes": 100}, "max_bytes=100"),
                        ({"direction": "up"}, "direction=up")):
        with pytest.raises(Refused, match=says) as refused:
            lan.control.call("port_capture_start", **{"name": name, "path": str(path), **wrong})
        assert refused.value.code == -32602
    assert not path.exists() and (tmp_path / "there").read_bytes() == b"mine"
    with pytest.raises(Refused, match="not being captured"):
        stop(lan, "a")
    socket = lan.folder / "control.sock"
    out = vhubctl(socket, "capture", name, path.name, "--filter", "tcp port 80", "--max-bytes", "1M", cwd=path.parent)
    assert out.returncode == 0 and f"is captured to {path}" in out.stdout, out.stderr
    with pytest.raises(Refused, match="captured already"):
        start(lan, "a", tmp_path / "b")
    out = vhubctl(socket, "capture-stop", name)
    assert out.returncode == 0 and "0 packets" in out.stdout, out.stderr


def test_a_port_is_removed_while_it_is_captured(lan, tmp_path):
    port, path = lan.port("a", driver="echo"), tmp_path / "a.pcapng"
    start(lan, "a", path)
    for seed in range(5):
        port.exchange(packets.plain(seed, 100))
    lan.remove("a")
    assert len(captured(path)[0]) == 10
