"""Bad input gets one clear message, an exit status that is not zero, no traceback, and nothing is lost."""

import json
import shutil
from pathlib import Path

import pytest

from rfdetr_hwd.checkpoint.read import newest_checkpoint
from rfdetr_hwd.checkpoint.run_folder import RunFolder
from tests.integration.conftest import Run


def refused(result: object, status: int, *parts: str) -> None:
    assert result.returncode == status, (result.stdout, result.stderr)
    assert "Traceback" not in result.stderr + result.stdout
    messages = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(messages) == 1, result.stderr
    for part in parts:
        assert part in result.stderr


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.mark.parametrize(
    ("arguments", "status", "parts"),
    [
        (["--config", "nowhere.yaml"], 2, ["nowhere.yaml", "No such file"]),
        (["--config", "{config}", "train.epocs=3"], 2, ["train.epocs", "train.epochs"]),
        (["--config", "{config}", "downsample.name=hdw", "data.root=nowhere"], 2, ["'hdw'. Did you mean hwd?"]),
        (["--config", "{config}", "downsample.options={{wavelt: db2}}", "data.root=nowhere"], 2, ["wavelt", "backend"]),
        (
            [
                "--config",
                "{config}",
                "downsample.name=dwt",
                "downsample.options={{wavelet: db99}}",
                "data.root=nowhere",
            ],
            *(2, ["dwt: 'db99' is not a discrete wavelet"]),
        ),
        (["--config", "{config}", "model.levels=[P4]"], 2, ["would replace nothing", "model.levels=[P4,P5]"]),
        (["--config", "{config}", "data.root=nowhere"], 1, ["no directory nowhere"]),
        (["--config", "{config}", "data.val=nowhere"], 1, ["has no split 'nowhere'", "Name it with data.val"]),
        (["--config", "{config}", "model.pretrain_weights=nowhere.pth"], 2, ["nowhere.pth"]),
        (["--config", "{config}", "output.dir=/proc/nowhere"], 2, ["output.dir", "/proc/nowhere"]),
        ([], 2, ["--config FILE", "--resume RUN_DIR"]),
        (["--resume", "nowhere"], 2, ["nowhere is not a run directory"]),
    ],
)
def test_train_refuses(
    cli: Run, config_file: Path, tmp_path: Path, arguments: list[str], status: int, parts: list[str]
) -> None:
    filled = [argument.format(config=config_file) for argument in arguments]
    if "--config" in filled and "output.dir" not in "".join(filled):
        filled.append(f"output.dir={tmp_path / 'run'}")
    refused(cli("train", *filled), status, *parts)
    assert not (tmp_path / "run").exists()


def test_a_second_run_does_not_overwrite_the_first(cli: Run, config_file: Path, trained: Path) -> None:
    before = files(trained)
    refused(cli("train", "--config", config_file, f"output.dir={trained}"), 2, "holds a run already", "--resume")
    assert files(trained) == before


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "not valid JSON"), ('{"images": [], "annotations": [], "categories": []}', "lists no images")],
)
def test_broken_annotations_are_named(
    cli: Run, config_file: Path, shapes_root: Path, tmp_path: Path, content: str, message: str
) -> None:
    root = tmp_path / "data"
    shutil.copytree(shapes_root, root)
    (root / "train" / "_annotations.coco.json").write_text(content)
    result = cli("train", "--config", config_file, f"data.root={root}", f"output.dir={tmp_path / 'run'}")
    refused(result, 1, "train/_annotations.coco.json", message)


LACKS = {
    "empty": (lambda box: None, "it has no box"),
    "crowds": (lambda box: {**box, "iscrowd": 1}, "are crowd regions (iscrowd), 0 have no area"),
    "no area": (lambda box: {**box, "bbox": [*box["bbox"][:2], 0, 0]}, "0 are crowd regions"),
}


def without_objects(shapes_root: Path, root: Path, split: str, lack: str) -> str:
    """Copy the dataset, leave a split no object, and return the reason that is to be given."""
    shutil.copytree(shapes_root, root)
    path = root / split / "_annotations.coco.json"
    content = json.loads(path.read_text())
    change, reason = LACKS[lack]
    content["annotations"] = [box for box in map(change, content["annotations"]) if box]
    path.write_text(json.dumps(content))
    return reason


