"""The assignment solver of the loss on a GPU. It is tried once before the first step, because it compiles a kernel.

`rfdetr`'s matcher hands every CUDA batch of two or more images to `torch_linear_assignment`. This package compiles a
Triton kernel. It needs a C compiler, the Python headers and a cache directory. Slim containers have no compiler.
"""

import functools
import logging
import warnings

import torch
from torch import Tensor

from rfdetr_hwd.errors import UserError

_COSTS = [[[4.0, 1.0], [2.0, 3.0], [9.0, 9.0]]]
_MATCHES = [[1, 0, -1]]
"""Costs of three queries and two boxes, and the box that each query is matched to; -1: none."""

SOLVER_ADVICE = (
    "install a C compiler (gcc) and the Python headers (python3-dev), and check that TRITON_CACHE_DIR is writable"
)

logger = logging.getLogger(__name__)


class SolverError(UserError):
    """The assignment solver for GPUs is not installed."""


def prepare_solver(device: torch.device) -> None:
    """Try the solver on a GPU. If it fails, solve on the CPU and log a warning.

    Raises:
        SolverError: It is not installed.
    """
    if device.type != "cuda":
        return
    problem = solver_problem(device)
    if problem:
        solve_on_host()
        logger.warning(
            "matching boxes on the CPU, which is slower: %s. To match on the GPU, %s", problem, SOLVER_ADVICE
        )


def solver_problem(device: torch.device) -> str:
    """Return why the solver fails on a device; empty if it works.

    Raises:
        SolverError: It is not installed.
        torch.OutOfMemoryError: The device has no memory left.
    """
    try:
        import torch_linear_assignment
    except ImportError as error:
        raise SolverError(
            f"training on a GPU needs torch_linear_assignment ({error}): pip install 'torch-hungarian>=0.1.0rc0,<0.2'"
        ) from None
    # Solve a small problem, which compiles the kernel.
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # below compute capability 8.0 it uses SciPy and warns
            found = torch_linear_assignment.batch_linear_assignment(torch.tensor(_COSTS, device=device)).tolist()
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # compiler, driver and file system raise many kinds
        return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    return "" if found == _MATCHES else f"wrong result: costs {_COSTS} give {found}, expected {_MATCHES}"


def solve_on_host() -> None:
    """Solve the assignments of this process on the CPU, with SciPy. The matches are the same."""
    import torch_linear_assignment

    solve = torch_linear_assignment.batch_linear_assignment

    @functools.wraps(solve)
    def solve_copied(cost: Tensor) -> Tensor:
        matches: Tensor = solve(cost.cpu())
        return matches.to(cost.device)

    torch_linear_assignment.batch_linear_assignment = solve_copied
