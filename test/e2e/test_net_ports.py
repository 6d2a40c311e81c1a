# SPDX-License-Identifier: BSD-3-Clause
"""Ports whose driver is ethdev or null, with dpdk-testpmd as front end: what is in a file reaches the
front end and what it sends lands in a file, byte for byte; a port tells its speed; frames cross net_tap
and net_af_packet, and wake a worker that sleeps; the limits of a bridge's ports hold where vhubd begins
with them; the source counts; what cannot be served is refused with its reason.

Interfaces are made in a network namespace of the test's own. Needs root."""

import contextlib
import itertools
import os
import random
import socket
import struct
import subprocess
import time

import pytest

from control import Control
from netns import own_network
from test_idle import share
from testpmd import Testpmd, front_end
from vhostuser import NF, PATIENCE, NetPort, packets, wait_until
from vhostuser.flow import flow
from vhostuser.net import NoPacket
from vhubd import no_huge_arguments, worker_arguments

PCAP_HEADER = struct.pack("<IHHiIII", 0xa1b2c3d4, 2, 4, 0, 0, 65535, 1)
# For local experiments (IEEE 802): the kernel sends none of its own accord.
ETHERTYPE = 0x88b5
HOST, GUEST = bytes.fromhex("020000000001"), bytes.fromhex("525400000002")


def frame(number, size=64, to=GUEST, by=HOST):
    return (to + by + struct.pack(">HI", ETHERTYPE, number)).ljust(size, bytes([number % 251]))


def write_pcap(path, frames):
    records = (struct.pack("<IIII", 1, 0, len(each), len(each)) + each for each in frames)
    path.write_bytes(PCAP_HEADER + b"".join(records))


def read_pcap(path):
    data, at, frames = path.read_bytes(), len(PCAP_HEADER), []
    while at < len(data):
        size = struct.unpack_from("<I", data, at + 8)[0]
        frames.append(data[at + 16:at + 16 + size])
        at += 16 + size
    return frames


@pytest.fixture
def namespace():
    with own_network():
        yield


@pytest.fixture
def testpmd(folder):
    started = []

    def start(path, *vdevs, mode, kind="split"):
        eal = front_end(path, kind)
        for each in vdevs:
            eal += ["--vdev", each]
        # Else it begins with throwing away what its ports have for it.
        args = ["--no-flush-rx", f"--forward-mode={mode}",
                f"--port-topology={'paired' if vdevs else 'loop'}"]
        started.append(Testpmd(eal, args=args, folder=folder))
        return started[-1].start()

    yield start
    for each in started:
        each.kill()


def ip(words):
    subprocess.run(["ip", *words.split()], check=True, timeout=60)


def wire(interface):
    """The far end of the wire."""
    ip(f"link set {interface} up")
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETHERTYPE))
    sock.bind((interface, ETHERTYPE))
    sock.settimeout(30)
    return sock


def echoed(sock, sent):
    """Sends a frame; it has to come back, whole, with its addresses swapped."""
    sock.send(sent)
    while True:
        got, address = sock.recvfrom(2048)
        if address[2] != socket.PACKET_OUTGOING:
            break
    assert got == sent[6:12] + sent[:6] + sent[12:]


# --- what a port tells of itself

@pytest.mark.parametrize("datapath", ["direct", "librte_vhost"])
def test_a_port_that_knows_its_speed_tells_it(vhubd, net, folder, datapath):
    """DPDK's net_null has 10 Gbit/s in both directions; behind the driver null there is nothing."""
    vhubd(nets=[net("fast", driver="ethdev", port="net_null0", datapath=datapath),
                net("unknown", driver="null", datapath=datapath)])
    with NetPort(str(folder / "fast.sock")) as fast, NetPort(str(folder / "unknown.sock")) as unknown:
        fast.negotiate((NF.SPEED_DUPLEX,))
        assert (fast.config("speed"), fast.config("duplex")) == (10000, 1)
        unknown.negotiate()
        assert not unknown.offered >> NF.SPEED_DUPLEX & 1


