"""The replicas: vLLM's Deployment, the Service that lists them, and how many may be missing."""

from __future__ import annotations

import math

from planner.manifests.devices import device_of, image_of
from planner.manifests.facts import Facts
from planner.manifests.naming import Object, checksum, metadata, plan_notes, selector
from planner.manifests.pods import (
    API_KEY,
    HF_TOKEN,
    USER,
    container,
    environment,
    mounted,
    pod,
    pod_security,
    probe,
    scratch,
    secret_variable,
)
from planner.manifests.serve_arguments import PORT, serve_arguments
from planner.manifests.settings import Settings

COMPONENT = "replicas"
STARTUP_FACTOR = 3.0  # on fleet.startup_s: the first start downloads the weights and compiles
LEAST_STARTUP_S = 120
PROBE_S = 10
DRAIN_FACTOR = 1.5  # on the p99 of E2E: a longer answer is cut off with the pod
LEAVE_S, STOP_S = 15, 15  # until no router sends there any more (DNS and its caches); for vLLM itself to end
SHM_GIB_PER_GPU = 2  # NCCL's and vLLM's own shared memory between ranks
HOST_GIB, HOST_GIB_PER_GPU = 8, 8  # Python, CUDA contexts and pinned buffers of each process
DISK_FACTOR = 1.2
CACHE, WEIGHTS = "/cache", "/cache/huggingface"
# Everything that vLLM and what it stands on would write below a home folder that is not writable.
CACHES = {
    "HOME": CACHE,
    "USER": "vllm",  # torch asks for the user's name, and its number stands in no /etc/passwd
    "HF_HOME": WEIGHTS,
    "XDG_CACHE_HOME": f"{CACHE}/xdg",
    "XDG_CONFIG_HOME": f"{CACHE}/config",
    "VLLM_CACHE_ROOT": f"{CACHE}/vllm",
    "VLLM_CONFIG_ROOT": f"{CACHE}/config/vllm",
    "TORCHINDUCTOR_CACHE_DIR": f"{CACHE}/torchinductor",
    "TRITON_CACHE_DIR": f"{CACHE}/triton",
    "NUMBA_CACHE_DIR": f"{CACHE}/numba",
    "FLASHINFER_WORKSPACE_BASE": CACHE,
    "VLLM_NO_USAGE_STATS": "1",
}
# vLLM closes a connection that was idle for 5 s: a router that sends a request on it at that moment gets none back.
# Longer than any router here keeps one (haproxy.IDLE_S).
SERVER = {"VLLM_HTTP_TIMEOUT_KEEP_ALIVE": "90"}


def drain_s(facts: Facts) -> int:
    """Seconds between leaving the Service and being told to end: requests in hand finish meanwhile."""
    return LEAVE_S + math.ceil(DRAIN_FACTOR * facts.p99_e2e_s)


def startup_budget_s(facts: Facts) -> int:
    """Seconds that a replica may take to its first answer before it is started again."""
    return max(LEAST_STARTUP_S, math.ceil(STARTUP_FACTOR * facts.startup_s))


def shared_memory_gib(facts: Facts) -> int | None:
    """/dev/shm of a replica; None where there is one rank, which shares with nobody."""
    return SHM_GIB_PER_GPU * facts.gpus_per_replica if facts.gpus_per_replica > 1 else None


def cores(facts: Facts) -> int:
    """Physical cores that vLLM's guide asks for one replica."""
    parallel = facts.engine.data_parallel_size
    return 1 + parallel + facts.gpus_per_replica + (1 if parallel > 1 else 0)


def _cpu_rule(facts: Facts, settings: Settings) -> str:
    parallel = facts.engine.data_parallel_size
    parts = f"API server 1, engine cores {parallel}, GPU workers {facts.gpus_per_replica}"
    rule = f"2 x {cores(facts)} cores of vLLM's guide ({parts}{', coordinator 1' if parallel > 1 else ''})"
    if settings.cpu is not None:
        return f"--cpu {settings.cpu}; the rule is {rule}"
    return f"{rule}; a pod stays pending where no node has so many free: --cpu N asks for another number"


def resources(facts: Facts, settings: Settings, *, quantised_on_load: bool) -> Object:
    """CPU, memory and disk as requests, GPUs as limits.

    vLLM's guide to CPU resources for GPU deployments asks for a core for the API server, one for each engine core, one
    for each GPU's worker and one more to coordinate data parallelism; a core is two of Kubernetes' units where the
    hosts run two threads on each. Memory is a rule of thumb, stated in docs/deploy.md; neither is limited, as a
    throttled scheduler would break the planned latencies.
    """
    ranks = facts.gpus_per_replica
    cpus = 2 * cores(facts) if settings.cpu is None else settings.cpu
    requests = {"cpu": str(cpus), "memory": f"{HOST_GIB + (HOST_GIB_PER_GPU + SHM_GIB_PER_GPU) * ranks}Gi"}
    if facts.weights_gib is not None and settings.model_cache is None:
        # A 16-bit checkpoint that is quantised as it loads is twice what the GPUs hold of it.
        stored = 2 if quantised_on_load else 1
        requests["ephemeral-storage"] = f"{math.ceil(DISK_FACTOR * stored * facts.weights_gib * ranks) + 10}Gi"
    gpus = {device_of(facts.hardware).resource: str(ranks)}
    return {"requests": requests | gpus, "limits": gpus}


