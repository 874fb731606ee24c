"""A plan's document as one self-contained HTML page: nothing is loaded, nothing runs, light and dark, on paper too.

Reading order: `document` refuses what is no plan (`shape`, of `service_shape`, `money_shape` and `study_shape`: what is
read of one, `values`: the range of each number, `together`: what must not deny itself, `sums`: what must add up) ·
`answer`, `service` (`knee`: of the sizes tried), `spare`, `money`, `break_even`, `options` and `uncertainty` turn the
document into `parts`; `charts` and `charts_money` paint their pictures, which
`planner.report.svg` puts into the page · `words` the definitions · `assembly` puts the parts in order, and
`planner/report/templates` has the page's HTML and its sheet. Nothing is computed that the document does not hold, but
ratios, the other currency, the cost of a query in each hour, the knee and the break-even lines.
"""

from planner.report.page.assembly import report_page

__all__ = ["report_page"]
