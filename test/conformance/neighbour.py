# SPDX-License-Identifier: BSD-3-Clause
"""The innocent front end beside a hostile one: writes and reads back, or sends and receives, and
compares, for ever.

Run by class Neighbour of stage.py as `neighbour.py blk|net SOCKET`. Prints "COUNT GAP" every few
milliseconds: rounds done, and the longest time between two rounds since the last line. Ends with
its standard input, or with an error on the first I/O that is not as it should be.
"""

import os
import select
import sys
import time

from vhostuser import BlkDisk, NetPort, packets, pattern

PAUSE = 0.001
INTERVAL = 0.005


def disk_round(disk, count):
    sector = count % 1000 * 8
    data = pattern(count, 4096)
    disk.write(sector, data)
    return disk.read(sector, 4096) == data


def port_round(port, count):
    frame = packets.plain(count, 60 + count % 1400)
    return port.echo(frame) == packets.swapped(frame)


KINDS = {"blk": (BlkDisk, disk_round), "net": (NetPort, port_round)}


def main():
    kind, one_round = KINDS[sys.argv[1]]
    session = kind.open(sys.argv[2])
    count, gap, last, told = 0, 0.0, time.monotonic(), 0.0
    while True:
        if not one_round(session, count):
            sys.exit("other data came back in round %d" % count)
        count += 1
        now = time.monotonic()
        gap, last = max(gap, now - last), now
        if now - told > INTERVAL:
            os.write(1, b"%d %.6f\n" % (count, gap))
            gap, told = 0.0, now
            if select.select([0], [], [], 0)[0]:
                break
        time.sleep(PAUSE)
    session.stop()
    session.close()


if __name__ == "__main__":
    main()
