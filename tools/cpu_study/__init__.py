"""The loop held against real vLLM on a CPU: calibrate on three loads, predict three others, compare settings.

`plan.py` which loads on which server · `record.py` runs them (`make study-cpu`) · `predict.py` calibrates on each
repeat and predicts the rest · `page.py` writes docs/cpu-study.md with its pictures.
"""
