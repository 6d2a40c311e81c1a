# SPDX-License-Identifier: BSD-3-Clause
"""The innocent front end beside a hostile one: writes, reads back and compares, for ever.

Run by class Neighbour of stage.py as `neighbour.py SOCKET`. Prints "COUNT GAP" every few
milliseconds: rounds done, and the longest time between two rounds since the last line. Ends with
its standard input, or with an error on the first I/O that is not as it should be.
"""

import os
import select
import sys
import time

from vhostuser import BlkDisk, pattern

PAUSE = 0.001
INTERVAL = 0.005


def main():
    disk = BlkDisk.open(sys.argv[1])
    count, gap, last, told = 0, 0.0, time.monotonic(), 0.0
    while True:
        sector = count % 1000 * 8
        data = pattern(count, 4096)
        disk.write(sector, data)
        if disk.read(sector, 4096) != data:
            sys.exit("read other data than were written in round %d" % count)
        count += 1
        now = time.monotonic()
        gap, last = max(gap, now - last), now
        if now - told > INTERVAL:
            os.write(1, b"%d %.6f\n" % (count, gap))
            gap, told = 0.0, now
            if select.select([0], [], [], 0)[0]:
                break
        time.sleep(PAUSE)
    disk.stop()
    disk.close()


if __name__ == "__main__":
    main()
