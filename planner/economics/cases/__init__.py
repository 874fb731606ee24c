"""The source documents' systems as cases: files of steps with units, worked out and held against what was printed.

`schema` is the file's shape, `sentence` the answer's text with its placeholders, `signature` what a model wants,
`evaluate` works steps out, `variation` varies inputs one at a time, `answer` makes the document, `library` finds the
shipped files in `data`. Which models there are is an argument: this room has the arithmetic ones
(`planner.economics.models`), `planner.studies` adds those that simulate.
"""

from planner.economics.cases.answer import CaseAnswer, work_out
from planner.economics.cases.library import names, shipped
from planner.economics.cases.schema import Case, is_case, named_after, read
from planner.economics.cases.signature import Signature, signature

__all__ = [
    "Case",
    "CaseAnswer",
    "Signature",
    "is_case",
    "named_after",
    "names",
    "read",
    "shipped",
    "signature",
    "work_out",
]
