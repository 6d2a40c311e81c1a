# SPDX-License-Identifier: BSD-3-Clause
"""The innocent front end beside a hostile one: writes and reads back, or sends and receives, and
compares, for ever.

Run by class Neighbour of stage.py as `neighbour.py blk|net SOCKET`. Prints "COUNT GAP" every few
milliseconds: rounds done, and the longest time between two rounds since the last line, in looks of at
most LOOK_MAX each: a machine on which nobody runs for a while counts for one of them. Ends with its
standard input, or with an error on the first I/O that is not as it should be.
"""

import os
import select
import sys
import threading
import time

from vhostuser import BlkDisk, NetPort, packets, pattern

PAUSE = 0.004
INTERVAL = 0.005
LOOK = 0.01
LOOK_MAX = 0.1


def disk_round(disk, count):
    sector = count % 1000 * 8
    data = pattern(count, 4096)
    disk.write(sector, data)
    return disk.read(sector, 4096) == data


def port_round(port, count):
    frame = packets.plain(count, 60 + count % 1400)
    return port.echo(frame) == packets.swapped(frame)


KINDS = {"blk": (BlkDisk, disk_round), "net": (NetPort, port_round)}


class Watch:
    """Looks whether rounds get done."""

    def __init__(self):
        self.count = 0
        self.longest = 0.0
        threading.Thread(target=self._look, daemon=True).start()

    def _look(self):
        seen, gap, last = 0, 0.0, time.monotonic()
        while True:
            time.sleep(LOOK)
            now = time.monotonic()
            gap, last = gap + min(now - last, LOOK_MAX), now
            self.longest = max(self.longest, gap)
            if self.count != seen:
                seen, gap = self.count, 0.0

    def take(self):
        """The longest gap since the last time."""
        longest, self.longest = self.longest, 0.0
        return longest


def main():
    kind, one_round = KINDS[sys.argv[1]]
    session = kind.open(sys.argv[2])
    watch, told = Watch(), 0.0
    while True:
        if not one_round(session, watch.count):
            sys.exit("other data came back in round %d" % watch.count)
        watch.count += 1
        now = time.monotonic()
        if now - told > INTERVAL:
            os.write(1, b"%d %.6f\n" % (watch.count, watch.take()))
            told = now
            if select.select([0], [], [], 0)[0]:
                break
        time.sleep(PAUSE)
    session.stop()
    session.close()


if __name__ == "__main__":
    main()
