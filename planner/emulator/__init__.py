"""The reference scheduler on the wall clock, behind vLLM's HTTP interface.

Where to look: `engine` drives `simulation.stepper` by timers · `fleet` sends calls to engines by the rules of
`routing` · `bodies` reads and checks requests · `tokens` stands in for a tokenizer and names KV blocks · `chunks`
writes answers in vLLM's shape · `answers` sends them, with the `faults` that were asked for · `metrics` counts under
vLLM's names · `truth` records what was due when · `app` has the routes · `server` puts it all behind a port, `signals`
tells which signal ended it.
"""

from planner.emulator.faults import parse_shares
from planner.emulator.server import Settings, listen, model_names, serve

__all__ = ["Settings", "listen", "model_names", "parse_shares", "serve"]
