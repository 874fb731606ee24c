"""How Kubernetes calls the plan's GPU, and which image runs vLLM on it."""

from __future__ import annotations

from typing import NamedTuple

from planner.catalogue.hardware import gpu as find_gpu
from planner.errors import UnsupportedError
from planner.manifests.plan_shape import EngineFacts

# `nvidia.com/gpu.product`, the label that NVIDIA's GPU feature discovery gives to nodes: nvidia-smi's product name with
# dashes for spaces. Only where one product is meant without doubt.
_PRODUCTS = {
    "v100-sxm-32gb": "Tesla-V100-SXM2-32GB",
    "a10g-24gb": "NVIDIA-A10G",
    "a30-24gb": "NVIDIA-A30",
    "a100-sxm-40gb": "NVIDIA-A100-SXM4-40GB",
    "a100-sxm-80gb": "NVIDIA-A100-SXM4-80GB",
    "a100-pcie-80gb": "NVIDIA-A100-80GB-PCIe",
    "l4-24gb": "NVIDIA-L4",
    "l40s-48gb": "NVIDIA-L40S",
    "h100-pcie-80gb": "NVIDIA-H100-PCIe",
    "h100-sxm-80gb": "NVIDIA-H100-80GB-HBM3",
    "h200-sxm-141gb": "NVIDIA-H200",
    "b200-sxm-180gb": "NVIDIA-B200",
}
_ROCM_FROM = (0, 14)  # the first release whose images vLLM publishes for ROCm itself


class Device(NamedTuple):
    """One kind of GPU as a cluster sees it."""

    resource: str  # what a pod asks for
    product: str | None  # the node label's value, where there is a well-known one
    vendor: str


def device_of(hardware: str) -> Device:
    """The device of a catalogue name. Raises UnknownNameError, UnsupportedError for what has no standard way."""
    gpu = find_gpu(hardware)
    if gpu.vendor == "nvidia":
        return Device("nvidia.com/gpu", _PRODUCTS.get(gpu.name), gpu.vendor)
    if gpu.vendor == "amd":
        return Device("amd.com/gpu", None, gpu.vendor)
    reasons = {
        "google": "TPU slices are asked for by topology, and vLLM on them is a project of its own (tpu-inference)",
        "intel": "vLLM publishes no versioned image for it, and its device plugin has several resource names",
        "cpu": "it has no accelerator to ask a cluster for; start `vllm serve` by hand, or plan for a GPU",
    }
    rule = f"manifests are rendered for NVIDIA and AMD GPUs; {reasons.get(gpu.vendor, 'no device plugin is known')}"
    raise UnsupportedError("fleet.hardware", hardware, rule)


def image_of(device: Device, engine: EngineFacts) -> str:
    """The published image of the plan's own vLLM version. Raises UnsupportedError where there is none."""
    if device.vendor == "nvidia":
        return f"vllm/vllm-openai:v{engine.release}"
    major, minor, *_ = (int(part) for part in engine.release.split("."))
    if (major, minor) < _ROCM_FROM:
        rule = f"vLLM publishes ROCm images from {_ROCM_FROM[0]}.{_ROCM_FROM[1]} on: name one with --image"
        raise UnsupportedError("fleet.engine.vllm_version", engine.vllm_version, rule)
    return f"vllm/vllm-openai-rocm:v{engine.release}"
