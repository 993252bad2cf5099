"""Freed memory is used again."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import resource, torch
from rfdetr_hwd.runtime.heap import keep_freed_memory

def work():
    return [torch.ones(2 << 20) for _ in range(8)]  # eight tensors of 8 MB

keep_freed_memory()
for _ in range(3):
    work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(4):
    work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def count_faults(**environment: str) -> int:
    """Return the pages that four rounds of work fetch, of 65,536 that they use."""
    untouched = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    command = [sys.executable, "-c", PROGRAM]
    process = subprocess.run(command, check=True, capture_output=True, text=True, env=untouched | environment)
    return int(process.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc is on Linux")
def test_the_next_step_fetches_no_pages() -> None:
    assert count_faults() < 6_000


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc is on Linux")
def test_the_environment_s_own_settings_stand() -> None:
    assert count_faults(MALLOC_MMAP_THRESHOLD_="65536") > 60_000
