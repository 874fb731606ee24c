"""What is known about models, GPUs, prices and vLLM's own defaults, by name.

Reading guide, from the outside in:

* `models.model("llama-3.1-8b")` gives a `specs.Model`; a path gives the model of that Hugging Face config.json.
* `hf_config.read_config(path)` is how such a file is read, and which architectures are understood;
  `hf_quantization` says which weight format its `quantization_config` means.
* `hardware.gpu("h100-sxm-80gb")` gives a `specs.Gpu`.
* `prices.gpu_hour("h100-sxm-80gb", "on-demand")` gives a price with its range, source, date and confidence.
* `engine_defaults.engine_defaults(gpu, "0.32")` gives what `vllm serve` would choose by itself.
* `token_prices` list prices of APIs in USD per million tokens, with first and last day.
* `tables` reads the CSV files; nothing else does.

The facts are in `data/*.csv`. Every row names its source and the day it was read; a column's unit is in its name.
A datum and an assumption stand in different columns:

* `models.csv`: `shape` is `datum`, or `assumed` where only the parameter count was published; `inferred` lists single
  columns of a published model that were deduced. `hidden`, `ffn` and the like are element counts.
  `head_dim` of a model with latent attention is the query head, `mla_nope_dim + mla_rope_dim`.
* `hardware.csv`: a figure X without a publication stands in `X_assumed` instead of `X`. Both empty means unknown,
  which is never zero. Rates are dense, bandwidths are for one direction. `memory_basis` says whether the capacity
  is the datasheet's or what the driver reports, which is a few per cent less.
* `prices.csv`: a rate card, one row for one offer, per GPU and hour. `listed_as` is the source's own name of the GPU.
  Offers that do not say which form of a GPU they rent (SXM, PCIe) are left out. An empty date: the source has none.
* `vllm_defaults.csv`: one row for one minor version. `read_release` is the release whose source code was read;
  where it is empty (`basis` = assumed) the versions read before and after agree.

A name that is not here raises `UnknownNameError` with the nearest ones. Nothing falls back on another GPU's numbers.
"""
