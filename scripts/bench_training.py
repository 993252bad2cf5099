"""Time optimizer steps of this package and of upstream's trainer on the same model, images and batch.

python scripts/bench_training.py --upstream-python VENV/bin/python --out benchmarks

Upstream's trainer needs `rfdetr[train]`, which pins other versions, so another Python runs it, at its defaults and, on
a GPU, also with what makes it fastest. Every run has its own process, and the kinds alternate. A step is the time from
the end of one optimizer step to the end of the next, loading included; the median is over the steps after `--warmup`.
Its parts are those of the host: on a GPU they show where kernels are queued, not where they run. `last_loss` is the
mean training loss of the last ten steps, after the same number of images. The first step is timed from the start of the
process, and from the call of the trainer, when torch and the trainer's package are imported. The last line is the
ratios as JSON: `step_ratio`, `memory_ratio`, `first_step_ratio` and `called_step_ratio` to upstream, for hwd and
conv3x3.

`rfdetr-hwd benchmark train` shows the parts of a step of this package.
"""

import argparse
import json
import resource
import statistics
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from beside_upstream import add_options, make_images, run_child, write_record

OURS = ("hwd", "conv3x3")
SETTINGS = ("resolution", "batch", "queries", "groups", "workers", "epochs", "warmup")
PARTS = ("forward", "loss", "backward", "optimizer", "rest")
"""Parts of a step: `backward` holds clipping, `rest` EMA, logging and the wait for images."""
LAST_STEPS = 10


def main() -> None:
    """Measure every kind in turn, `--rounds` times, and write a dated file."""
    arguments = read_arguments()
    if arguments.child:
        print(json.dumps(measure(arguments)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        arguments.data = arguments.data or make_images(Path(scratch) / "data", train=arguments.images)
        kinds = [*OURS, *upstream_kinds(arguments.upstream_python)]
        runs: dict[str, list[dict[str, Any]]] = {kind: [] for kind in kinds}
        for _ in range(arguments.rounds):
            for kind in kinds:
                options = {name: getattr(arguments, name) for name in (*SETTINGS, "data")}
                options["run_dir"] = tempfile.mkdtemp(dir=scratch)
                started = time.time()
                child = run_child(kind, __file__, options, arguments.upstream_python)
                runs[kind].append(summarise(child, started, arguments))
                print(kind, json.dumps(runs[kind][-1]), flush=True)
    write_record("training", arguments, ("images", *SETTINGS), runs, compare(runs))


def read_arguments() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    parser.add_argument("--images", type=int, default=320, help="training images of the built-in dataset")
    parser.add_argument("--resolution", type=int, default=128)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--queries", type=int, default=30)
    parser.add_argument("--groups", type=int, default=5)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--warmup", type=int, default=5, help="steps that are not counted")
    parser.add_argument("--run-dir", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def upstream_kinds(python: str | None) -> list[str]:
    """Return the kinds of upstream that can be measured. What makes it fastest, `compile`, is for GPUs alone."""
    import torch

    return [] if not python else ["upstream", *(["upstream-best"] if torch.cuda.is_available() else [])]


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
        "called_step_s": round(ends[0] - child["called"], 3),
        "parts_s": {part: round(statistics.median(child["parts"][part][arguments.warmup :]), 5) for part in PARTS},
        "last_loss": round(statistics.mean(child["losses"][-LAST_STEPS:]), 4),
    }


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Train, in this process, and return when each step ended, and the peak memory in bytes.

    It needs nothing of this package: the Python of upstream's trainer may not have it.
    """
    import torch

    watch = watch_steps()
    train = train_upstream if arguments.child.startswith("upstream") else train_ours
    watch["called"] = train(arguments)
    on_gpu = torch.cuda.is_available()
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    watch["losses"] = [float(loss) for loss in watch["losses"]]
    return {**watch, "peak_bytes": torch.cuda.max_memory_allocated() if on_gpu else resident}


def watch_steps() -> dict[str, Any]:
    """Return what every step adds to: when it ended, the seconds of its parts, and its loss.

    The network and the criterion are upstream's in all kinds. One micro-batch a step is supposed.
    """
    from rfdetr.models.criterion import SetCriterion
    from rfdetr.models.lwdetr import LWDETR
    from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

    watch: dict[str, Any] = {"ends": [], "parts": defaultdict(list), "losses": []}
    forward, loss = LWDETR.forward, SetCriterion.forward
    last = [time.time()]

    def end_part(part: str) -> None:
        now = time.time()
        watch["parts"][part].append(now - last[0])
        last[0] = now

    def timed_forward(network: Any, *inputs: Any, **named: Any) -> Any:
        if network.training:
            end_part("rest")
        outputs = forward(network, *inputs, **named)
        if network.training:
            end_part("forward")
        return outputs

    def timed_loss(criterion: Any, *inputs: Any, **named: Any) -> Any:
        losses = loss(criterion, *inputs, **named)
        if criterion.training:
            weights = criterion.weight_dict
            watch["losses"].append(sum(losses[name].detach() * weights[name] for name in losses if name in weights))
            end_part("loss")
        return losses

    def end_step(*_: Any) -> None:
        end_part("optimizer")
        watch["ends"].append(last[0])

    LWDETR.forward, SetCriterion.forward = timed_forward, timed_loss
    register_optimizer_step_pre_hook(lambda *_: end_part("backward"))
    register_optimizer_step_post_hook(end_step)
    return watch


def train_ours(arguments: argparse.Namespace) -> float:
    """Train with this package, and return when it was called."""
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
    called = time.time()
    run(config, None, [])
    return called


def train_upstream(arguments: argparse.Namespace) -> float:
    """Train with upstream's trainer at its defaults, or its fastest, except for the settings that must be equal.

    Return when it was called.
    """
    import rfdetr.training  # noqa: F401  (imported here, so that it does not count as training)
    from rfdetr import RFDETRNano

    called = time.time()
    model = RFDETRNano(
        compile=arguments.child == "upstream-best",
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
    return called


def compare(runs: dict[str, list[dict[str, Any]]]) -> dict[str, dict[str, float]]:
    """Return the ratios of our medians to each of upstream's."""
    names = {
        "step_ratio": "step_s",
        "memory_ratio": "peak_bytes",
        "first_step_ratio": "first_step_s",
        "called_step_ratio": "called_step_s",
    }
    medians = {
        kind: {name: statistics.median(run[name] for run in of_kind) for name in names.values()}
        for kind, of_kind in runs.items()
    }
    return {
        f"{kind}{other.removeprefix('upstream')}": {
            ratio: round(medians[kind][name] / medians[other][name], 3) for ratio, name in names.items()
        }
        for other in ("upstream", "upstream-best")
        for kind in OURS
        if other in medians
    }


if __name__ == "__main__":
    main()