# --- files

@pytest.mark.parametrize("kind", ["split", "packed"])
def test_files_arrive_byte_for_byte(vhubd, net, testpmd, folder, kind):
    chance = random.Random(7)
    # Again and again, since what is read before the front end has buffers is dropped; short, as the
    # file of what came grows fast. The other direction goes once, and no more than a ring takes.
    to_guest = [frame(i, 1514 if i % 50 == 0 else chance.randint(60, 300)) for i in range(100)]
    from_guest = [frame(i, chance.randint(60, 1514), by=GUEST, to=HOST) for i in range(100, 200)]
    write_pcap(folder / "to.pcap", to_guest)
    write_pcap(folder / "from.pcap", from_guest)
    daemon = vhubd(nets=[net(driver="ethdev", port=f"[net_pcap0,rx_pcap={folder}/to.pcap,"
                                                   f"tx_pcap={folder}/sent.pcap,infinite_rx=1]")])
    front = testpmd(folder / "port0.sock", f"net_pcap1,rx_pcap={folder}/from.pcap,"
                                           f"tx_pcap={folder}/came.pcap", mode="io", kind=kind)
    front.cmd("start")
    wait_until(lambda: front.port_stats()[1]["TX-packets"] >= 1000 and front.port_stats()[0]["TX-packets"] >= 100,
               front.port_stats)
    front.cmd("stop")
    front.stop()
    daemon.stop()
    assert set(read_pcap(folder / "came.pcap")) == set(to_guest)
    assert read_pcap(folder / "sent.pcap") == from_guest


# --- interfaces of the kernel

def test_a_frame_wakes_a_worker_that_sleeps(vhubd, net, testpmd, folder, namespace):
    """Pauses around the time after which the worker sleeps: the race between its last look, the
    edge, and the signal that net_tap's driver waits for."""
    chance = random.Random(5)
    daemon = vhubd(nets=[net(driver="ethdev", port="[net_tap0,iface=tap0]")],
                   args=["--idle-us", "50"])
    front = testpmd(folder / "port0.sock", mode="macswap")
    front.cmd("start")
    with wire("tap0") as sock:
        for i in range(1000):
            echoed(sock, frame(i, chance.choice((60, 64, 1514))))
            time.sleep(chance.uniform(0, 0.001))
        time.sleep(0.5)
        assert share(daemon.pid, 2) < 0.05, "it does not sleep"
        echoed(sock, frame(1001))
    front.stop()


def came(port, sock, first):
    """Sends frames with this number and later ones until one comes, since those that were sent before the ring was
    open do not; no other frame comes but what a session had left to be received before."""
    for number in range(first, first + 30000):
        sock.send(frame(number))
        try:
            got = struct.unpack_from(">I", port.receive(timeout=0.01).frame, 14)[0]
        except NoPacket:
            continue
        assert got >= 1000, "what came before is not for the guest"
        if got >= first:
            return
    raise AssertionError("nothing comes")


@pytest.mark.parametrize("why", ["disabled", "link", "no session"])
@pytest.mark.parametrize("datapath", ["direct", "librte_vhost"])
def test_what_came_before_is_not_for_the_guest(vhubd, net, folder, namespace, why, datapath):
    path = str(folder / "port0.sock")
    vhubd(nets=[net(driver="ethdev", port="[net_tap0,iface=tap0]", datapath=datapath, rxd=64)],
          args=["--control", folder / "control.sock"])
    with wire("tap0") as sock, Control(folder / "control.sock") as control:
        def stats():
            return control.call("device_stats", name="port0")[0]

        def worker():
            return control.call("lcore_list")[0]

        def has_come_round(before):
            now = worker()
            return now["turns"] > before + 1 or now["turns"] > before and now["asleep"]

        port = NetPort.open(path, buffers=128, size=256)
        came(port, sock, 1000)
        if why == "disabled":
            port.set_vring_enable(0, False)
        elif why == "link":
            before = worker()["turns"]
            control.call("port_set_link", name="port0", state="down")
            # It is told by a word, for which a worker that sleeps is woken.
            wait_until(lambda: has_come_round(before), worker)
        else:
            port.close()
            wait_until(lambda: stats()["session"]["started_queues"] == 0, stats)
        for number in range(300):
            sock.send(frame(number))
        if why == "disabled":
            port.set_vring_enable(0, True)
        elif why == "link":
            control.call("port_set_link", name="port0", state="up")
        else:
            port = NetPort.open(path, buffers=128, size=256)
        came(port, sock, 1 << 20)
        port.close()
        assert stats()["figures"]["dropped_no_ring"] >= 300


