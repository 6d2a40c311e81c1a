# SPDX-License-Identifier: BSD-3-Clause
"""The numbers of the vhost-user protocol: requests, feature bits, payload layouts.

Everything here is taken from the specification (QEMU's docs/interop/vhost-user.rst) and from VIRTIO
1.2. Used by every other module of this package; wire.py puts these numbers on a socket.
"""

import enum
import struct

VERSION = 0x1
VERSION_MASK = 0x3
FLAG_REPLY = 1 << 2
FLAG_NEED_REPLY = 1 << 3

HEADER = struct.Struct("=III")          # request, flags, size
U64 = struct.Struct("=Q")
VRING_STATE = struct.Struct("=II")      # index, num
VRING_ADDR = struct.Struct("=IIQQQQ")   # index, flags, descriptor, used, available, log
REGION = struct.Struct("=QQQQ")         # guest address, size, user address, mmap offset
MEM_HEADER = struct.Struct("=II")       # regions, padding
LOG = struct.Struct("=QQ")              # size, offset
INFLIGHT = struct.Struct("=QQHH")       # mmap size, mmap offset, queues, queue size
CONFIG_HEADER = struct.Struct("=III")   # offset, size, flags
IOTLB = struct.Struct("=QQQBB6x")       # iova, size, user address, permissions, type
DEVICE_STATE = struct.Struct("=II")     # direction, phase

NO_FD = 1 << 8                          # "invalid FD" flag of the SET_VRING_{KICK,CALL,ERR} payload
VRING_F_LOG = 1 << 0                    # SET_VRING_ADDR flag: used ring writes are logged
LOG_PAGE = 4096
CONFIG_WRITABLE = 0                     # SET_CONFIG flags
CONFIG_MIGRATION = 1


class Req(enum.IntEnum):
    """Requests of the front end."""
    GET_FEATURES = 1
    SET_FEATURES = 2
    SET_OWNER = 3
    RESET_OWNER = 4
    SET_MEM_TABLE = 5
    SET_LOG_BASE = 6
    SET_LOG_FD = 7
    SET_VRING_NUM = 8
    SET_VRING_ADDR = 9
    SET_VRING_BASE = 10
    GET_VRING_BASE = 11
    SET_VRING_KICK = 12
    SET_VRING_CALL = 13
    SET_VRING_ERR = 14
    GET_PROTOCOL_FEATURES = 15
    SET_PROTOCOL_FEATURES = 16
    GET_QUEUE_NUM = 17
    SET_VRING_ENABLE = 18
    SEND_RARP = 19
    NET_SET_MTU = 20
    SET_BACKEND_REQ_FD = 21
    IOTLB_MSG = 22
    SET_VRING_ENDIAN = 23
    GET_CONFIG = 24
    SET_CONFIG = 25
    CREATE_CRYPTO_SESSION = 26
    CLOSE_CRYPTO_SESSION = 27
    POSTCOPY_ADVISE = 28
    POSTCOPY_LISTEN = 29
    POSTCOPY_END = 30
    GET_INFLIGHT_FD = 31
    SET_INFLIGHT_FD = 32
    GPU_SET_SOCKET = 33
    RESET_DEVICE = 34
    VRING_KICK = 35
    GET_MAX_MEM_SLOTS = 36
    ADD_MEM_REG = 37
    REM_MEM_REG = 38
    SET_STATUS = 39
    GET_STATUS = 40
    GET_SHARED_OBJECT = 41
    SET_DEVICE_STATE_FD = 42
    CHECK_DEVICE_STATE = 43
    GET_SHMEM_CONFIG = 44
    GET_VRING_BASE_SKIP_DRAIN = 45


class BackendReq(enum.IntEnum):
    """Requests of the back end, on the back-end channel."""
    IOTLB_MSG = 1
    CONFIG_CHANGE_MSG = 2
    VRING_HOST_NOTIFIER_MSG = 3
    VRING_CALL = 4
    VRING_ERR = 5
    SHARED_OBJECT_ADD = 6
    SHARED_OBJECT_REMOVE = 7
    SHARED_OBJECT_LOOKUP = 8


