# SPDX-License-Identifier: BSD-3-Clause
"""Ethernet frames as tests send and expect them: addresses, IP, TCP and UDP, checksums.

Used by the tests of network ports; net.py sends what is made here.
"""

import struct
from typing import NamedTuple

from .frontend import pattern
from .net import GSO_TCPV4, GSO_TCPV6, GSO_UDP, NEEDS_CSUM, NetHeader

THERE = bytes.fromhex("020000000001")
HERE = bytes.fromhex("020000000002")
ETHER = 14
TCP, UDP = 6, 17
ETHERTYPE = {4: 0x0800, 6: 0x86dd}
IP_BYTES = {4: 20, 6: 40}
L4_BYTES = {TCP: 20, UDP: 8}
CSUM_OFFSET = {TCP: 16, UDP: 6}
FIN, PSH, ACK, CWR = 1, 8, 16, 128


def plain(seed, size):
    """A frame of `size` bytes, at least 14, that is of no protocol that anybody looks into."""
    return THERE + HERE + b"\x88\xb5" + pattern(seed, size - ETHER)


def swapped(frame):
    """The frame as the driver echo returns it."""
    return frame[6:12] + frame[:6] + frame[12:]


def sum16(data):
    """The ones' complement sum of RFC 1071, not inverted."""
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return total


def ipv4(protocol, payload_bytes, ident=0x1234, fragment=0):
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + payload_bytes, ident, fragment, 64, protocol,
                       0, bytes((10, 0, 0, 2)), bytes((10, 0, 0, 1)))
    return head[:10] + struct.pack("!H", sum16(head) ^ 0xffff) + head[12:]


def ipv6(protocol, payload_bytes):
    return struct.pack("!IHBB16s16s", 6 << 28, payload_bytes, protocol, 64, b"\xfd" + bytes(15),
                       b"\xfd" + bytes(14) + b"\1")


def pseudo(version, ip, protocol, size):
    """What TCP and UDP sum besides themselves."""
    addresses = ip[12:20] if version == 4 else ip[8:40]
    return addresses + struct.pack("!II", size, protocol)


class Made(NamedTuple):
    frame: bytes
    header: NetHeader
    version: int
    protocol: int

    @property
    def l4(self):
        return ETHER + IP_BYTES[self.version]

    @property
    def head(self):
        """Bytes of all headers."""
        return self.l4 + L4_BYTES[self.protocol]


def segment(version, protocol, payload, csum="partial", flags=ACK, seq=1000, gso_size=0):
    """A TCP segment or UDP datagram in a frame, with the header that a guest's driver gives it.

    `csum` is "partial": the sum of the pseudo header, to be completed; or "full".
    """
    if protocol == TCP:
        l4 = struct.pack("!HHIIBBHHH", 4000, 80, seq, 7, 5 << 4, flags, 65535, 0, 0)
    else:
        l4 = struct.pack("!HHHH", 4000, 53, 8 + len(payload), 0)
    size = len(l4) + len(payload)
    ip = ipv4(protocol, size) if version == 4 else ipv6(protocol, size)
    total = sum16(pseudo(version, ip, protocol, size))
    at = CSUM_OFFSET[protocol]
    if csum == "full":
        total = (sum16(struct.pack("!H", total) + l4 + payload) ^ 0xffff) or 0xffff
    l4 = l4[:at] + struct.pack("!H", total) + l4[at + 2:]
    frame = THERE + HERE + struct.pack("!H", ETHERTYPE[version]) + ip + l4 + payload
    if csum == "full":
        return Made(frame, NetHeader(), version, protocol)
    start = ETHER + IP_BYTES[version]
    kind = GSO_UDP if protocol == UDP else GSO_TCPV4 if version == 4 else GSO_TCPV6
    header = NetHeader(flags=NEEDS_CSUM, csum_start=start, csum_offset=at,
                       gso_type=kind if gso_size else 0, gso_size=gso_size,
                       hdr_len=start + L4_BYTES[protocol] if gso_size else 0)
    return Made(frame, header, version, protocol)


VIA = b"\xfd" + bytes(14) + b"\5"


def behind_extensions(made, routed=False):
    """The same packet of IPv6 with extension headers before TCP or UDP, which sums do not go over: options for each
    hop and for the destination, and with `routed` a routing header, by which it goes to VIA first."""
    ip, rest = made.frame[ETHER:made.l4], made.frame[made.l4:]
    options = bytes((0, 1, 4, 0, 0, 0, 0))
    extensions = bytes((43 if routed else 60,)) + options
    to = ip[24:]
    if routed:
        extensions += bytes((60, 2, 2, 1, 0, 0, 0, 0)) + to
        to = VIA
    extensions += bytes((made.protocol,)) + options
    n = len(extensions)
    ip = (ip[:4] + struct.pack("!HBB", (len(extensions) + len(rest)) & 0xffff, 0, ip[7]) + ip[8:24] + to)
    header = made.header
    if header.flags:
        header = header._replace(csum_start=header.csum_start + n,
                                 hdr_len=header.hdr_len + n if header.hdr_len else 0)
    return made._replace(frame=made.frame[:ETHER] + ip + extensions + rest, header=header)


class Ip(NamedTuple):
    """What a received IPv4 packet says."""
    length: int
    ident: int
    fragment: int
    sums: bool                          # its header checksum is right
    payload: bytes


def parse_ipv4(frame):
    head = frame[ETHER:ETHER + 20]
    length, ident, fragment = struct.unpack("!2xHHH", head[:8])
    return Ip(length, ident, fragment, sum16(head) == 0xffff, frame[ETHER + 20:ETHER + length])


def sums_up(frame, version, protocol):
    """Whether the TCP or UDP checksum of this whole frame is right and complete."""
    ip = frame[ETHER:ETHER + IP_BYTES[version]]
    l4 = frame[ETHER + IP_BYTES[version]:]
    return sum16(pseudo(version, ip, protocol, len(l4)) + l4) == 0xffff