@pytest.mark.parametrize("lack", LACKS)
@pytest.mark.parametrize(
    ("split", "advice"),
    [
        ("train", "nothing to learn. Correct the annotations, or name another split with data.train [no_boxes]"),
        ("valid", "split with data.val, or hold out training images with `rfdetr-hwd data split` [no_boxes]"),
    ],
)
def test_a_split_without_an_object_is_refused(
    cli: Run, config_file: Path, shapes_root: Path, tmp_path: Path, split: str, advice: str, lack: str
) -> None:
    root, run = tmp_path / "data", tmp_path / "run"
    reason = without_objects(shapes_root, root, split, lack)
    train = ["train", "--config", config_file, f"data.root={root}", f"output.dir={run}"]
    for command in (train, [*train, "data.allow=[empty_box]"] if lack == "no area" else train):
        refused(cli(*command), 1, f"{split}/_annotations.coco.json: {split}: ", reason, advice)
    assert not run.exists()
    refused(cli("data", "check", root, "--no-decode"), 1, "1 errors of 1 kinds (no_boxes)")


def test_a_batch_that_would_never_be_whole_is_refused(cli: Run, config_file: Path, tmp_path: Path) -> None:
    wanted = ["train.batch_size=25", "train.last_batch=drop", f"output.dir={tmp_path / 'run'}"]
    result = cli("train", "--config", config_file, *wanted)
    refused(result, 2, "nothing to train on: train has 24 images, fewer than train.batch_size=25", "last_batch=fill")


@pytest.mark.parametrize("lack", LACKS)
def test_an_evaluation_without_an_object_is_refused(
    cli: Run, trained: Path, shapes_root: Path, tmp_path: Path, lack: str
) -> None:
    root = tmp_path / "data"
    reason = without_objects(shapes_root, root, "test", lack)
    evaluate = ["evaluate", "--weights", trained, f"data.root={root}", "--out", tmp_path / "out"]
    refused(cli(*evaluate, "--split", "test"), 1, "nothing to evaluate on in the split test", reason, "data.test")
    assert not (tmp_path / "out").exists()


def test_an_evaluation_of_other_classes_alone_is_refused(
    cli: Run, trained: Path, shapes_root: Path, tmp_path: Path
) -> None:
    root = tmp_path / "data"
    shutil.copytree(shapes_root, root)
    path = root / "valid" / "_annotations.coco.json"
    content = json.loads(path.read_text())
    content["categories"].append({"id": 9, "name": "comet"})
    content["annotations"] = [{**box, "category_id": 9} for box in content["annotations"]]
    path.write_text(json.dumps(content))
    result = cli("evaluate", "--weights", trained, f"data.root={root}", "--out", tmp_path / "out")
    refused(result, 1, "none of its objects is of a class that the model has")


@pytest.mark.parametrize(
    ("override", "part"),
    [
        ("train.lr=5", "train.lr (was 0.001, is 5.0) cannot be changed"),
        ("model.num_queries=5", "model.num_queries (was 10, is 5) cannot"),
        ("train.epoch=1", "train.epoch: unknown key"),
    ],
)
def test_a_resumed_run_stays_the_same_run(cli: Run, trained: Path, override: str, part: str) -> None:
    before = files(trained)
    refused(cli("train", "--resume", trained, override), 2, part, "train.epochs")
    assert files(trained) == before


def test_a_resumed_run_stays_on_its_data(cli: Run, trained: Path, shapes_root: Path, tmp_path: Path) -> None:
    root, run = tmp_path / "data", tmp_path / "run"
    shutil.copytree(shapes_root, root)
    shutil.copytree(trained, run, symlinks=True)
    path = root / "train" / "_annotations.coco.json"
    annotations = json.loads(path.read_text())
    boxes = len(annotations["annotations"])
    path.write_text(json.dumps({**annotations, "annotations": annotations["annotations"][:-1]}))
    result = cli("train", "--resume", run, f"data.root={root}")
    was, now = (f"{which} {{'images': 24, 'boxes': {count}," for which, count in (("was", boxes), ("is", boxes - 1)))
    refused(result, 1, "the training annotations differ from those of", was, now)


def test_two_processes_do_not_train_in_one_folder(cli: Run, trained: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run, symlinks=True)
    with RunFolder(run).lock():
        refused(cli("train", "--resume", run), 2, "is in use")


@pytest.mark.slow
def test_a_run_without_a_checkpoint_starts_anew(cli: Run, trained: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run, symlinks=True)
    shutil.rmtree(run / "checkpoints")
    (run / "best").unlink()
    assert cli("train", "--resume", run).returncode == 0
    assert (run / "metrics.jsonl").read_text() == (trained / "metrics.jsonl").read_text()


def test_a_model_stays_what_it_was_trained_as(cli: Run, trained: Path) -> None:
    refused(
        cli("evaluate", "--weights", trained, "model.resolution=128"),
        2,
        "model.resolution (was 64, is 128) cannot be changed",
    )


