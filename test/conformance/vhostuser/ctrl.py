# SPDX-License-Identifier: BSD-3-Clause
"""The control queue of a network device (VIRTIO 1.2, 5.1.6.5): commands, and their answers.

Sits on a session of net.py, whose rings run, and starts one ring more.
"""

import struct
import time

from .frontend import Queue
from .protocol import NF
from .wire import PATIENCE

OK, ERR = 0, 1
RX, MAC, VLAN, ANNOUNCE, MQ, OFFLOADS, COAL = range(7)
COAL_TX, COAL_RX, COAL_SET, COAL_GET = range(4)
PROMISC, ALLMULTI, ALLUNI, NOMULTI, NOUNI, NOBCAST = range(6)

#: All that comes with a control queue.
FEATURES = (NF.CTRL_VQ, NF.CTRL_RX, NF.CTRL_RX_EXTRA, NF.CTRL_VLAN, NF.CTRL_MAC_ADDR,
            NF.CTRL_GUEST_OFFLOADS, NF.GUEST_ANNOUNCE)


class NoAnswer(Exception):
    """A command was not answered in time."""


class Control:
    """The control queue of a session that has agreed on CTRL_VQ."""

    def __init__(self, session, size=64, start=True, **kind):
        self.session = session
        self.index = 2 * session.config("max_pairs") if session.has(NF.MQ) or session.has(NF.RSS) else 2
        self.queue = Queue(self.index, session.new_ring(size), **kind)
        self.asked = []
        if start:
            session.start_queue(self.queue)

    def begin(self, class_, command, data=b"", pieces=None, answer=1, indirect=None):
        """Offers a command without waiting; `pieces` are the sizes of the descriptors that it lies in."""
        mem, blocks = self.session.mem, []
        text = bytes((class_, command)) + data
        parts = self.session.cut(blocks, len(text), pieces)
        mem.scatter(parts, text)
        room = self.session.cut(blocks, answer)
        for gpa, length in room:
            mem.scatter([(gpa, length)], b"\xee" * length)
        self.queue.ring.add([(gpa, length, False) for gpa, length in parts]
                            + [(gpa, length, True) for gpa, length in room], (room, blocks),
                            self.session.indirect if indirect is None else indirect)
        self.queue.notify()

    def answer(self, timeout=PATIENCE):
        """The answer to the oldest command, which has no result."""
        value, length = self.whole_answer(timeout)
        assert length == 1 and value[1:] == b"\xee" * (len(value) - 1)
        return value[0]

    def whole_answer(self, timeout=PATIENCE):
        """All bytes of its place, and what the used ring said."""
        deadline = time.monotonic() + timeout
        while not self.asked:
            self.asked.extend(self.queue.wait_used(max(0.0, deadline - time.monotonic())))
            if not self.asked and time.monotonic() > deadline:
                raise NoAnswer("no answer came")
        (room, blocks), length = self.asked.pop(0)
        value = self.session.mem.gather(room)
        for block in blocks:
            self.session.mem.free(*block)
        return value, length

    def ask(self, class_, command, data=b"", **shape):
        self.begin(class_, command, data, **shape)
        return self.answer()

    def do(self, class_, command, data=b"", **shape):
        """A command that has to succeed."""
        answer = self.ask(class_, command, data, **shape)
        assert answer == OK, "command %d.%d was answered with %d" % (class_, command, answer)

    def result(self, class_, command, data, size):
        """What a command that has to succeed tells beside that."""
        self.begin(class_, command, data, answer=1 + size)
        value, length = self.whole_answer()
        assert (value[0], length) == (OK, 1 + size)
        return value[1:]

    # by name

    def mode(self, command, on):
        self.do(RX, command, bytes((int(on),)))

    def table(self, uni=(), multi=()):
        self.do(MAC, 0, table(uni, multi))

    def address(self, mac):
        self.do(MAC, 1, mac)

    def vlan(self, vlan, on=True):
        self.do(VLAN, 0 if on else 1, struct.pack("<H", vlan))

    def pairs(self, count):
        self.do(MQ, 0, struct.pack("<H", count))

    def coalesce(self, command, max_packets, max_us):
        self.do(COAL, command, struct.pack("<II", max_packets, max_us))

    def coalesce_ring(self, ring, max_packets, max_us):
        self.do(COAL, COAL_SET, struct.pack("<HHII", ring, 0, max_packets, max_us))

    def coalescing(self, ring):
        """(packets, microseconds) of a ring."""
        return struct.unpack("<II", self.result(COAL, COAL_GET, struct.pack("<HH", ring, 0), 8))

    def offloads(self, *features):
        self.do(OFFLOADS, 0, struct.pack("<Q", sum(1 << feature for feature in features)))


#: Types of hashes, and the key and a result of the verification suite for RSS that all know.
IPV4, TCPV4, UDPV4, IPV6, TCPV6, UDPV6 = (1 << bit for bit in range(6))
ALL_TYPES = 0x3f
NET_KEY_BYTES = 40                      # of a key, at most
KEY = bytes.fromhex("6d5a56da255b0ec24167253d43a38fb0d0ca2bcbae7b30b477cb2da38030f20c6a42b73bbeac01fa")


def toeplitz(data, key=KEY):
    """The hash of these bytes."""
    number, size, found = int.from_bytes(key, "big"), 8 * len(key), 0
    for i in range(8 * len(data)):
        if data[i // 8] >> 7 - i % 8 & 1:
            found ^= number >> size - 32 - i & 0xffffffff
    return found


assert toeplitz(bytes((66, 9, 149, 187, 161, 142, 100, 80)) + bytes.fromhex("0aea06e6")) == 0x51ccc178


def rss(pairs, unclassified=0, types=ALL_TYPES, senders=1, key=KEY, mask=None):
    """The data of MQ_RSS_CONFIG."""
    return (struct.pack("<IHH", types, len(pairs) - 1 if mask is None else mask, unclassified)
            + b"".join(struct.pack("<H", pair) for pair in pairs)
            + struct.pack("<HB", senders, len(key)) + key)


def hashes(types=ALL_TYPES, key=KEY):
    """The data of MQ_HASH_CONFIG."""
    return struct.pack("<I8xB", types, len(key)) + key


def table(uni=(), multi=()):
    """The data of MAC_TABLE_SET."""
    return b"".join(struct.pack("<I", len(each)) + b"".join(each) for each in (uni, multi))
