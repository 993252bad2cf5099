"""Time optimizer steps of this package and of upstream's trainer on the same model, images and batch.

python scripts/bench_training.py --upstream-python VENV/bin/python --out benchmarks

Upstream's trainer needs `rfdetr[train]`, which pins other versions, so another Python runs it. Without one it is
skipped. Every run has its own process, and the kinds alternate. A step is the time from the end of one optimizer step
to the end of the next, loading included; the median is over the steps after `--warmup`. The last line is the ratios as
JSON: `step_ratio`, `memory_ratio` and `first_step_ratio` to upstream, for hwd and conv3x3.

`rfdetr-hwd benchmark train` shows the parts of a step.
"""

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path
from typing import Any

OURS = ("hwd", "conv3x3")


def main() -> None:
    """Measure every kind in turn, `--rounds` times, and write a dated file."""
    arguments = read_arguments()
    if arguments.child:
        print(json.dumps(measure(arguments)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        arguments.data = arguments.data or make_images(Path(scratch) / "data", arguments)
        kinds = [*OURS, *(["upstream"] if arguments.upstream_python else [])]
        runs: dict[str, list[dict[str, Any]]] = {kind: [] for kind in kinds}
        for _ in range(arguments.rounds):
            for kind in kinds:
                runs[kind].append(run_child(kind, arguments, Path(scratch)))
                print(kind, json.dumps(runs[kind][-1]), flush=True)
    report(runs, arguments)


def read_arguments() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("benchmarks"), help="directory of the dated JSON file")
    parser.add_argument("--upstream-python", help="Python that has rfdetr[train]")
    parser.add_argument("--data", type=Path, help="Roboflow COCO dataset; default: built-in images of 640x480")
    parser.add_argument("--images", type=int, default=320, help="training images of the built-in dataset")
    parser.add_argument("--resolution", type=int, default=128)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--queries", type=int, default=30)
    parser.add_argument("--groups", type=int, default=5)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--warmup", type=int, default=5, help="steps that are not counted")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--run-dir", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def make_images(root: Path, arguments: argparse.Namespace) -> Path:
    """Write the built-in dataset with images of 640x480."""
    from rfdetr_hwd.curation.shapes import ShapesSpec, write_shapes

    write_shapes(root, ShapesSpec(train=arguments.images, valid=8, test=8, width=640, height=480, max_objects=6))
    return root


def run_child(kind: str, arguments: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """Measure one kind in a process of its own."""
    python = arguments.upstream_python if kind == "upstream" else sys.executable
    run_dir = Path(tempfile.mkdtemp(dir=scratch))
    options = [f"--child={kind}", f"--run-dir={run_dir}", f"--data={arguments.data}"]
    for name in ("resolution", "batch", "queries", "groups", "workers", "epochs", "warmup"):
        options.append(f"--{name}={getattr(arguments, name)}")
    started = time.time()
    result = subprocess.run([python, __file__, *options], capture_output=True, text=True)
    if result.returncode:
        raise SystemExit(f"{kind} failed:\n{result.stdout[-3000:]}{result.stderr[-3000:]}")
    return summarise(json.loads(result.stdout.splitlines()[-1]), started, arguments)


def summarise(child: dict[str, Any], started: float, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the measurements of a child that was started at a time: steps in seconds, peak memory in bytes."""
    from rfdetr_hwd.runtime.timing import spread

    ends = child["ends"]
    steps = [after - before for before, after in zip(ends, ends[1:], strict=False)][arguments.warmup :]
    median, p95 = spread(steps)
    return {
        "step_s": round(median, 5),
        "step_s_p95": round(p95, 5),
        "steps": len(ends),
        "images_per_second": round(arguments.batch / median, 2),
        "images_per_second_mean": round(arguments.batch * len(steps) / sum(steps), 2),
        "peak_bytes": child["peak_bytes"],
        "first_step_s": round(ends[0] - started, 3),
    }


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Train, in this process, and return when each step ended, and the peak memory in bytes.

    It needs nothing of this package: the Python of upstream's trainer may not have it.
    """
    import torch
    from torch.optim.optimizer import register_optimizer_step_post_hook

    ends: list[float] = []
    register_optimizer_step_post_hook(lambda *_: ends.append(time.time()))
    (train_upstream if arguments.child == "upstream" else train_ours)(arguments)
    on_gpu = torch.cuda.is_available()
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"ends": ends, "peak_bytes": torch.cuda.max_memory_allocated() if on_gpu else resident}


def train_ours(arguments: argparse.Namespace) -> None:
    """Train with this package."""
    from rfdetr_hwd.training.run import run

    config = arguments.run_dir / "config.yaml"
    values = {
        "model": {
            "variant": "nano",
            "levels": ["P4", "P5"],
            "resolution": arguments.resolution,
            "pretrain_weights": None,
            "num_queries": arguments.queries,
            "group_detr": arguments.groups,
        },
        "downsample": {"name": arguments.child},
        "data": {"root": str(arguments.data), "workers": arguments.workers},
        "train": {"epochs": arguments.epochs, "batch_size": arguments.batch, "multi_scale": False},
        "output": {"dir": str(arguments.run_dir / "run")},
    }
    config.write_text(json.dumps(values))  # JSON is YAML
    run(config, None, [])


def train_upstream(arguments: argparse.Namespace) -> None:
    """Train with upstream's trainer at its defaults, except for the settings that must be equal."""
    from rfdetr import RFDETRNano

    model = RFDETRNano(
        pretrain_weights=None,
        projector_scale=["P4", "P5"],
        num_queries=arguments.queries,
        num_select=arguments.queries,
        group_detr=arguments.groups,
        resolution=arguments.resolution,
        num_classes=4,
    )
    model.train(
        dataset_dir=str(arguments.data),
        output_dir=str(arguments.run_dir / "run"),
        epochs=arguments.epochs,
        batch_size=arguments.batch,
        grad_accum_steps=1,
        num_workers=arguments.workers,
        multi_scale=False,
        expanded_scales=False,
        use_ema=True,
        run_test=False,
        early_stopping=False,
        tensorboard=False,
        wandb=False,
    )


def report(runs: dict[str, list[dict[str, Any]]], arguments: argparse.Namespace) -> None:
    """Write the dated file, and print the ratios as the last line."""
    from rfdetr_hwd.runtime.environment import describe_environment

    medians = {
        kind: {name: statistics.median(run[name] for run in of_kind) for name in of_kind[0]}
        for kind, of_kind in runs.items()
    }
    ratios = {
        kind: {
            ratio: round(medians[kind][name] / medians["upstream"][name], 3)
            for ratio, name in (
                ("step_ratio", "step_s"),
                ("memory_ratio", "peak_bytes"),
                ("first_step_ratio", "first_step_s"),
            )
        }
        for kind in OURS
        if "upstream" in medians
    }
    environment = describe_environment()
    where = "cuda" if environment["devices"] else "cpu"
    machine = environment["devices"][0]["name"] if environment["devices"] else f"{platform.machine()} CPU"
    settings = {name: getattr(arguments, name) for name in ("resolution", "batch", "queries", "groups", "workers")}
    content = {
        "command": "python " + " ".join(sys.argv),
        "date": date.today().isoformat(),
        "machine": machine,
        "settings": settings,
        "environment": environment,
        "runs": runs,
        "ratios": ratios,
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / f"training-{date.today().isoformat()}-{where}.json"
    path.write_text(json.dumps(content, indent=2, default=str) + "\n")
    print(f"written: {path}")
    print(json.dumps(ratios))


if __name__ == "__main__":
    main()
