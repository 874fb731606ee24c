"""The scenario file: its shape and its ranges. What needs the catalogue is checked later, in `deployment`.

Where to look: `document` Scenario itself (load, change, write out) · `sections` engine, traffic and query: keys, their
defaults and ranges · `fleet` how replicas are run, and what happens to them · `autoscaling` replicas that follow the
load · `response_cache` answers given again · `money` what is paid · `revenue` what is earned · `amounts` numbers in USD
or in another currency · `distributions` the ways to give a token count · `slo` service levels · `uncertainty` how far
off inputs may be · `monitor` where a running fleet is read · `paths` which values are paths · `rules` the words of an
error, keys that are reserved · `yaml_text` what of YAML is read · `types` strict numbers and lists that mean choose.
"""

from planner.scenario.autoscaling import Autoscaler
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
from planner.scenario.fleet import Fleet
from planner.scenario.money import Commitment, Energy, Own, Prices, RateCard, Training
from planner.scenario.monitor import Monitor
from planner.scenario.paths import names_a_file
from planner.scenario.revenue import Abandonment, Ads, Api, PerWord, Revenue, Subscription, Tail
from planner.scenario.sections import (
    ClosedArrivals,
    ClosedClients,
    Document,
    Engine,
    GammaArrivals,
    OfflineArrivals,
    Query,
    SharedPrefix,
    Stage,
    Trace,
    TraceArrivals,
    Traffic,
)
from planner.scenario.uncertainty import INPUTS, Correlation, Uncertainty

__all__ = [
    "INPUTS",
    "Abandonment",
    "Ads",
    "Api",
    "Autoscaler",
    "ClosedArrivals",
    "ClosedClients",
    "Commitment",
    "Correlation",
    "Distribution",
    "Document",
    "Energy",
    "Engine",
    "Fleet",
    "GammaArrivals",
    "Histogram",
    "HistogramFile",
    "Joint",
    "JointFile",
    "Lognormal",
    "Monitor",
    "Normal",
    "OfflineArrivals",
    "Own",
    "PerWord",
    "Prices",
    "Query",
    "RateCard",
    "Revenue",
    "Scenario",
    "SharedPrefix",
    "Stage",
    "Subscription",
    "Tail",
    "Trace",
    "TraceArrivals",
    "Traffic",
    "Training",
    "Uncertainty",
    "Uniform",
    "dotted_keys",
    "json_schema",
    "names_a_file",
]
