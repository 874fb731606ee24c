"""docs/does-it-pay.md: does an AI search query pay for itself on H100s, a dense model against mixtures of experts?

`results` plans and keeps what the page needs · `page` makes the page of it, with `other_inputs` and `doubts` ·
`words` its words and the rule of its verdict · `picture` the chart · `__main__` the command.
"""
