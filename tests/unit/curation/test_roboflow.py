"""Download from Roboflow with a stand-in for its package: the key stays secret, the export is unpacked by us."""

import io
import sys
import types
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rfdetr_hwd.curation import fetch as fetching
from rfdetr_hwd.curation.roboflow import download
from rfdetr_hwd.data.findings import DatasetError

KEY = "s3cret/key+1"
LINK = "https://storage.example/export.zip?sig=hidden"


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[..., Any]], None]:
    """Put a package `roboflow` into place whose only function is given, and a key into the environment."""
    monkeypatch.setenv("ROBOFLOW_API_KEY", KEY)
    monkeypatch.setattr("time.sleep", lambda seconds: None)

    def put(get_version_export: Callable[..., Any]) -> None:
        api = types.ModuleType("roboflow.adapters.rfapi")
        api.get_version_export = get_version_export  # type: ignore[attr-defined]
        for name, module in {
            "roboflow": types.ModuleType("roboflow"),
            "roboflow.adapters": types.ModuleType("a"),
        }.items():
            monkeypatch.setitem(sys.modules, name, module)
        monkeypatch.setitem(sys.modules, "roboflow.adapters.rfapi", api)

    return put


def serve_zip(monkeypatch: pytest.MonkeyPatch, fetched: list[str]) -> None:
    def fetch(url: str, target: Path, sha256: str | None, max_bytes: int) -> str:
        fetched.append(url)
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as contents:
            contents.writestr("train/_annotations.coco.json", "{}")
        target.write_bytes(buffer.getvalue())
        return ""

    monkeypatch.setattr(fetching, "fetch", fetch)


def test_the_export_is_awaited_fetched_and_unpacked(
    install: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked, fetched = [], []
    answers = [{"ready": False, "progress": 0.5}, {"ready": False, "progress": 0.9}, {"export": {"link": LINK}}]

    def get_version_export(api_key: str, workspace_url: str, project_url: str, version: str, format: str) -> Any:
        asked.append((api_key, workspace_url, project_url, version, format))
        return answers[len(asked) - 1]

    install(get_version_export)
    serve_zip(monkeypatch, fetched)
    assert download("my-team", "cells_2", "3", tmp_path / "out") == (1, 2)
    assert asked == [(KEY, "my-team", "cells_2", "3", "coco")] * 3
    assert fetched == [LINK]
    assert [p.name for p in tmp_path.rglob("*")] == ["out", "train", "_annotations.coco.json"]


def test_without_a_key_or_a_package_it_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("ROBOFLOW_API_KEY", raising=False)
    with pytest.raises(DatasetError, match="ROBOFLOW_API_KEY is not set"):
        download("a", "b", "1", tmp_path / "out")
    monkeypatch.setenv("ROBOFLOW_API_KEY", KEY)
    for name in ("roboflow", "roboflow.adapters", "roboflow.adapters.rfapi"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(DatasetError, match=r"package roboflow is missing: pip install 'rfdetr-hwd\[roboflow\]'"):
        download("a", "b", "1", tmp_path / "out")


def test_an_older_package_is_named(install: Callable[..., None], tmp_path: Path) -> None:
    install(lambda *_: None)
    del sys.modules["roboflow.adapters.rfapi"].get_version_export
    with pytest.raises(DatasetError, match="not supported: pip install 'roboflow>="):
        download("a", "b", "1", tmp_path / "out")


@pytest.mark.parametrize(
    "text",
    [
        f"404 for url: https://api.roboflow.com/a/b/1/coco?api_key={KEY}&nocache=true",
        "404 for url: https://api.roboflow.com/a/b/1/coco?api_key=s3cret%2Fkey%2B1&nocache=true",
        f"unauthorised {KEY}",
        "api_key=s3cret",
    ],
)
def test_the_key_is_in_no_message(install: Callable[..., None], tmp_path: Path, text: str) -> None:
    def fail(*_: str) -> None:
        raise ConnectionError(text)

    install(fail)
    with pytest.raises(DatasetError, match="cannot download a/b/1 from Roboflow: .*[*]{3}") as caught:
        download("a", "b", "1", tmp_path / "out")
    assert "s3cret" not in str(caught.value)
    assert caught.value.__suppress_context__
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "answer", [None, {}, {"export": {}}, {"export": {"link": 3}}, {"export": {"link": "file:///x"}}]
)
def test_an_answer_without_a_link_is_refused(install: Callable[..., None], tmp_path: Path, answer: Any) -> None:
    install(lambda *_: answer)
    with pytest.raises(DatasetError, match="Roboflow"):
        download("a", "b", "1", tmp_path / "out")


def test_an_endless_export_is_given_up(
    install: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    clock = iter(range(0, 10_000, 100))
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    install(lambda *_: {"ready": False, "progress": 0.1})
    with pytest.raises(DatasetError, match="not finished the export within 30 minutes"):
        download("a", "b", "1", tmp_path / "out")


@pytest.mark.parametrize("names", [("a/..", "b", "1"), ("a", "b?x=1", "1"), ("a", "b", "latest"), ("", "b", "1")])
def test_names_that_change_the_address_are_refused(
    install: Callable[..., None], tmp_path: Path, names: tuple[str, str, str]
) -> None:
    install(lambda *_: pytest.fail("it was asked"))
    with pytest.raises(DatasetError, match="WORKSPACE/PROJECT/VERSION"):
        download(*names, tmp_path / "out")
