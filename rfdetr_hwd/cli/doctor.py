"""`rfdetr-hwd doctor`: what is here, what is missing, and what fixes it."""

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
    "faster-coco-eval": "faster_coco_eval",
    "supervision": "supervision",
    "safetensors": "safetensors.torch",
    **({"triton": "torch_linear_assignment._triton"} if sys.platform == "linux" else {}),
}
"""What the package and a step on a GPU import, where they are needed and no sooner."""
_FIXES = {
    "pytorch_wavelets": "pip install 'setuptools<81' PyWavelets pytorch_wavelets",
    "torch-hungarian": "pip install 'torch-hungarian>=0.1.0rc0,<0.2'",
}


class DoctorError(UserError):
    """Something that the package needs is missing."""


def doctor() -> None:
    """Show versions and devices, and what is missing."""
    import shutil
    import tempfile

    from rfdetr_hwd.data.shared_memory import describe_room
    from rfdetr_hwd.runtime.environment import describe_devices, describe_environment

    # What is installed
    described = describe_environment()
    rows = [("rfdetr-hwd", described["rfdetr_hwd"]), ("python", described["python"])]
    rows += [(name, version or "missing") for name, version in described["packages"].items()]
    print_table("versions", ("package", "version"), rows)

    # What the machine has
    devices = describe_devices()
    if not devices:
        say("devices: no CUDA device; training runs on the CPU in float32 (mixed precision is off)")
    for device in devices:
        precision = "native bfloat16" if device["native_bfloat16"] else "emulates bfloat16, slowly: set amp=false"
        capability = f"compute capability {device['compute_capability']}"
        say(f"device: {device['name']}, {device['memory_gib']} GiB, {capability}, {precision}")
    say(
        f"free disk space here: {shutil.disk_usage('.').free / 2**30:.0f} GiB; temporary files: {tempfile.gettempdir()}"
    )
    if room := describe_room():
        say(room)

    # What a run on it can promise
    _say_determinism()

    # What is missing
    problems = [problem for name, module in _IMPORTS.items() if (problem := _problem(name, module))]
    if problems:
        raise DoctorError("\n  ".join(["this installation is not complete:", *problems]))
    if devices:
        _say_solver()
    say("everything that is needed is here")


def _say_solver() -> None:
    """Say where the assignments of the loss are solved on this machine's GPU."""
    import torch

    from rfdetr_hwd.training.assignment import SOLVER_ADVICE, solver_problem

    problem = solver_problem(torch.device("cuda"))
    say(
        f"matching boxes: on the CPU, slower than the GPU would ({problem}); to have it there, {SOLVER_ADVICE}"
        if problem
        else "matching boxes: on the GPU"
    )


def _say_determinism() -> None:
    """Say where two runs on a GPU may differ in the last bits."""
    try:
        from rfdetr_hwd.runtime.determinism import DETERMINISTIC_ON_REQUEST, NONDETERMINISTIC_ON_CUDA
    except ImportError:  # torch is missing, which is said below
        return
    rows = [(name, where, "not deterministic") for name, where in NONDETERMINISTIC_ON_CUDA.items()]
    rows += [(name, where, "with train.deterministic=true") for name, where in DETERMINISTIC_ON_REQUEST.items()]
    print_table("the same bits in every run: on a kind of CPU, on a GPU", ("operator", "where", "deterministic"), rows)


def _problem(package: str, module: str) -> str | None:
    """Return what is wrong with a package and the command that fixes it, or `None`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            importlib.import_module(module)
    except Exception as error:  # a broken installation raises anything
        fix = _FIXES.get(package, f"pip install {package}")
        return f"{package} cannot be imported ({type(error).__name__}: {error}); fix it with: {sys.executable} -m {fix}"
    return None