def datagram(number):
    """Of a flow of its own."""
    head = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 60, number, 0, 64, 17, 0, bytes([10, 7, 0, 1]), bytes([10, 7, 0, 2]))
    total = sum(struct.unpack(">10H", head))
    total = (total & 0xffff) + (total >> 16)
    head = head[:10] + struct.pack(">H", ~total & 0xffff) + head[12:]
    return GUEST + HOST + b"\x08\x00" + head + struct.pack(">HHHHI", 1000 + number, 9, 40, 0, number) + bytes(28)


def by_pairs(port, pairs, count):
    """Numbers of datagrams that come, by these pairs and no other, until there are so many."""
    numbers, late = [], time.monotonic() + PATIENCE
    while len(numbers) < count:
        assert time.monotonic() < late, f"{count - len(numbers)} are missing"
        for pair in range(4):
            try:
                number = struct.unpack_from(">I", port.receive(pair, timeout=0).frame, 42)[0]
            except NoPacket:
                continue
            assert pair in pairs
            numbers.append(number)
    return numbers


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("datapath", ["direct", "librte_vhost"])
def test_flows_reach_a_guest_by_the_pairs_that_it_uses(vhubd, net, folder, namespace, workers, datapath):
    """Of four rx queues, over which the kernel spreads flows: by the first pair, by all, by some while they open and
    close. The workers sleep in between."""
    vhubd(nets=[net(driver="ethdev", port="[net_tap0,iface=tap0]", queues=4, datapath=datapath)],
          eal=worker_arguments(workers, 256), args=["--idle-us", "50", "--control", folder / "control.sock"])
    with wire("tap0") as sock, Control(folder / "control.sock") as control, \
            NetPort.open(str(folder / "port0.sock"), pairs=4, buffers=128, size=256, enable=False) as port:
        number = 0
        for pairs in ((0,), (0, 1, 2, 3), (1, 3), (2,), (0, 1, 2), (0,)):
            # What comes before the first one is open is not for the guest; until one is closed another one is open.
            for pair in sorted(range(4), key=lambda each: each not in pairs):
                port.set_vring_enable(2 * pair, pair in pairs)
                port.set_vring_enable(2 * pair + 1, pair in pairs)
            if number == 0:
                while port.quiet(seconds=0.01):
                    sock.send(datagram(0))
            control.settle()
            while not port.quiet(seconds=0.01):
                pass
            for number in range(number + 1, number + 101):
                sock.send(datagram(number))
            assert sorted(by_pairs(port, pairs, 100)) == list(range(number - 99, number + 1))


def test_frames_cross_a_veth_pair(vhubd, net, testpmd, folder, namespace):
    ip("link add near type veth peer name far")
    ip("link set near up")
    vhubd(nets=[net(driver="ethdev", port="[net_af_packet0,iface=near]", mac=GUEST.hex(":"))])
    front = testpmd(folder / "port0.sock", mode="macswap")
    front.cmd("start")
    with wire("far") as sock:
        for i in range(200):
            echoed(sock, frame(i, 60 + 7 * i))
    shown = subprocess.run(["ip", "link", "show", "near"], capture_output=True, text=True, check=True)
    assert GUEST.hex(":") in shown.stdout, "the port has not taken the guest's address"
    front.stop()


