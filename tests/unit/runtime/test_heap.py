"""Freed memory is used again."""

import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys, torch
from rfdetr_hwd.runtime.heap import keep_freed_memory

if sys.argv[1] == "keep":
    keep_freed_memory()

def work():
    return [torch.ones(2 << 20) for _ in range(8)]  # eight tensors of 8 MB

for _ in range(3):
    work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(4):
    work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc is on Linux")
def test_the_next_step_fetches_no_pages() -> None:
    keep, usual = (
        int(subprocess.run([sys.executable, "-c", PROGRAM, how], check=True, capture_output=True, text=True).stdout)
        for how in ("keep", "usual")
    )
    assert keep < usual / 2