def deployment(facts: Facts, name: str, settings: Settings, *, autoscaled: bool) -> Object:
    """vLLM's replicas, as many as the plan says; `autoscaled`: from there on an autoscaler says how many.

    Their number stands here with an autoscaler too: left out, applying this over a fleet whose number was applied
    before takes the field's only owner away, and Kubernetes makes one replica of it. So an apply begins with the
    planned fleet, which holds the peak; `fleet.autoscaler` may go beyond.
    """
    device = device_of(facts.hardware)
    shared = shared_memory_gib(facts)
    weights: Object = scratch()
    if settings.model_cache is not None:
        weights = {"persistentVolumeClaim": {"claimName": settings.model_cache}}
    volumes = {"cache": (CACHE, scratch()), "weights": (WEIGHTS, weights), "tmp": ("/tmp", scratch())}
    if shared is not None:
        volumes["shm"] = ("/dev/shm", scratch(f"{shared}Gi", memory=True))
    mounts, sources = mounted(volumes)
    budget_s, drained_s = startup_budget_s(facts), drain_s(facts)
    arguments = serve_arguments(facts, settings.checkpoint, settings.vllm_args, "0.0.0.0")
    server = container(
        "vllm",
        settings.image or image_of(device, facts.engine),
        command=["vllm", "serve"],  # the images' own entry point has changed between releases
        args=arguments,
        ports=[{"name": "http", "containerPort": PORT}],
        env=[
            *environment({**CACHES, **SERVER}),
            secret_variable("HF_TOKEN", name, HF_TOKEN),
            secret_variable("VLLM_API_KEY", name, API_KEY),
        ],
        resources=resources(facts, settings, quantised_on_load="--quantization" in arguments),
        startupProbe=probe("/health", "http", PROBE_S, math.ceil(budget_s / PROBE_S)),
        readinessProbe=probe("/health", "http", 5, 2),
        livenessProbe=probe("/health", "http", PROBE_S, 6, timeout_s=10),
        lifecycle={"preStop": {"exec": {"command": ["sleep", str(drained_s)]}}},
        volumeMounts=mounts,
    )
    spec: Object = {
        "terminationGracePeriodSeconds": drained_s + STOP_S,
        "securityContext": pod_security(),
        "containers": [server],
        "volumes": sources,
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": selector(name, COMPONENT)},
            }
        ],
        "tolerations": [{"key": device.resource, "operator": "Exists", "effect": "NoSchedule"}],
    }
    notes = plan_notes(facts) | {"cpu": _cpu_rule(facts, settings)}
    if device.product is not None:
        spec["nodeSelector"] = {f"{device.resource}.product": device.product}
    else:
        notes["node-selector"] = f"no well-known node label says {facts.hardware}: add the one of your nodes"
    if device.vendor == "amd":
        notes["device-files"] = (
            f"user {USER} must be able to open /dev/kfd and /dev/dri: containerd's "
            "device_ownership_from_security_context, or the render group of your nodes in supplementalGroups"
        )
    if settings.checkpoint is not None:
        notes["checkpoint"] = f"must be {facts.model} in {facts.engine.quantization}, the format that was planned"
    if facts.spare_replicas == 0:
        notes["rolling-update"] = (
            f"no spare was planned: an update needs {facts.gpus_per_replica} more GPUs for a while"
        )
    shown = {"vllm-capacity-planner/arguments": checksum("\0".join(arguments))}
    if autoscaled:
        most = facts.most_replicas
        notes["replicas"] = (
            f"the planned fleet, with which an apply begins: the autoscaler takes it from there, to {most} replicas "
            f"({most * facts.gpus_per_replica} GPUs) at most. Once it has scaled, take "
            "spec.replicas out by a patch of your own, and an apply leaves the number alone"
        )
    made: Object = {
        "replicas": facts.replicas,
        "selector": {"matchLabels": selector(name, COMPONENT)},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": _update(facts)},
        "progressDeadlineSeconds": 2 * (budget_s + drained_s + STOP_S),
        "revisionHistoryLimit": 5,
        "template": pod(name, COMPONENT, spec, shown),
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata(name, COMPONENT, suffix="replicas", notes=notes),
        "spec": made,
    }


def _update(facts: Facts) -> Object:
    """The spares may be missing while the limits hold; without any, a new replica comes before an old one goes."""
    if facts.spare_replicas:
        return {"maxUnavailable": facts.spare_replicas, "maxSurge": 0}
    return {"maxUnavailable": 0, "maxSurge": 1}


def pods_service(name: str) -> Object:
    """A headless Service: its name resolves to the addresses of the replicas that are ready."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(name, COMPONENT, suffix="replicas"),
        "spec": {
            "clusterIP": "None",
            "selector": selector(name, COMPONENT),
            "ports": [{"name": "http", "port": PORT, "targetPort": "http"}],
        },
    }


def disruption_budget(facts: Facts, name: str) -> Object:
    """As many replicas may be evicted at once as were planned as spares; none where none were."""
    notes = {}
    if facts.spare_replicas == 0:
        # Beside an autoscaler a scenario may have no spares: its target is what leaves room.
        way = "plan with fleet.spare_replicas of 1, or " if facts.scaler is None else ""
        notes["no-spare"] = (
            "without a spare every eviction breaks the planned limits at the peak, so draining a node waits: "
            f"{way}raise maxUnavailable off the peak"
        )
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata(name, COMPONENT, suffix="replicas", notes=notes),
        "spec": {
            "maxUnavailable": facts.spare_replicas,
            "selector": {"matchLabels": selector(name, COMPONENT)},
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    }
