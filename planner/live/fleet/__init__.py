"""A running fleet read as a whole: one Prometheus server asked, or every replica's own /metrics.

`fleet_reader` gives what a poller reads again and again, `read_fleet` one window and no more · `reading` one replica's
figures at one moment, checked · `past` its readings over a window, restarts seen through · `endpoints` all replicas at
once · `sums` their figures put together · `promql` what a Prometheus server is asked · `prometheus` asking it ·
`answers` what its API says · `coverage` how much of a window its series fill.
"""

from planner.live.fleet.clock import REAL, Clock
from planner.live.fleet.readers import FleetReader, fleet_reader, percentiles_of, read_fleet

__all__ = ["REAL", "Clock", "FleetReader", "fleet_reader", "percentiles_of", "read_fleet"]
