"""A plan's document made into what an engineer would write by hand to deploy it: plain dictionaries out.

Reading guide, in the order in which the objects are made:

- `plan_shape`, `facts`: the plan's JSON document, checked, and reduced to what a deployment needs; `settings`: what
  the plan does not say.
- `scenario_files`: the files that the scenario names, read, to stand beside the plan; `file_kinds`: what each must be.
- `naming`: names, labels and the annotations that carry the plan's own numbers.
- `serve_arguments`: vLLM's command line for the plan's engine; the inverse of `readers.vllm_args`.
- `devices`: how Kubernetes calls the plan's GPU, and which image serves it.
- `pods`: what every pod has in common (security, probes, mounts).
- `haproxy`: the router's configuration, and what of the plan it has no mechanism for.
- `replicas`, `router`, `autoscaling`, `monitoring`, `exporter`, `loadtest`: one concern each.
- `watching`: where the fleet is read, for exporter, alerts and autoscaler alike.
- `kubernetes`: all of them in order; `compose`: the same for one box; `text`: YAML, and the files of a folder.
"""
