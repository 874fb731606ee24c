"""How much one fleet carries, and how small a fleet carries a load. Every probe is kept.

All probes of one search see the same arrays (common random numbers), so that two sizes differ by their size alone.
A search first finds its way on short runs judged by their point estimate, then settles on full-length ones: a size
is accepted only if the upper end of its 95 % batch-means interval meets every limit, and the next smaller one is run
as well and must fail. More replicas need not be better on one path, so neighbours are always run, never inferred.

`probes` one simulated point · `replicas` the fewest replicas for a load · `search` all combinations of a scenario's
lists · `load` the most load for some replicas · `point` the same as a bare number, to divide by another · `most` how
the highest load that holds is looked for · `day` the chosen fleet in the hours below its peak · `autoscaled` its day
under an autoscaler · `spare` the proof of its spare replicas · `alternatives` what was tried, as rows.
"""

from planner.sizing.load import Capacity, capacity
from planner.sizing.point import most_qps
from planner.sizing.probes import LEAST_REQUESTS, Probe
from planner.sizing.search import Search, Sized, search

__all__ = ["LEAST_REQUESTS", "Capacity", "Probe", "Search", "Sized", "capacity", "most_qps", "search"]
