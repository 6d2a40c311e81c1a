# SPDX-License-Identifier: BSD-3-Clause
"""A virtio-net driver (VIRTIO 1.2, section 5.1): frames in descriptors of any shape, receive buffers,
headers as they are.

Sits on frontend.py. Ring 2k receives for pair k, ring 2k+1 sends. packets.py makes frames.
"""

import struct
import time
from typing import NamedTuple

from .frontend import Frontend
from .protocol import NF
from .wire import PATIENCE

NEEDS_CSUM = 1
DATA_VALID = 2
GSO_NONE = 0
GSO_TCPV4 = 1
GSO_UDP = 3
GSO_TCPV6 = 4
GSO_UDP_L4 = 5
GSO_ECN = 0x80

LINK_UP = 1
HEADER = struct.Struct("<BBHHHHH")
HASH = struct.Struct("<IHH")            # behind it with HASH_REPORT

#: name: (offset, struct code) in the configuration space
CONFIG = {
    "mac": (0, "6s"), "status": (6, "H"), "max_pairs": (8, "H"), "mtu": (10, "H"),
    "speed": (12, "I"), "duplex": (16, "B"),
}


class NetHeader(NamedTuple):
    """The header before each packet, of 12 bytes with VERSION_1."""
    flags: int = 0
    gso_type: int = GSO_NONE
    hdr_len: int = 0
    gso_size: int = 0
    csum_start: int = 0
    csum_offset: int = 0
    num_buffers: int = 0

    SIZE = HEADER.size

    def pack(self):
        return HEADER.pack(*self)


class Buffer:
    """Guest memory that a ring has or had: a packet to send, or room for one."""

    def __init__(self, parts, blocks):
        self.parts = parts
        self.blocks = blocks
        self.done = False
        self.length = None              # what the used ring said


class Packet(NamedTuple):
    header: NetHeader
    frame: bytes
    lengths: list                       # what the used ring said of each buffer
    hash: tuple = None                  # with HASH_REPORT: the hash, and what it is of


class NoPacket(Exception):
    """Nothing came in time."""


