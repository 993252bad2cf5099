"""`rfdetr-hwd doctor`: show versions and devices, and check for missing packages."""

import importlib
import sys
import warnings

from rfdetr_hwd.console import print_table, say
from rfdetr_hwd.errors import UserError

_IMPORTS = {
    "torch": "torch",
    "torchvision": "torchvision",
    "rfdetr": "rfdetr",
    "torch-hungarian": "torch_linear_assignment",
    "scipy": "scipy.optimize",
    "pytorch_wavelets": "pytorch_wavelets",
    "pycocotools": "pycocotools.mask",
    "hotcoco": "hotcoco",
    "supervision": "supervision",
    "safetensors": "safetensors.torch",
    **({"triton": "torch_linear_assignment._triton"} if sys.platform == "linux" else {}),
}
"""Modules by package, which the harness and a step on a GPU import only where they are needed."""
_FIXES = {
    "pytorch_wavelets": "pip install 'setuptools<81' PyWavelets pytorch_wavelets",
    "torch-hungarian": "pip install 'torch-hungarian>=0.1.0rc0,<0.2'",
}


class DoctorError(UserError):
    """A required package is missing or broken."""


def doctor() -> None:
    """Show versions and devices, and check for missing packages."""
    import shutil
    import tempfile

    from rfdetr_hwd.data.shared_memory import describe_room
    from rfdetr_hwd.runtime.environment import describe_devices, describe_environment

    # Installed packages
    described = describe_environment()
    rows = [("rfdetr-hwd", described["rfdetr_hwd"]), ("python", described["python"])]
    rows += [(name, version or "missing") for name, version in described["packages"].items()]
    print_table("versions", ("package", "version"), rows)

    # Devices, disk and shared memory
    devices = describe_devices()
    if not devices:
        say("devices: no CUDA device. Training runs on the CPU in float32, without mixed precision")
    for device in devices:
        precision = (
            "native bfloat16" if device["native_bfloat16"] else "emulated bfloat16, which is slow: set train.amp=false"
        )
        capability = f"compute capability {device['compute_capability']}"
        say(f"device: {device['name']}, {device['memory_gib']} GiB, {capability}, {precision}")
    say(f"free disk space: {shutil.disk_usage('.').free / 2**30:.0f} GiB, temporary files: {tempfile.gettempdir()}")
    if room := describe_room():
        say(room)

    # Determinism
    _say_determinism()

    # Missing packages
    problems = [problem for name, module in _IMPORTS.items() if (problem := _problem(name, module))]
    if problems:
        raise DoctorError("\n  ".join(["the installation is incomplete:", *problems]))
    if devices:
        _say_solver()
    say("all required packages are installed")


def _say_solver() -> None:
    """Report where the box matching of the loss runs on a machine with a GPU."""
    import torch

    from rfdetr_hwd.training.assignment import SOLVER_ADVICE, solver_problem

    problem = solver_problem(torch.device("cuda"))
    say(
        f"box matching: on the CPU, which is slower ({problem}). To run it on the GPU, {SOLVER_ADVICE}"
        if problem
        else "box matching: on the GPU"
    )


def _say_determinism() -> None:
    """Report the operators that are not deterministic on a GPU."""
    try:
        from rfdetr_hwd.runtime.determinism import DETERMINISTIC_ON_REQUEST, NONDETERMINISTIC_ON_CUDA
    except ImportError:  # torch is missing, which is reported below
        return
    rows = [(name, where, "not deterministic") for name, where in NONDETERMINISTIC_ON_CUDA.items()]
    rows += [(name, where, "with train.deterministic=true") for name, where in DETERMINISTIC_ON_REQUEST.items()]
    print_table(
        "operators that are not deterministic by default on a GPU", ("operator", "where", "deterministic"), rows
    )


def _problem(package: str, module: str) -> str | None:
    """Return why a package cannot be imported and the command that fixes it, or `None`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            importlib.import_module(module)
    except Exception as error:  # a broken installation raises anything
        fix = _FIXES.get(package, f"pip install {package}")
        return f"{package} cannot be imported ({type(error).__name__}: {error}). Fix it with: {sys.executable} -m {fix}"
    return None
