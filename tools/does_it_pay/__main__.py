"""Write docs/does-it-pay.md and its picture.

python -m tools.does_it_pay                 plan everything anew (minutes), keep the results, write the page
python -m tools.does_it_pay --from FILE     only write the page, from results that were kept
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from planner.report.charts import image
from tools.does_it_pay.page import page
from tools.does_it_pay.picture import picture
from tools.does_it_pay.results import results

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "does-it-pay.md"
PICTURE = ROOT / "docs" / "does-it-pay.png"
KEPT = ROOT / "tests" / "data" / "does_it_pay.json"


def main() -> None:
    """Plan, unless results are given, and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--from", dest="given", type=Path, metavar="FILE", help="results that were kept")
    parser.add_argument("--keep", type=Path, default=KEPT, metavar="FILE", help="where new results are kept")
    arguments = parser.parse_args()
    if arguments.given is None:
        found = results(lambda what: print(what, file=sys.stderr, flush=True))
        arguments.keep.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    else:
        found = json.loads(arguments.given.read_text(encoding="utf-8"))
    PAGE.write_text(page(found), encoding="utf-8")
    PICTURE.write_bytes(image(picture(found), "png"))


if __name__ == "__main__":
    main()