class PF(enum.IntEnum):
    """Protocol feature bits."""
    MQ = 0
    LOG_SHMFD = 1
    RARP = 2
    REPLY_ACK = 3
    MTU = 4
    BACKEND_REQ = 5
    CROSS_ENDIAN = 6
    CRYPTO_SESSION = 7
    PAGEFAULT = 8
    CONFIG = 9
    BACKEND_SEND_FD = 10
    HOST_NOTIFIER = 11
    INFLIGHT_SHMFD = 12
    RESET_DEVICE = 13
    INBAND_NOTIFICATIONS = 14
    CONFIGURE_MEM_SLOTS = 15
    STATUS = 16
    XEN_MMAP = 17
    SHARED_OBJECT = 18
    DEVICE_STATE = 19
    GET_VRING_BASE_INFLIGHT = 20
    GPA_ADDRESSES = 21
    SHMEM = 22
    GET_VRING_BASE_SKIP_DRAIN = 23


class F(enum.IntEnum):
    """Feature bits: of virtio, of vhost, of virtio-blk (BLK_*)."""
    BLK_SIZE_MAX = 1
    BLK_SEG_MAX = 2
    BLK_GEOMETRY = 4
    BLK_RO = 5
    BLK_BLK_SIZE = 6
    BLK_FLUSH = 9
    BLK_TOPOLOGY = 10
    BLK_CONFIG_WCE = 11
    BLK_MQ = 12
    BLK_DISCARD = 13
    BLK_WRITE_ZEROES = 14
    BLK_LIFETIME = 15
    BLK_SECURE_ERASE = 16
    LOG_ALL = 26
    INDIRECT_DESC = 28
    EVENT_IDX = 29
    PROTOCOL_FEATURES = 30
    VERSION_1 = 32
    ACCESS_PLATFORM = 33
    RING_PACKED = 34
    IN_ORDER = 35


class NF(enum.IntEnum):
    """Feature bits of virtio-net (VIRTIO 1.2, 5.1.3)."""
    CSUM = 0
    GUEST_CSUM = 1
    CTRL_GUEST_OFFLOADS = 2
    MTU = 3
    MAC = 5
    GUEST_TSO4 = 7
    GUEST_TSO6 = 8
    GUEST_ECN = 9
    GUEST_UFO = 10
    HOST_TSO4 = 11
    HOST_TSO6 = 12
    HOST_ECN = 13
    HOST_UFO = 14
    MRG_RXBUF = 15
    STATUS = 16
    CTRL_VQ = 17
    CTRL_RX = 18
    CTRL_VLAN = 19
    CTRL_RX_EXTRA = 20
    GUEST_ANNOUNCE = 21
    MQ = 22
    CTRL_MAC_ADDR = 23
    VQ_NOTF_COAL = 52
    NOTF_COAL = 53
    GUEST_USO4 = 54
    GUEST_USO6 = 55
    HOST_USO = 56
    HASH_REPORT = 57
    RSS = 60
    SPEED_DUPLEX = 63


class Status(enum.IntFlag):
    """Device status bits of virtio."""
    ACKNOWLEDGE = 1
    DRIVER = 2
    DRIVER_OK = 4
    FEATURES_OK = 8
    NEEDS_RESET = 64
    FAILED = 128


def bits(*numbers):
    """A mask with the given bit numbers set."""
    mask = 0
    for number in numbers:
        mask |= 1 << number
    return mask


def name_bits(mask, names):
    """The names of the bits set in mask, for messages."""
    known = {int(member): member.name for member in names}
    return [known.get(i, str(i)) for i in range(64) if mask >> i & 1]


#: Requests that carry a reply of their own, whatever need_reply says.
REPLYING = frozenset((
    Req.GET_FEATURES, Req.GET_PROTOCOL_FEATURES, Req.GET_VRING_BASE, Req.SET_LOG_BASE,
    Req.GET_INFLIGHT_FD,
    Req.GET_QUEUE_NUM, Req.GET_CONFIG, Req.GET_MAX_MEM_SLOTS, Req.GET_STATUS, Req.IOTLB_MSG,
    Req.CREATE_CRYPTO_SESSION,
    Req.POSTCOPY_ADVISE, Req.POSTCOPY_END, Req.GET_SHARED_OBJECT, Req.SET_DEVICE_STATE_FD,
    Req.CHECK_DEVICE_STATE, Req.GET_SHMEM_CONFIG, Req.GET_VRING_BASE_SKIP_DRAIN,
))
