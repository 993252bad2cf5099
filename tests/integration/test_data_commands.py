"""The data commands on whole datasets: what they print, what they write, how they end."""

import json
import os
import shutil
import zipfile
from pathlib import Path

from tests.integration.conftest import Run
from tests.integration.test_bad_input import refused


def test_check_prints_a_table_writes_json_and_exits_1_on_errors(cli: Run, shapes_root: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(shapes_root, tmp_path / "data"))
    report = tmp_path / "report.json"
    sound = cli("data", "check", root, "--json", report)
    assert sound.returncode == 0, sound.stderr
    assert "train: 24 images" in sound.stdout
    assert sound.stdout.endswith("no errors\n")
    (root / "train" / "train_00003.jpg").write_bytes(b"")
    refused(cli("data", "check", root, "--json", report), 1, "1 errors of 1 kinds (unreadable_image)")
    (entry,) = [entry for entry in json.loads(report.read_text())["findings"] if entry["level"] == "error"]
    assert entry["examples"][0]["where"].endswith("train_00003.jpg")
    assert cli("data", "check", root, "--allow", "unreadable_image").returncode == 0
    assert cli("data", "check", root, "--no-decode").returncode == 0
    refused(cli("data", "check", root, "--allow", "nonsense"), 2, "'nonsense' is no kind of finding")
    refused(cli("data", "check", tmp_path / "none"), 1, "there is no directory")
    refused(cli("data", "check", root, "--json", "/proc/none"), 2, "--json: cannot write")


