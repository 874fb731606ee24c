"""The scenario file: its shape and its ranges. What needs the catalogue is checked later, in `deployment`.

Where to look: `document` Scenario itself (load, change, write out) · `sections` every key, its default and its range ·
`distributions` the ways to give a token count · `slo` service levels · `rules` the words of an error, keys that are
reserved · `yaml_text` what of YAML is read · `types` strict numbers and lists that mean choose.
"""

from planner.scenario.distributions import (
    Distribution,
    Histogram,
    HistogramFile,
    Joint,
    JointFile,
    Lognormal,
    Normal,
    Uniform,
)
from planner.scenario.document import Scenario, dotted_keys, json_schema
from planner.scenario.sections import (
    Ads,
    ClosedArrivals,
    ClosedClients,
    Engine,
    Fleet,
    GammaArrivals,
    OfflineArrivals,
    Prices,
    Query,
    RateCard,
    Revenue,
    SharedPrefix,
    Stage,
    Trace,
    TraceArrivals,
    Traffic,
)

__all__ = [
    "Ads",
    "ClosedArrivals",
    "ClosedClients",
    "Distribution",
    "Engine",
    "Fleet",
    "GammaArrivals",
    "Histogram",
    "HistogramFile",
    "Joint",
    "JointFile",
    "Lognormal",
    "Normal",
    "OfflineArrivals",
    "Prices",
    "Query",
    "RateCard",
    "Revenue",
    "Scenario",
    "SharedPrefix",
    "Stage",
    "Trace",
    "TraceArrivals",
    "Traffic",
    "Uniform",
    "dotted_keys",
    "json_schema",
]