def test_an_output_path_that_is_a_file_is_refused_at_once(cli: Run, trained: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    refused(cli("evaluate", "--weights", trained, "--out", tmp_path / "file"), 2, "--out: cannot write")
    refused(cli("predict", trained, "--weights", trained, "--out", tmp_path / "file"), 2)


def test_an_unreadable_image_does_not_end_a_run(cli: Run, config_file: Path, shapes_root: Path, tmp_path: Path) -> None:
    root, run = tmp_path / "data", tmp_path / "run"
    shutil.copytree(shapes_root, root)
    image = root / "train" / "train_00003.jpg"
    image.write_bytes(image.read_bytes()[:900])
    short = ["--config", config_file, f"data.root={root}", f"output.dir={run}", "train.epochs=1", "train.batch_size=12"]
    refused(cli("train", *short, "data.on_bad_image=fail"), 1, "cannot decode", "train_00003.jpg")
    result = cli("train", *short)
    assert result.returncode == 0, result.stderr
    (entry,) = [json.loads(line) for line in (run / "quarantine.jsonl").read_text().splitlines()]
    assert (entry["image_id"], entry["path"]) == (3, str(image))
    assert "truncated" in entry["reason"]
    other = root / "train" / "train_00004.jpg"
    other.write_bytes(b"")
    refused(cli("train", *short[:-1], f"output.dir={run}2"), 1, "2 of 24 images cannot be read, more than 5%")
    assert not Path(f"{run}2").exists()


def test_training_stops_on_errors_in_the_annotations_until_they_are_accepted(
    cli: Run, config_file: Path, shapes_root: Path, tmp_path: Path
) -> None:
    root = tmp_path / "data"
    shutil.copytree(shapes_root, root)
    path = root / "train" / "_annotations.coco.json"
    content = json.loads(path.read_text())
    content["annotations"][0]["bbox"] = [1, 2, -3, 4]
    content["annotations"][1]["category_id"] = 99
    path.write_text(json.dumps(content))
    train = ["train", "--config", config_file, f"data.root={root}", f"output.dir={tmp_path / 'run'}"]
    message = "data.allow=[unknown_category,negative_box]"
    refused(cli(*train), 1, "annotation 0: the box [1, 2, -3, 4]", "annotation 1: has the category 99", message)
    refused(cli("data", "check", root), 1, "2 errors of 2 kinds (unknown_category, negative_box)")
    assert not (tmp_path / "run").exists()
    refused(cli(*train, "data.allow=[negative_box]"), 1, "annotation 1", "data.allow=[unknown_category]")
    result = cli(*train, message, "train.epochs=1", "train.batch_size=24")
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("verb", ["evaluate", "predict"])
def test_a_checkpoint_of_something_else_is_refused(cli: Run, shapes_root: Path, tmp_path: Path, verb: str) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps({"format": 1}))
    (tmp_path / "x.pth").write_bytes(b"x")
    source = [shapes_root / "test"] if verb == "predict" else []
    for weights, part in (
        (tmp_path, "corrupt"),
        (tmp_path / "x.pth", "not a directory"),
        (shapes_root, "not a checkpoint"),
    ):
        refused(cli(verb, *source, "--weights", weights), 1, str(weights), part)


def test_a_damaged_checkpoint_named_by_path_is_refused(cli: Run, trained: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run, symlinks=True)
    weights = run / "checkpoints" / "step-00000012" / "ema.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    refused(cli("evaluate", "--weights", weights.parent), 1, "ema.safetensors", "corrupt")
    (run / "checkpoints" / "corrupt-step-00000012" / "earlier").mkdir(parents=True)  # it is not the first time
    result = cli("train", "--resume", run)
    assert result.returncode == 0, result.stderr
    assert (run / "checkpoints" / "corrupt-step-00000012" / "earlier").is_dir()
    assert (run / "checkpoints" / "corrupt-step-00000012-1" / "manifest.json").is_file()
    assert newest_checkpoint(run / "checkpoints")[0].step == 12


