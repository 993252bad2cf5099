"""Run `rfdetr-hwd benchmark op` and keep its numbers: python scripts/bench_downsample.py --out benchmarks."""

import argparse
from pathlib import Path

from rfdetr_hwd.cli.benchmark import run_op

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--out", type=Path, default=Path("benchmarks"), help="folder of the dated JSON file")
parser.add_argument("--batch", type=int, default=8, help="maps of one pass")
parser.add_argument("--rounds", type=int, default=15, help="times that every downsampler is measured")
arguments = parser.parse_args()
run_op(arguments.batch, arguments.rounds, arguments.out)
