"""The environment of a run: versions and devices, for run.json and for `rfdetr-hwd doctor`."""

import importlib.metadata
import os
import platform
import subprocess
import sys
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rfdetr_hwd import __version__

if TYPE_CHECKING:
    import torch

PACKAGES = (
    "torch",
    "torchvision",
    "rfdetr",
    "torch-hungarian",
    "scipy",
    "pytorch_wavelets",
    "PyWavelets",
    "pycocotools",
    "hotcoco",
    "supervision",
    "pydantic",
    "safetensors",
    "numpy",
    "pillow",
)
"""Packages whose versions affect a result."""

VARIABLES = (
    "ATEN_CPU_CAPABILITY",
    "CUBLAS_WORKSPACE_CONFIG",
    "CUDA_VISIBLE_DEVICES",
    "MKL_NUM_THREADS",
    "NVIDIA_TF32_OVERRIDE",
    "OMP_NUM_THREADS",
    "ONEDNN_MAX_CPU_ISA",
)
"""Environment variables that affect the last bits of a result."""


def describe_environment() -> dict[str, Any]:
    """Return versions and devices as JSON values; a package that is missing has the version `null`."""
    return {
        "rfdetr_hwd": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in PACKAGES},
        "devices": describe_devices(),
        "libraries": _describe_libraries(),
        "variables": {name: os.environ[name] for name in VARIABLES if name in os.environ},
    }


def describe_start() -> dict[str, Any]:
    """Return when and how the command was started: time, arguments, environment, git state of the working directory."""
    return {
        "time": now(),
        "arguments": sys.argv[1:],
        "git": describe_git(),
        "environment": describe_environment(),
    }


def now() -> str:
    """Return the time, in UTC, as ISO 8601 writes it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def describe_git() -> dict[str, Any] | None:
    """Return commit and changed files of the working directory; `None` outside a repository or without git."""
    with suppress(OSError, subprocess.SubprocessError):
        commit = _git("rev-parse", "HEAD")
        changed = [line[3:] for line in _git("status", "--porcelain").splitlines()]
        return {"commit": commit.strip(), "num_changed": len(changed), "changed": changed[:20]}
    return None


def _git(*arguments: str) -> str:
    # run no program that the repository names, and do not write its index
    command = ["git", "--no-optional-locks", "-c", "core.fsmonitor=false", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout


def describe_devices() -> list[dict[str, Any]]:
    """Return the CUDA devices: name, memory in GiB, compute capability, and whether bfloat16 is native."""
    try:
        import torch  # late: `doctor` runs where it is missing
    except ImportError:
        return []
    if not torch.cuda.is_available():
        return []
    devices = []
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        capability = (properties.major, properties.minor)
        devices.append(
            {
                "name": properties.name,
                "memory_gib": round(properties.total_memory / 2**30, 1),
                "compute_capability": ".".join(map(str, capability)),
                "native_bfloat16": capability >= (8, 0),
            }
        )
    return devices


def describe_machine(device: "torch.device") -> str:
    """Return the processor that computes, in a few words."""
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} CPU, {torch.get_num_threads()} threads"


def _describe_libraries() -> dict[str, Any]:
    """Return torch's libraries, its CPU capability and its number of threads."""
    try:
        import torch
    except ImportError:
        return {}
    has_nccl = torch.distributed.is_available() and torch.distributed.is_nccl_available()
    return {
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "nccl": ".".join(map(str, torch.cuda.nccl.version())) if has_nccl and torch.cuda.is_available() else None,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
    }


def _version(name: str) -> str | None:
    with suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(name)
    return None
