"""Makes Swift's rings, which say where everything lies: rings.py DIR account=PORT container=PORT object=PORT

One process, where swift-ring-builder takes nine.
"""

import os
import sys

from swift.common.ring import RingBuilder


def main(folder, *servers):
    for server in servers:
        name, _, port = server.partition("=")
        # One replica in 2**6 partitions on one device.
        builder = RingBuilder(part_power=6, replicas=1, min_part_hours=0)
        where = {"ip": "127.0.0.1", "port": int(port), "device": "d1"}
        builder.add_dev({"region": 1, "zone": 1, "weight": 1, **where})
        builder.rebalance()
        builder.get_ring().save(os.path.join(folder, f"{name}.ring.gz"))


if __name__ == "__main__":
    main(*sys.argv[1:])