def syn_ack_to(syn):
    """What the other end answers."""
    source, = struct.unpack_from("!H", syn, 34)
    seq, = struct.unpack_from("!I", syn, 38)
    tcp = struct.pack("!HHIIBBHHH", 80, source, 1, seq + 1, 5 << 4, 0x12, 65535, 0, 0)
    ip_head = syn[14:24] + bytes(2) + syn[30:34] + syn[26:30]
    ip_head = ip_head[:2] + struct.pack("!H", 40) + ip_head[4:]
    ip_head = ip_head[:10] + struct.pack("!H", packets.sum16(ip_head) ^ 0xffff) + ip_head[12:]
    total = packets.sum16(packets.pseudo(4, ip_head, packets.TCP, 20) + tcp) ^ 0xffff
    return syn[6:12] + syn[:6] + syn[12:14] + ip_head + tcp[:16] + struct.pack("!H", total) + tcp[18:]


def test_the_hosts_own_stack_at_a_veth_pair(vhubd, net, folder, namespace):
    """With what the guide has ethtool switch off its packets are whole, and no longer than the MTU."""
    ip("link add near type veth peer name far")
    for words in ("far tx off tso off gso off", "near gro off"):
        subprocess.run(["ethtool", "-K", *words.split()], check=True, capture_output=True, timeout=60)
    ip("link set near up")
    daemon = vhubd(nets=[net(driver="ethdev", port="[net_af_packet0,iface=near]", mac=GUEST.hex(":"))])
    assert "ethtool -K with gro off for this end, with tx off tso off gso off for the other" in daemon.log
    ip("address add 10.9.0.1/24 dev far")
    ip(f"neighbour replace 10.9.0.2 lladdr {GUEST.hex(':')} dev far nud permanent")
    with NetPort.open(str(folder / "port0.sock"), buffers=64) as port, socket.socket() as tcp, \
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        ip("link set far up")
        udp.sendto(bytes(1000), ("10.9.0.2", 7))
        got = port.receive().frame
        assert len(got) == 1042 and packets.sums_up(got, 4, packets.UDP)
        tcp.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            tcp.connect(("10.9.0.2", 80))
        syn = port.receive().frame
        assert packets.sums_up(syn, 4, packets.TCP)
        port.send(syn_ack_to(syn))
        port.receive()
        tcp.send(bytes(5000))
        for _ in range(4):
            got = port.receive().frame
            assert len(got) <= 1514 and packets.sums_up(got, 4, packets.TCP)


# --- a bridge's uplink

def ping(sock, address, number):
    """One echo request by the kernel's own way, and its answer."""
    head = struct.pack(">BBHHH", 8, 0, 0, os.getpid() & 0xffff, number)
    data = head + bytes(range(48))
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    sock.sendto(data[:2] + struct.pack(">H", total ^ 0xffff) + data[4:], (address, 0))
    while True:
        answer, by = sock.recvfrom(2048)
        if by[0] == address and answer[20] == 0 and answer[24:] == data[4:]:
            return


def test_the_host_reaches_guests_through_an_uplink(vhubd, net, testpmd, folder, namespace):
    """Its kernel's IP at one end of the wire, two guests that answer at the bridge."""
    macs = {"one": "52:54:00:00:00:02", "two": "52:54:00:00:00:03"}
    vhubd(nets=[net(name, driver="bridge", bridge="br0", mac=mac) for name, mac in macs.items()],
          args=["--uplink", "up0,bridge=br0,port=[net_tap0,iface=host0]"])
    guests = [testpmd(folder / f"{name}.sock", mode="icmpecho") for name in macs]
    for each in guests:
        each.cmd("start")
    ip("address add 10.9.0.1/24 dev host0")
    ip("link set host0 up")
    for number, mac in enumerate(macs.values(), 2):
        ip(f"neighbour replace 10.9.0.{number} lladdr {mac} dev host0 nud permanent")
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as sock:
        sock.settimeout(30)
        for number in range(50):
            ping(sock, f"10.9.0.{2 + number % 2}", number)
    for each in guests:
        assert each.port_stats()[0]["TX-packets"] == 25
        each.stop()


