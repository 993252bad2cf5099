"""Images are read one after the other, from disk and from a server; what cannot be read is named and skipped."""

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import PIL.Image
import pytest

from rfdetr_hwd.data.images import USUAL
from rfdetr_hwd.errors import UserError
from rfdetr_hwd.prediction import frames
from rfdetr_hwd.prediction.frame import Frame
from rfdetr_hwd.prediction.frames import in_batches, read_frames
from rfdetr_hwd.prediction.sources import Source, find_sources


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """The URL of a server of this machine, whose root is the directory `served`."""
    (tmp_path / "served").mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path / "served"))) as running:
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def test_images_of_urls_are_read_and_errors_name_them(tmp_path: Path, server: str) -> None:
    PIL.Image.new("RGB", (3, 2), "red").save(tmp_path / "served" / "red.png")
    (tmp_path / "served" / "page.png").write_text("<html>")
    PIL.Image.new("RGB", (5, 4), "blue").save(tmp_path / "blue.png")
    names = ["red.png?key=secret", "page.png", "gone.png?key=secret"]
    sources = find_sources([f"{server}/{name}" for name in names] + [str(tmp_path / "blue.png")], tmp_path / "out")
    errors: list[tuple[Source, UserError]] = []
    read = list(read_frames(sources, USUAL, lambda *skipped: errors.append(skipped)))
    assert [(frame.source.name, frame.image.size) for frame in read] == [
        (f"{server}/red.png", (3, 2)),
        (str(tmp_path / "blue.png"), (5, 4)),
    ]
    assert read[0].image.getpixel((0, 0)) == (255, 0, 0)
    assert str(errors[0][1]).startswith(f"cannot decode {server}/page.png: it is not an image")
    assert str(errors[1][1]) == f"cannot download {server}/gone.png: the server answers 404"
    assert "secret" not in str([error for _, error in errors])
    assert [source for source, _ in errors] == sources[1:3]


def still(width: int, height: int) -> Frame:
    return Frame(Source("a", "a", Path("a"), "image"), PIL.Image.new("RGB", (width, height)))


def test_a_batch_has_few_images_and_few_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "_BATCH_PIXELS", 100)
    small, large = still(1, 1), still(20, 20)
    sizes = [len(batch) for batch in in_batches([small] * 9 + [large, small, large, small])]
    assert sizes == [8, 2, 2, 1]