def test_classes_are_mapped_by_name(cli: Run, trained: Path, shapes_root: Path, tmp_path: Path) -> None:
    root = tmp_path / "data"
    shutil.copytree(shapes_root, root)
    path = root / "valid" / "_annotations.coco.json"
    content = json.loads(path.read_text())
    ids = {1: 90, 2: 17, 3: 44, 4: 3}  # other ids, and another order
    for category in content["categories"]:
        category["id"] = ids.get(category["id"], 0)
    for annotation in content["annotations"]:
        annotation["category_id"] = ids[annotation["category_id"]]
    path.write_text(json.dumps(content))
    out = [tmp_path / "before", tmp_path / "after"]
    assert cli("evaluate", "--weights", trained, "--out", out[0]).returncode == 0
    assert cli("evaluate", "--weights", trained, "--out", out[1], f"data.root={root}").returncode == 0
    metrics = [json.loads((folder / "metrics.json").read_text())["metrics"] for folder in out]
    assert metrics[0] == pytest.approx(metrics[1], abs=1e-12)  # means over the classes in another order
    found = [json.loads((folder / "predictions.json").read_text()) for folder in out]
    assert [ids[detection["category_id"]] for detection in found[0]] == [d["category_id"] for d in found[1]]
    path.write_text(path.read_text().replace('"star"', '"comet"'))
    result = cli("evaluate", "--weights", trained, f"data.root={root}", "--out", out[1])
    assert result.returncode == 0, result.stderr
    assert "classes only in the model, not evaluated: star" in result.stdout
    assert "classes only in the dataset, with an AP of 0 in the mean: comet" in result.stdout
    for name in ("circle", "square", "triangle"):
        path.write_text(path.read_text().replace(f'"{name}"', f'"{name}s"'))
    refused(cli("evaluate", "--weights", trained, f"data.root={root}"), 1, "no class", "'star'", "'comet'")


def test_an_evaluation_says_what_it_could_not_read(cli: Run, trained: Path, shapes_root: Path, tmp_path: Path) -> None:
    root, out = tmp_path / "data", tmp_path / "out"
    shutil.copytree(shapes_root, root)
    shutil.rmtree(root / "valid")
    shutil.copytree(root / "train", root / "valid")  # of 24 images, so that one is less than 5 %
    evaluate = ["evaluate", "--weights", trained, f"data.root={root}", "--out", out]
    (root / "valid" / "train_00003.jpg").write_bytes(b"")
    refused(cli(*evaluate, "data.on_bad_image=fail"), 1, "image 3 of valid")
    result = cli(*evaluate)
    assert result.returncode == 0, result.stderr
    assert "unreadable images, whose objects count as missed: 1" in result.stdout
    assert json.loads((out / "metrics.json").read_text())["protocol"]["images_unreadable"] == [3]
    assert {d["image_id"] for d in json.loads((out / "predictions.json").read_text())} == set(range(24)) - {3}
    (root / "valid" / "train_00004.jpg").write_bytes(b"")
    refused(cli(*evaluate), 1, "2 of 24 images cannot be read, more than 5%")


@pytest.mark.slow
def test_a_letterboxed_model_is_measured_as_it_was_trained(
    cli: Run, config_file: Path, shapes_root: Path, tmp_path: Path
) -> None:
    run, out = tmp_path / "run", tmp_path / "out"
    options = [f"output.dir={run}", "model.num_queries=100"]  # of so many boxes, some lie on an object
    result = cli("train", "--config", config_file, *options, "model.resize=letterbox")
    assert result.returncode == 0, result.stderr
    other = ["--config", config_file, *options]  # which says nothing of a letterbox
    assert cli("evaluate", "--weights", run, "--out", out, *other).returncode == 0
    measured = json.loads((out / "metrics.json").read_text())
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    name = f"{measured['protocol']['weights']}/AR_100"
    (trained,) = [r[name] for r in records if r["step"] == measured["protocol"]["step"] and name in r]
    assert measured["metrics"]["AR_100"] == trained > 0
    assert measured["protocol"]["preprocessing"] == "letterbox into a square, bilinear, antialiased"
    assert "letterboxed" in cli("export", "--weights", run, "--out", tmp_path / "x.pth").stdout
    refused(
        cli("evaluate", "--weights", run, "model.resize=stretch"),
        2,
        'model.resize (was "letterbox", is "stretch") cannot be changed',
    )


def test_predict_names_what_it_cannot_use(cli: Run, trained: Path, tmp_path: Path) -> None:
    refused(cli("predict", tmp_path / "no.jpg", "--weights", trained), 2, "no image or directory")
    refused(cli("predict", tmp_path, "--weights", trained), 2, "contains no images")
    for threshold in ("7", "nan", "high"):
        wrong = cli("predict", tmp_path, "--weights", trained, "--threshold", threshold)
        refused(wrong, 2, f"--threshold {threshold}: give a number between 0 and 1, or per-class")
    (tmp_path / "a.jpg").write_bytes(b"broken")
    refused(cli("predict", tmp_path, "--weights", trained, "--out", tmp_path / "out"), 1, "can be decoded")


def test_usage_errors_exit_2(command: Run) -> None:
    assert command("trian").returncode == 2
    assert command("evaluate").returncode == 2
    assert command("train", "--help").returncode == 0
    assert command("--version").stdout.startswith("rfdetr-hwd ")
    assert command("doctor").returncode == 0