def test_the_demo_overwrites_nothing(cli: Run, tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    refused(cli("data", "demo", "--out", tmp_path), 2, "is not empty: choose a new directory")
    assert [path.name for path in tmp_path.iterdir()] == ["train"]


def test_check_lists_all_findings_of_a_split_that_cannot_be_used(cli: Run, shapes_root: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(shapes_root, tmp_path / "data"))
    path = root / "train" / "_annotations.coco.json"
    content = json.loads(path.read_text())
    content["categories"] = [{"id": category["id"]} for category in content["categories"]]
    path.write_text(json.dumps(content))
    report = tmp_path / "report.json"
    refused(cli("data", "check", root, "--json", report, "--no-decode"), 1, "unreadable_split, bad_category")
    found = {entry["kind"]: entry for entry in json.loads(report.read_text())["findings"]}
    assert [example["who"] for example in found["bad_category"]["examples"]] == [f"category {i}" for i in range(5)]


def test_a_pipe_is_no_image(cli: Run, shapes_root: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(shapes_root, tmp_path / "data"))
    (root / "train" / "train_00003.jpg").unlink()
    os.mkfifo(root / "train" / "train_00003.jpg")
    refused(cli("data", "check", root), 1, "1 errors of 1 kinds (missing_file)")


def test_check_of_splits_with_other_names(cli: Run, shapes_root: Path, tmp_path: Path) -> None:
    shutil.copytree(shapes_root / "train", tmp_path / "fold 1")
    shutil.copytree(shapes_root / "valid", tmp_path / "fold 2")
    refused(
        cli("data", "check", tmp_path),
        1,
        "has no split that is recognised as train, val or test",
        "fold 1/_annotations.coco.json",
    )
    result = cli("data", "check", tmp_path, "--train", "fold 1", "--no-decode")
    assert result.returncode == 0, result.stderr
    assert "fold 1: 24 images" in result.stdout
    assert "note: not used: fold 2/_annotations.coco.json" in result.stdout
    assert "note: there is no val split, which `train` needs" in result.stdout
    refused(cli("data", "check", tmp_path, "--val", "fold 3"), 1, "--val", "no split 'fold 3'")
    refused(cli("data", "check", tmp_path, "--val", "{a: b}"), 2, "--val", "annotations: FILE")
    apart = "{annotations: fold 2/_annotations.coco.json, images: fold 2}"
    written = tmp_path.with_name(f"{tmp_path.name}-written")
    result = cli(
        "data", "convert", tmp_path, "--train", "fold 1", "--val", apart, "--to", "yolo", "--out", written / "y"
    )
    assert result.returncode == 0, result.stderr
    assert [len(list((written / "y" / name / "images").iterdir())) for name in ("train", "valid")] == [24, 8]
    out = written / "parts"
    result = cli("data", "split", tmp_path, "--train", "fold 1", "--format", "roboflow", "--out", out)
    assert result.returncode == 0, result.stderr
    result = cli("data", "show", tmp_path, "--split", "val", "--val", apart, "--count", 2, "--out", tmp_path / "show")
    assert result.returncode == 0, result.stderr
    assert f"data: {tmp_path / 'fold 2'}, 8 images" in result.stdout


def test_names_from_files_do_not_command_the_terminal(command: Run, shapes_root: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(shapes_root, tmp_path / "data"))
    path = root / "train" / "_annotations.coco.json"
    path.write_text(path.read_text().replace('"star"', '"\\u001b[31mstar\\u0007"'))
    shutil.copy(root / "train" / "train_00001.jpg", os.fsencode(root) + b"/train/\xff\x1b.jpg")
    result = command("data", "check", root, PYTHONIOENCODING="utf-8:strict")
    assert "Traceback" not in result.stderr
    assert "\\x1b[31mstar" in result.stdout
    assert "\x1b" not in result.stdout + result.stderr
    assert "unlisted_image" in result.stdout


def test_show_writes_a_page_and_pictures(cli: Run, shapes_root: Path, tmp_path: Path) -> None:
    out = tmp_path / "show"
    result = cli("data", "show", shapes_root, "--out", out, "--count", 4)
    assert result.returncode == 0, result.stderr
    assert "circle" in (out / "index.html").read_text()
    assert len(list(out.glob("*.png"))) > 5
    refused(cli("data", "show", shapes_root, "--out", out), 2, str(out))


def test_a_converted_dataset_trains_as_the_original(
    cli: Run, config_file: Path, shapes_root: Path, tmp_path: Path
) -> None:
    yolo = tmp_path / "yolo"
    result = cli("data", "convert", shapes_root, "--to", "yolo", "--out", yolo)
    assert result.returncode == 0, result.stderr
    assert cli("data", "check", yolo).returncode == 0
    losses = []
    for name, root in (("coco", shapes_root), ("yolo", yolo)):
        run = tmp_path / name
        short = ["train.epochs=1", "train.batch_size=24", "train.micro_batch=12", "data.augment.crop=0"]
        still = ["data.augment.flip=0", "train.multi_scale=false"]
        train = ["train", "--config", config_file, f"data.root={root}", f"output.dir={run}", *short, *still]
        assert cli(*train).returncode == 0
        losses.append(json.loads((run / "metrics.jsonl").read_text().splitlines()[0])["loss"])
    assert abs(losses[0] - losses[1]) < 1e-4 * losses[0]
    unknown = cli("data", "convert", shapes_root, "--to", "voc", "--out", tmp_path / "x")
    assert unknown.returncode == 2
    assert "'voc' is not one of 'coco', 'yolo'" in unknown.stderr


def test_split_and_download_write_datasets_that_check(cli: Run, shapes_root: Path, tmp_path: Path) -> None:
    single = tmp_path / "single"
    shutil.copytree(shapes_root / "train", single / "train")
    result = cli("data", "split", single, "--out", tmp_path / "parts", "--fractions", "0.5,0.25,0.25")
    assert result.returncode == 0, result.stderr
    assert cli("data", "check", tmp_path / "parts").returncode == 0
    counts = [
        len(json.loads((tmp_path / "parts" / name / "_annotations.coco.json").read_text())["images"])
        for name in ("train", "valid", "test")
    ]
    assert sum(counts) == 24
    assert counts[0] > counts[1] > 0
    archive = tmp_path / "data.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in shapes_root.rglob("*"):
            file.write(path, path.relative_to(shapes_root))
    result = cli("data", "download", archive.as_uri(), "--out", tmp_path / "fetched")
    assert result.returncode == 0, result.stderr
    assert "roboflow, splits train, valid, test" in result.stdout
    assert cli("data", "check", tmp_path / "fetched").returncode == 0
    refused(cli("data", "download", archive.as_uri(), "--sha256", "0" * 64, "--out", tmp_path / "no"), 1, "sha256")
    refused(cli("data", "download", "a/b/1", "--out", tmp_path / "no"), 1, "ROBOFLOW_API_KEY")
    assert not (tmp_path / "no").exists()