class NetPort(Frontend):
    """A session with a network device whose rings run, with receive buffers in them."""

    CONFIG = CONFIG

    def __init__(self, path=None, wire=None, timeout=PATIENCE, patience=PATIENCE):
        super().__init__(path, wire, timeout, patience)
        self.received = {}              # by pair: buffers that the device has used, not looked at

    @classmethod
    def open(cls, path=None, pairs=1, mergeable=True, features=(), buffers=32, buffer_bytes=2048,
             pieces=None, **keywords):
        """As Frontend.open(); `buffers` for each pair, each in one descriptor or in `pieces`."""
        want = set(features)
        if mergeable:
            want.add(NF.MRG_RXBUF)
        if pairs > 1:
            want.add(NF.MQ)
        port = super().open(path, queues=2 * pairs, features=want, **keywords)
        for pair in range(pairs):
            port.post(pair, buffers, buffer_bytes, pieces)
        return port

    def receiving(self, pair=0):
        return self.queues[2 * pair]

    def sending(self, pair=0):
        return self.queues[2 * pair + 1]

    @property
    def header_size(self):
        return NetHeader.SIZE + (HASH.size if self.has(NF.HASH_REPORT) else 0)

    # receive buffers

    def buffer(self, size=2048, pieces=None, align=16):
        blocks = []
        return Buffer(self.cut(blocks, size, pieces, align), blocks)

    def put_buffer(self, buffer, pair=0, notify=True):
        """Gives the device a buffer to receive into."""
        queue = self.receiving(pair)
        queue.ring.add([(gpa, length, True) for gpa, length in buffer.parts], buffer, self.indirect)
        if notify:
            queue.notify()
        return buffer

    def post(self, pair=0, count=1, size=2048, pieces=None):
        """Gives the device `count` buffers of this size, each in one descriptor or in `pieces`."""
        made = [self.put_buffer(self.buffer(size, pieces), pair, False) for _ in range(count)]
        if made:
            self.receiving(pair).notify()
        return made

    # sending

    def prepare(self, frame, header=NetHeader(), pieces=None):
        """A packet in guest memory, not yet in a ring: header and frame in one descriptor, or in
        descriptors of the sizes of `pieces`."""
        data = header.pack() + bytes(self.header_size - NetHeader.SIZE) + frame
        blocks = []
        buffer = Buffer(self.cut(blocks, len(data), pieces), blocks)
        self.mem.scatter(buffer.parts, data)
        return buffer

    def submit(self, buffers, pair=0, notify=True, indirect=None):
        """Puts prepared packets into the ring, published together."""
        queue = self.sending(pair)
        for buffer in buffers:
            queue.ring.add([(gpa, length, False) for gpa, length in buffer.parts], buffer,
                           self.indirect if indirect is None else indirect)
        if notify:
            queue.notify()
        return buffers

    def send(self, frame, pair=0, header=NetHeader(), pieces=None, indirect=None):
        """Sends one frame without waiting; what was sent before is reaped."""
        self.reap(pair)
        return self.submit([self.prepare(frame, header, pieces)], pair, indirect=indirect)[0]

    def reap(self, pair=0):
        """The sent packets that the device has used since the last call; their memory is free. What
        a test has put into the ring by hand does not count."""
        done = []
        for buffer, length in self.sending(pair).ring.used():
            if buffer is None:
                continue
            buffer.done, buffer.length = True, length
            self.release(buffer)
            done.append(buffer)
        return done

    def wait_sent(self, buffers, pair=0, timeout=PATIENCE):
        """Waits until the device has used these packets."""
        deadline = time.monotonic() + timeout
        while not all(buffer.done for buffer in buffers):
            self.reap(pair)
            if time.monotonic() > deadline:
                raise NoPacket("%d of %d packets were not taken"
                               % (sum(not buffer.done for buffer in buffers), len(buffers)))
            time.sleep(0.0005)
        return buffers

    def release(self, buffer):
        for block in buffer.blocks:
            self.mem.free(*block)
        buffer.blocks = []

    # receiving

    def _next(self, pair, deadline):
        """The next buffer that the device has used."""
        held = self.received.setdefault(pair, [])
        if not held:
            held.extend(self.receiving(pair).wait_used(max(0.0, deadline - time.monotonic())))
        if not held:
            raise NoPacket("no packet came")
        buffer, length = held.pop(0)
        buffer.done, buffer.length = True, length
        return buffer

    def receive(self, pair=0, timeout=PATIENCE, again=True):
        """The next packet; its buffers are given to the device once more, unless `again` is
        False."""
        deadline = time.monotonic() + timeout
        buffers = [self._next(pair, deadline)]
        head = self.mem.gather(buffers[0].parts)[:NetHeader.SIZE]
        header = NetHeader(*HEADER.unpack(head))
        count = header.num_buffers if self.has(NF.MRG_RXBUF) else 1
        while len(buffers) < count:
            buffers.append(self._next(pair, deadline))
        data = b"".join(self.mem.gather(each.parts)[:each.length] for each in buffers)
        told = None
        if self.has(NF.HASH_REPORT):
            *told, zero = HASH.unpack_from(data, NetHeader.SIZE)
            assert zero == 0
            told = tuple(told)
        packet = Packet(header, data[self.header_size:], [each.length for each in buffers], told)
        for each in buffers:
            if again:
                self.put_buffer(each, pair, False)
            else:
                self.release(each)
        if again:
            self.receiving(pair).notify()
        return packet

    def quiet(self, pair=0, seconds=0.1):
        """True if no packet comes for that long."""
        try:
            self.receive(pair, seconds)
            return False
        except NoPacket:
            return True

    def exchange(self, frame, pair=0, timeout=PATIENCE, **shape):
        """Sends a frame and receives one: the packet."""
        self.send(frame, pair, **shape)
        return self.receive(pair, timeout)

    def echo(self, frame, pair=0, timeout=PATIENCE, **shape):
        """As exchange(), the frame alone."""
        return self.exchange(frame, pair, timeout, **shape).frame
