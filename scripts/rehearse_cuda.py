"""Rehearse on the CPU what a CUDA device would run, and print every branch for CUDA with its state.

python scripts/rehearse_cuda.py

The branches are looked for in the sources of this package and of the modules of `rfdetr` that it loads, so a new one
appears by itself. States: `run` on a device without data, where types, shapes and devices are torch's own; `patched`
with numbers on a CPU that poses as a GPU, or with stand-ins for calls to the driver; `not here`, with the reason;
`not called` by this package; `open`: neither. Exit status 1 where a part fails or a branch is open.
"""

import sys
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
warnings.simplefilter("ignore")

from tests.rehearsal.parts import PARTS  # noqa: E402
from tests.rehearsal.table import print_part, print_rows, rehearse  # noqa: E402

if __name__ == "__main__":
    rows, problems = rehearse(PARTS, print_part)
    print_rows(rows)
    sys.exit(1 if any(problems.values()) or any(row.state == "open" for row in rows) else 0)