@pytest.mark.plain_only                 # DPDK's bond does not free its arguments
def test_a_bond_uses_its_other_wire_when_one_goes_down(vhubd, net, folder):
    """Its wires are virtio-user ports, which tell DPDK when their back end has gone, as NICs tell of their links. At the
    far end of each what comes goes back."""
    sockets = [folder / f"wire{i}.sock" for i in range(2)]
    near_path, far_path = folder / "near.ctl", folder / "far.ctl"
    vhubd(nets=[net(f"wire{i}", connect=path) for i, path in enumerate(sockets)], args=["--control", str(far_path)])
    vdevs = [f"net_virtio_user{i},path={path},server=1,mac=02:00:00:00:01:0{i}" for i, path in enumerate(sockets)]
    vdevs.append("net_bonding0,mode=1,slave=net_virtio_user0,slave=net_virtio_user1")
    vhubd(nets=[net("vm0", driver="bridge", bridge="br0")],
          eal=[*no_huge_arguments(128), *(word for vdev in vdevs for word in ("--vdev", vdev))],
          args=["--control", str(near_path), "--uplink", "up0,bridge=br0,port=net_bonding0"])
    numbers = itertools.count()
    with Control(near_path) as near, Control(far_path) as far, NetPort.open(str(folder / "vm0.sock")) as guest:
        def is_up():
            return near.call("device_stats", name="up0")[0]["figures"]["wire_link_up"] == 1

        def came_by(wire):
            return far.call("device_stats", name=f"wire{wire}")[0]["figures"]["from_guest_packets"]

        def serves(wire):
            rings = far.call("device_stats", name=f"wire{wire}")[0]["rings"]
            return rings != [] and all(ring["state"] == "running" for ring in rings)

        def comes_back():
            number = next(numbers)
            guest.send(frame(number))
            try:
                while guest.receive(timeout=0.2).frame != frame(number, to=HOST, by=GUEST):
                    pass
                return True
            except NoPacket:
                return False

        wait_until(is_up)
        for in_use in (0, 1, 0):
            wait_until(comes_back)
            far.settle()
            before = came_by(in_use)
            assert comes_back()
            far.settle()
            assert came_by(in_use) == before + 1
            far.call("device_remove", name=f"wire{in_use}")
            wait_until(comes_back)
            assert is_up()
            far.call("device_add", kind="net", name=f"wire{in_use}",
                     args={"connect": str(sockets[in_use]), "driver": "echo"})
        # A virtio-user port that is stopped while its back end connects cannot be started any more.
        wait_until(lambda: all(serves(wire) for wire in range(2)))
        near.call("device_remove", name="up0")
        near.call("device_add", kind="uplink", name="up0", args={"bridge": "br0", "port": "net_bonding0"})
        wait_until(comes_back)
        for wire in range(2):
            far.call("device_remove", name=f"wire{wire}")
        wait_until(lambda: not is_up())


# --- bridge

def test_the_limits_of_a_bridge_hold_from_the_start(vhubd, net, folder):
    """Options are read before there is a clock; of 120 at once 64 are within a limit of one a second."""
    limits = {"flood_limit": bytes.fromhex("020000000009"), "broadcast_limit": 6 * b"\xff"}
    vhubd(nets=[net("a", driver="bridge", bridge="br0", **dict.fromkeys(limits, 1)), net("b", driver="bridge", bridge="br0")],
          args=["--control", str(folder / "c.sock")])
    with Control(folder / "c.sock") as control, NetPort.open(str(folder / "a.sock"), size=256) as port:
        for to in limits.values():
            port.wait_sent(port.submit([port.prepare(frame(i, to=to)) for i in range(120)]))
        control.settle()
        figures = control.call("device_stats", name="a")[0]["figures"]
        assert all(50 <= figures["bridge_dropped_" + key] <= 56 for key in limits), figures


# --- null

