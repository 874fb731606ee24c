"""How sure a plan is: draws of what is not known, through a response surface of the few best candidates.

Reading order: `study` the whole sentence · `draws` scores and factors of the inputs · `worlds` the step time's worlds ·
`contenders` the few best candidates · `laboratory` one of them simulated, `idle` without load in every world · `design`
where to simulate, `tail` where most is needed · `surface` what is fitted to those runs and its error, `surfaces` all of
this for all of them · `answers` every draw read off the surfaces · `check` ten draws planned in full · `inputs` what
was drawn and what was assumed.
"""

from planner.studies.uncertainty.study import refuse_beside_uncertainty, uncertainty, with_uncertainty

__all__ = ["refuse_beside_uncertainty", "uncertainty", "with_uncertainty"]
