"""Write the tables of docs/benchmarks.md from the dated files in benchmarks/.

usage: python scripts/write_benchmarks_page.py
"""

import json
import statistics
from collections.abc import Iterator, Mapping
from typing import Any

from pages import DOCS, ROOT, update

PAGE = DOCS / "benchmarks.md"
NAME = "tables"
PACKAGES = ("torch", "rfdetr", "pytorch_wavelets")


def write_tables() -> str:
    """Return the sections of all measurements, the newest first."""
    files = sorted((ROOT / "benchmarks").glob("*.json"), key=lambda path: path.stem.split("-", 1)[1], reverse=True)
    return "\n".join(line for path in files for line in write_section(path.name, json.loads(path.read_text()))).rstrip()


def write_section(name: str, measured: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of one file: title, date, machine, and its table.

    Raises:
        KeyError: No table is known for this kind of measurement.
    """
    kind = name.partition("-")[0]
    versions = measured["environment"]["packages"]
    packages = ", ".join(f"{package} {versions[package]}" for package in PACKAGES)
    yield from (f"### {TITLES[kind]}: {measured['machine']}, {measured['date']}", "")
    yield from (f"File: `benchmarks/{name}`. Command: `{measured['command']}`. Versions: {packages}.", "")
    yield from (*TABLES[kind](measured), "")


def operators(measured: Mapping[str, Any]) -> Iterator[str]:
    """Yield the table of downsamplers: a row each, a column for each shape. Cells without a measurement are empty."""
    timings = {(timing["name"], tuple(timing["shape"])): timing for timing in measured["timings"]}
    shapes = list(dict.fromkeys(shape for _, shape in timings))
    yield f"| downsampler | {' | '.join('x'.join(map(str, shape[1:])) for shape in shapes)} |"
    yield "|---" * (len(shapes) + 1) + "|"
    for name in dict.fromkeys(name for name, _ in timings):
        yield f"| {name} | {' | '.join(ratios(timings.get((name, shape))) for shape in shapes)} |"


def ratios(timing: Mapping[str, float] | None) -> str:
    """Return the two ratios of a timing; empty where there is none."""
    return f"{timing['forward_ratio']:.2f} / {timing['training_ratio']:.2f}" if timing else ""


def annotations(measured: Mapping[str, Any]) -> Iterator[str]:
    """Yield the table of checking a large dataset."""
    dataset, check, workers = measured["dataset"], measured["check"], measured["4 data loader workers"]
    yield from ("| what | measured |", "|---|---|")
    yield f"| dataset | {dataset['images']:,} images, {dataset['objects']:,} objects |"
    yield f"| annotation file | {dataset['annotation_mb']:.0f} MB |"
    yield f"| checking all annotations, without decoding | {check['seconds']:.1f} s |"
    yield f"| peak memory of the check | {check['peak_gb']:.2f} GB |"
    yield f"| memory with 4 data loader workers, relative to none | {workers['ratio']:.2f} |"


def saving(measured: Mapping[str, Any]) -> Iterator[str]:
    """Yield the table of saving a checkpoint."""
    yield from ("| what | measured |", "|---|---|")
    yield f"| checkpoint | {measured['checkpoint_mb']:.0f} MB |"
    yield f"| time of one save, median | {measured['median_seconds']:.2f} s |"
    yield f"| time of one save, longest | {measured['longest_seconds']:.2f} s |"
    yield f"| of it hashing | {measured['mean_seconds_of']['hash']:.2f} s |"
    yield f"| of it flushing to the disk | {measured['mean_seconds_of']['flush']:.2f} s |"


def training(measured: Mapping[str, Any]) -> Iterator[str]:
    """Yield the tables of training steps beside upstream's trainer."""
    settings, runs, ours = measured["settings"], measured["runs"], measured["runs"]["hwd"]
    yield (
        f"RF-DETR Nano with P4 and P5 at {settings['resolution']} px, global batch {settings['batch']}, "
        f"data loader workers: {settings['workers']}. Medians; runs of each trainer: {len(ours)}, "
        f"of {ours[0]['steps']} steps."
    )
    ratios = {key: text for key, text in RATIOS.items() if key in measured["ratios"]["hwd"]}
    yield from ("", f"| trainer | images/s | step | {' | '.join(ratios.values())} |", "|---" * (len(ratios) + 3) + "|")
    for name, of_kind in runs.items():
        cells = [f"{measured['ratios'].get(name, {}).get(key, 1):.2f}" for key in ratios]
        speed, step = (statistics.median(run[key] for run in of_kind) for key in ("images_per_second", "step_s"))
        yield f"| {name} | {speed:.1f} | {1000 * step:.0f} ms | {' | '.join(cells)} |"
    if "parts_s" not in ours[0]:
        return
    parts = list(ours[0]["parts_s"])
    yield from ("", f"| trainer | {' | '.join(parts)} | loss of the last steps |", "|---" * (len(parts) + 2) + "|")
    for name, of_kind in runs.items():
        cells = [f"{1000 * statistics.median(run['parts_s'][part] for run in of_kind):.0f} ms" for part in parts]
        yield f"| {name} | {' | '.join(cells)} | {statistics.median(run['last_loss'] for run in of_kind):.2f} |"
    yield from ("", "Upstream's backward pass runs within its optimizer step.")


def evaluation(measured: Mapping[str, Any]) -> Iterator[str]:
    """Yield the table of an evaluation beside upstream's `evaluate()`."""
    settings, runs = measured["settings"], measured["runs"]
    yield (
        f"Stock RF-DETR Nano with P4 and P5 at {settings['resolution']} px, {settings['queries']} queries, "
        f"{runs['ours'][0]['images']} images of 640x480, batch {settings['batch']}, {settings['workers']} data loader "
        f"worker, {settings['threads']} thread; medians of {len(runs['ours'])} runs in turns. Above a ratio of 1 "
        "upstream takes longer."
    )
    yield from ("", "| span | ours | upstream | ratio |", "|---" * 4 + "|")
    spans = (
        ("from a model in memory to the metrics", "evaluate_s", "ratio_to_upstream"),
        ("of it the pass: loading, forward passes, decoding, metrics", "pass_s", "pass_ratio_to_upstream"),
    )
    for text, name, ratio in spans:
        seconds = [f"{statistics.median(run[name] for run in runs[kind]):.1f} s" for kind in ("ours", "upstream")]
        yield f"| {text} | {' | '.join(seconds)} | {measured['ratios'][ratio]:.2f} |"


def coverage(measured: Mapping[str, Any]) -> Iterator[str]:
    """Yield the table of how often intervals hold a known difference, and the lines of single runs."""
    rows = measured["coverage"]
    yield (
        f"{measured['experiments']:,} simulated experiments for each number of images, with {measured['resamples']} "
        f"resamples in each; the true difference is {measured['true_difference']:.4f} AP. "
        f"The standard error of a fraction is about {(0.95 * 0.05 / measured['experiments']) ** 0.5:.3f}."
    )
    yield from ("", "| images | seeds | 95 % interval covers | quantiles cover | mean half width |", "|---" * 5 + "|")
    for row in rows:
        seeds = f"{row['seeds']}" if row["seeds"] > 1 else "1 (images only)"
        fractions = f"{row['coverage']:.3f} | {row['quantiles']:.3f} | {row['half_width']:.4f}"
        yield f"| {row['images']} | {seeds} | {fractions} |"
    yield from ("", "| images | two models of one seed each | AP of one run | quantiles of one run |", "|---" * 4 + "|")
    for row in rows:
        if row["seeds"] == 1:
            fractions = f"{row['of_these_models']:.3f} | {row['one_run']:.3f} | {row['one_run_quantiles']:.3f}"
            yield f"| {row['images']} | {fractions} |"


def metrics(measured: Mapping[str, Any]) -> Iterator[str]:
    """Yield the table of COCO metrics, from the first detection to the last metric, beside pycocotools."""
    versions, summary = measured["environment"]["packages"], measured["summary"]
    yield (
        f"{measured['images']:,} images, {measured['objects']:,} objects, {measured['detections']:,} detections, "
        f"{measured['classes']} classes. Largest difference of a metric: {summary['largest_difference']:.0e}."
    )
    yield from (
        "",
        "| library | time | time ratio | CPU time | CPU time ratio | memory | memory ratio |",
        "|---" * 7 + "|",
    )
    rows = (("before", "pycocotools", "a dictionary a box"), ("now", "hotcoco", "arrays"))
    for kind, library, form in rows:
        runs, cells = measured["runs"][kind], [f"{library} {versions[library]}, {form}"]
        seconds = statistics.median(run["update_s"] + run["compute_s"] for run in runs)
        processor, memory = (statistics.median(run[key] for run in runs) for key in ("cpu_s", "gb"))
        texts = (f"{seconds:.1f} s", f"{processor:.1f} s", f"{memory:.2f} GB")
        for text, ratio in zip(texts, ("ratio_to_pycocotools", "cpu_ratio", "memory_ratio"), strict=True):
            cells += [text, f"{summary[ratio]:.3f}" if kind == "now" else "1"]
        yield f"| {' | '.join(cells)} |"


def loader(measured: Mapping[str, Any]) -> Iterator[str]:
    """Yield the table of the data loader beside upstream's, and the parts of a loaded image."""
    settings, summary = measured["settings"], measured["summary"]
    yield (
        f"{settings['images']} JPEGs of 640x480, {settings['mean_jpeg_kb']:.0f} kB each, served at "
        f"{settings['resolution']} px by one process with one thread, with augmentation."
    )
    rows = (
        ("ours", "ours, 8-bit batches", summary["ratio_to_upstream"]),
        ("ours_normalised", "ours, normalised on the CPU", summary["normalised_ratio"]),
        ("upstream", "upstream, normalised on the CPU", 1),
    )
    yield from ("", "| data loader | images/s | ratio to upstream |", "|---" * 3 + "|")
    for kind, name, ratio in rows:
        speed = statistics.median(run["images_per_second"] for run in measured["runs"][kind])
        yield f"| {name} | {speed:.0f} | {ratio:.2f} |"
    parts, total = summary["parts_ms"], sum(summary["parts_ms"].values())
    yield from ("", "| part of a loaded image | time | fraction |", "|---" * 3 + "|")
    for name, milliseconds in sorted(parts.items(), key=lambda part: -part[1]):
        yield f"| {name} | {milliseconds:.2f} ms | {milliseconds / total:.0%} |"
    decoding, resizing, gap = (summary[key] for key in ("decoding_ms", "resizing_ms", "resizing_difference"))
    yield from ("", "| library | decoding | resizing a whole image |", "|---" * 3 + "|")
    for name, milliseconds in decoding.items():
        yield f"| {name} | {milliseconds:.2f} ms | {f'{resizing[name]:.2f} ms' if name in resizing else ''} |"
    yield (
        f"\nResized by torchvision, {gap['fraction']:.0%} of the values differ from Pillow's, by at most "
        f"{gap['largest']} of 255."
    )


RATIOS = {
    "step_ratio": "step ratio",
    "memory_ratio": "memory ratio",
    "first_step_ratio": "first step ratio, with imports",
    "called_step_ratio": "from the call",
}


def comparison(measured: Mapping[str, Any]) -> Iterator[str]:
    """Yield the table of a comparison: a row for each arm, with its verdict on the first metric."""
    result = measured["result"]
    verdicts = {one["arm"]: next(iter(one["metrics"].values())) for one in result["comparisons"]}
    metric = next(iter(next(iter(result["comparisons"]))["metrics"]))
    yield from (f"{measured['about']}.", "")
    yield f"| arm | {metric} by seed | mean | against {result['baseline']} |"
    yield "|---|---|---|---|"
    for name, arm in result["arms"].items():
        values = list(arm["values"][metric].values())
        text = verdicts[name]["text"] if name in verdicts else "-"
        by_seed = ", ".join(f"{value:.4f}" for value in values)
        yield f"| {name} | {by_seed} | {statistics.mean(values):.4f} | {text} |"


def models(measured: Mapping[str, Any]) -> Iterator[str]:
    """Yield the table of artefacts: latency, throughput, cost and AP. Cells without a value are empty."""
    yield from (" ".join(measured["rules"]), "")
    yield "| weights | form | precision | ms, median (p95) | images/s (batch) | end to end | parameters | file | AP |"
    yield "|---" * 9 + "|"
    for row in measured["artefacts"]:
        times = row["latency_ms"], row["end_latency_ms"]
        latency, end = ("{:.1f} ({:.1f})".format(*pair) if pair else "" for pair in times)
        parameters = f"{row['parameters'] / 1e6:.1f} M" if row["parameters"] else ""
        ap = "" if row["ap"] is None else f"{row['ap']:.4f}"
        rate, size = f"{row['images_per_second']:.1f} ({row['batch']})", f"{row['bytes'] / 1e6:.0f} MB"
        cells = (row["weights"], row["form"], row["precision"], latency, rate, end, parameters, size, ap)
        yield f"| {' | '.join(cells)} |"


def step(measured: Mapping[str, Any]) -> Iterator[str]:
    """Yield the table of the parts of a training step."""
    whole = sum(measured["seconds"].values())
    yield (
        f"{measured['images']} images in a step, {measured['micro_batch']} in a forward pass, {measured['workers']} "
        f"data loader workers, {measured['precision']}: {measured['images_per_second']:.1f} images/s. "
        f"What would help most: {measured['advice']}."
    )
    yield from ("", "| part | ms | of the step |", "|---|---|---|")
    for part, seconds in measured["seconds"].items():
        yield f"| {part} | {1e3 * seconds:.1f} | {seconds / whole:.1%} |"


def ranks(measured: Mapping[str, Any]) -> Iterator[str]:
    """Yield the table of several ranks on one machine: gradients averaged during the backward pass and after it."""
    settings, waited = measured["settings"], measured["ddp_waited_s"]
    yield f"RF-DETR Nano at {settings['resolution']} px, {settings['batch']} images a rank; medians of steps in turns."
    if waited is not None:
        yield (
            f"A rank of DistributedDataParallel waited {waited:.0f} s for one whose backward pass had failed, with a "
            f"time limit of {measured['ddp_time_limit_s']} s."
        )
    yield from ("", "| ranks | step, during | step, after | ratio | small message |", "|---" * 5 + "|")
    for number, row in measured["ranks"].items():
        during, after = (f"{1e3 * row[name]:.0f} ms" for name in ("step_s_during", "step_s_after"))
        yield f"| {number} | {during} | {after} | {row['ratio']:.2f} | {row['small_message_ms']:.2f} ms |"


def audit(measured: Mapping[str, Any]) -> Iterator[str]:
    """Yield the table of suggested label errors: how many of each kind were looked at, and are label errors."""
    judged = [(one["kind"], one["judgement"]) for one in measured["first"]]
    yield from (f"{measured['about']}.", "")
    yield from ("| kind | suggestions | looked at | label errors | none | cannot be told |", "|---" * 6 + "|")
    for kind, number in measured["suggestions"].items():
        of_kind = [judgement for other, judgement in judged if other == kind]
        counts = [of_kind.count(judgement) for judgement in ("error", "none", "unclear")]
        yield f"| {kind} | {number} | {len(of_kind)} | {' | '.join(map(str, counts))} |"


TABLES = {
    "audit": audit,
    "model": models,
    "step": step,
    "ranks": ranks,
    "comparison": comparison,
    "op": operators,
    "data": annotations,
    "save": saving,
    "training": training,
    "evaluation": evaluation,
    "coverage": coverage,
    "metrics": metrics,
    "loader": loader,
}
TITLES = {
    "audit": "Label errors of BCCD",
    "model": "Latency and throughput",
    "step": "Parts of a training step",
    "ranks": "Averaging gradients during the backward pass, and after it",
    "comparison": "Wavelet downsampling and its controls",
    "training": "Training steps beside upstream's trainer",
    "evaluation": "Evaluation beside upstream's `evaluate()`",
    "op": "Downsamplers",
    "metrics": "COCO metrics",
    "loader": "Loading images beside upstream's data loader",
    "data": "Annotations of COCO's size",
    "coverage": "Coverage of comparison intervals",
    "save": "Saving a checkpoint of RF-DETR Nano",
}


if __name__ == "__main__":
    update(PAGE, NAME, write_tables())