def test_the_source_counts_its_packets(vhubd, net, testpmd, folder):
    vhubd(nets=[net(driver="null", rate=2000, size=200, mac=GUEST.hex(":"))])
    front = testpmd(folder / "port0.sock", f"net_pcap1,tx_pcap={folder}/came.pcap", mode="io")
    front.cmd("start")
    wait_until(lambda: front.port_stats()[1]["TX-packets"] >= 1500, front.port_stats)
    front.stop()
    frames = read_pcap(folder / "came.pcap")
    assert {len(each) for each in frames} == {200}
    assert {each[:6] for each in frames} == {GUEST}
    numbers = [struct.unpack_from(">Q", each, 42)[0] for each in frames]
    # Before the front end took any, its ring may have been full.
    assert all(a < b for a, b in zip(numbers, numbers[1:]))
    assert len(numbers) >= 1500


def test_the_sink_takes_all(vhubd, net, testpmd, folder):
    vhubd(nets=[net(driver="null")])
    front = testpmd(folder / "port0.sock", mode="txonly")
    front.cmd("start")
    wait_until(lambda: front.port_stats()[0]["TX-packets"] >= 20000, front.port_stats)
    front.stop()


# --- ports that keep what they send

WIRES = 9


@pytest.fixture
def still_wires(folder):
    """Back ends of virtio-user ports, which take nothing. They outlive vhubd: it is asked for first."""
    vdevs = [word for i in range(WIRES) for word in ("--vdev", f"net_vhost{i},iface={folder}/wire{i}.sock")]
    with Testpmd(vdevs, folder=folder, name="wires"):
        yield [f"[net_virtio_user{i},path={folder}/wire{i}.sock,queue_size=1024]" for i in range(WIRES)]


@pytest.mark.plain_only
@pytest.mark.parametrize("datapath", ["direct", "librte_vhost"])
def test_wires_that_stand_still_leave_other_ports_their_packets(still_wires, vhubd, net, folder, datapath):
    """All that was sent to such a wire stays in its port's tx queue, which could be 1024 long."""
    names = [f"still{i}" for i in range(WIRES)]
    # Ordinary memory is of one piece, which virtio-user can share.
    vhubd(nets=[*(net(name, driver="ethdev", datapath=datapath, rxd=64, port=port)
                  for name, port in zip(names, still_wires)),
                net("echo", datapath="librte_vhost")], eal=no_huge_arguments(128),
          args=["--control", str(folder / "control.sock")])
    for name in names:
        with NetPort.open(str(folder / f"{name}.sock")) as session:
            for at in range(0, 1100, 10):
                session.wait_sent(session.submit([session.prepare(frame(i)) for i in range(at, at + 10)]))
    with NetPort.open(str(folder / "echo.sock")) as session:
        flow(session, 500)
    # Their back ends are asked when they are closed, and answer when they can: at the end vhubd waits a second.
    with Control(folder / "control.sock") as control:
        for name in names:
            control.call("device_remove", name=name)


# --- what is refused

def refused(vhubd, *nets, **keywords):
    daemon = vhubd(nets=nets, wait=False, **keywords)
    assert daemon.process.wait(60) != 0
    return daemon.log


def test_a_port_serves_one_device(vhubd, net):
    log = refused(vhubd, net("one", driver="ethdev", port="net_null0"),
                  net("two", driver="ethdev", port="net_null0"))
    assert "two: port=net_null0: in use already" in log


def test_too_many_queues_name_the_limit(vhubd, net, folder):
    log = refused(vhubd, net(driver="ethdev", port=f"[net_pcap0,tx_pcap={folder}/x.pcap]", queues=2))
    assert "2 queue pairs are more than this port has: 1 rx and 1 tx queues" in log


def test_no_port_at_a_pci_address(vhubd, net):
    """What is missing depends on whether EAL knows of PCI, which it does by arguments alone."""
    port = net(driver="ethdev", port="0000:ff:1f.7")
    without = no_huge_arguments(128)
    assert "vhubd -a 0000:ff:1f.7 " in refused(vhubd, port, eal=without)
    with_pci = [*(each for each in without if each != "--no-pci"), "-a", "0000:ff:1f.7"]
    assert "vfio-pci" in refused(vhubd, port, eal=with_pci)
