"""Time an evaluation of this package and upstream's `evaluate()`: the same weights, images, resolution and batch.

python scripts/bench_evaluation.py --upstream-python VENV/bin/python --out benchmarks

Upstream's `evaluate()` needs `rfdetr[train]`, which pins other versions, so another Python runs it. Without one it is
skipped. Every run has its own process, and the kinds alternate. Each has its model in memory first. Then two spans are
timed: `evaluate_s`, from there to the metrics (reading the annotations, building loader and metric, one pass), and
`pass_s`, the pass alone: loading, forward passes, decoding and metrics. The last line is JSON: `ratio_to_upstream` and
`pass_ratio_to_upstream`, upstream's seconds over ours, medians of all rounds.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from beside_upstream import add_options, make_images, run_child, write_record

SETTINGS = ("resolution", "batch", "queries", "workers", "threads")


def main() -> None:
    """Measure both kinds in turn, `--rounds` times, and write a dated file."""
    arguments = read_arguments()
    if arguments.child:
        measured = (measure_upstream if arguments.child == "upstream" else measure_ours)(arguments)
        print(json.dumps(measured))
        return
    with tempfile.TemporaryDirectory() as scratch:
        arguments.data = arguments.data or make_images(Path(scratch) / "data", valid=arguments.images)
        arguments.weights = Path(scratch) / "weights.pt"
        save_weights(arguments)
        kinds = ["ours", *(["upstream"] if arguments.upstream_python else [])]
        runs: dict[str, list[dict[str, Any]]] = {kind: [] for kind in kinds}
        for _ in range(arguments.rounds):
            for kind in kinds:
                options = {name: getattr(arguments, name) for name in (*SETTINGS, "data", "weights")}
                runs[kind].append(run_child(kind, __file__, options, arguments.upstream_python))
                print(kind, json.dumps(runs[kind][-1]), flush=True)
    write_record("evaluation", arguments, ("images", *SETTINGS), runs, compare(runs))


def read_arguments() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser)
    parser.add_argument("--images", type=int, default=128, help="validation images of the built-in dataset")
    parser.add_argument("--resolution", type=int, default=384)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--threads", type=int, default=0, help="torch's threads; default: its own choice")
    parser.add_argument("--weights", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def our_config(arguments: argparse.Namespace) -> Any:
    """Return the configuration of our evaluation: stock RF-DETR Nano."""
    from rfdetr_hwd.config.load import parse_config

    return parse_config(
        {
            "model": {
                "variant": "nano",
                "levels": ["P4", "P5"],
                "resolution": arguments.resolution,
                "pretrain_weights": None,
                "num_queries": arguments.queries,
                "num_select": arguments.queries,
            },
            "downsample": {"name": "conv3x3"},
            "data": {"root": str(arguments.data), "workers": arguments.workers},
            "evaluation": {"batch_size": arguments.batch},
            "output": {"dir": "unused"},
        }
    )


def build_ours(arguments: argparse.Namespace) -> tuple[Any, Any]:
    """Return our model with random weights, and the names of the data's classes."""
    import torch

    from rfdetr_hwd.data.detect import find_data
    from rfdetr_hwd.data.read import read_split
    from rfdetr_hwd.model.build import build_model

    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    config = our_config(arguments)
    names = read_split(find_data(config.data).split("val")).class_names
    return build_model(config.model, config.downsample, names), names


def save_weights(arguments: argparse.Namespace) -> None:
    """Write the weights that both evaluate, and the names of the classes."""
    import torch

    model, names = build_ours(arguments)
    torch.save({"model": model.network.state_dict(), "classes": list(names)}, arguments.weights)


def measure_ours(arguments: argparse.Namespace) -> dict[str, Any]:
    """Evaluate with this package."""
    import torch

    from rfdetr_hwd.data.detect import find_data, read_options
    from rfdetr_hwd.data.read import read_split
    from rfdetr_hwd.evaluation.measurement import Evaluation

    model, _ = build_ours(arguments)
    model.network.load_state_dict(torch.load(arguments.weights)["model"])
    config, device = our_config(arguments), torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = model.network.to(device)
    start = time.perf_counter()
    data = read_split(find_data(config.data).split("val"), config.data.allow, read_options(config.data))
    evaluation = Evaluation.build(model, data, config, device)
    of_pass = time.perf_counter()
    metrics = evaluation.measure(network)
    end = time.perf_counter()
    return {
        "evaluate_s": round(end - start, 3),
        "pass_s": round(end - of_pass, 3),
        "images": len(data),
        "detections": len(evaluation.metric.detections),
        "AP": metrics["AP"],
    }


def measure_upstream(arguments: argparse.Namespace) -> dict[str, Any]:
    """Evaluate with upstream's `evaluate()`, at its defaults except for the settings that must be equal."""
    import pytorch_lightning
    import torch
    from rfdetr import RFDETRNano

    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    stored = torch.load(arguments.weights)
    model = RFDETRNano(
        pretrain_weights=None,
        projector_scale=["P4", "P5"],
        num_queries=arguments.queries,
        num_select=arguments.queries,
        resolution=arguments.resolution,
        num_classes=len(stored["classes"]),
    )
    model.model.model.load_state_dict(stored["model"])
    spent, validate = [0.0], pytorch_lightning.Trainer.validate

    def timed(*options: Any, **named: Any) -> Any:
        of_pass = time.perf_counter()
        results = validate(*options, **named)
        spent[0] = time.perf_counter() - of_pass
        return results

    pytorch_lightning.Trainer.validate = timed
    start = time.perf_counter()
    metrics = model.evaluate(
        split="val",
        dataset_dir=str(arguments.data),
        output_dir=tempfile.mkdtemp(dir=arguments.weights.parent),
        batch_size=arguments.batch,
        num_workers=arguments.workers,
    )
    end = time.perf_counter()
    return {
        "evaluate_s": round(end - start, 3),
        "pass_s": round(spent[0], 3),
        "AP": next((value for name, value in metrics.items() if name.endswith("mAP_50_95")), None),
    }


def compare(runs: dict[str, list[dict[str, Any]]]) -> dict[str, float]:
    """Return upstream's median seconds over ours."""
    medians = {
        kind: {name: statistics.median(run[name] for run in of_kind) for name in ("evaluate_s", "pass_s")}
        for kind, of_kind in runs.items()
    }
    spans = {"ratio_to_upstream": "evaluate_s", "pass_ratio_to_upstream": "pass_s"}
    return {
        ratio: round(medians["upstream"][name] / medians["ours"][name], 3)
        for ratio, name in spans.items()
        if "upstream" in medians
    }


if __name__ == "__main__":
    main()
