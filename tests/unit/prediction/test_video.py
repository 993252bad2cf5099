"""A video is read frame by frame, and written with as many at the same times; one that breaks keeps what was done."""

import json
import sys
from collections.abc import Iterator
from fractions import Fraction
from functools import partial
from http.server import ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import supervision as sv

from rfdetr_hwd.data.images import USUAL
from rfdetr_hwd.errors import UserError
from rfdetr_hwd.prediction import video as video_module
from rfdetr_hwd.prediction.frame import Frame
from rfdetr_hwd.prediction.frames import count_all, read_frames
from rfdetr_hwd.prediction.outputs import Outputs
from rfdetr_hwd.prediction.sources import Source, find_sources
from rfdetr_hwd.prediction.video import VideoError, count_frames, read_video
from rfdetr_hwd.prediction.video_writer import VideoWriter
from tests.unit.prediction.frames import CAT, CLASS_NAMES, found
from tests.unit.prediction.test_outputs import file_limit, files
from tests.unit.prediction.videos import read_number, read_times, write_video


def source(path: Path) -> Source:
    (one,) = find_sources([str(path)], path.parent / "out")
    return one


def numbers(frames: Iterator[Frame]) -> list[int]:
    return [read_number(np.asarray(frame.image)) for frame in frames]


def predict(path: Path, *formats: str) -> tuple[Outputs, Path]:
    """Write what a detector that finds nothing would: the frames as they are."""
    out = path.parent / "out"
    outputs = Outputs(out, CLASS_NAMES, formats)
    with outputs:
        for frame in read_frames([source(path)], USUAL, outputs.skip):
            outputs.add(frame, found())
    return outputs, out


UNEVEN = [0, 30, 45, 120, 121, 200, 333, 400, 401, 402, 410, 500]


@pytest.mark.parametrize(
    ("name", "codec", "tick", "times", "height"),
    [
        ("even.mp4", "libx264", Fraction(1, 30), range(45), 48),
        ("film.mov", "libx264", Fraction(1001, 24000), range(30), 48),
        ("odd.mkv", "mjpeg", Fraction(1, 30), range(12), 47),
        ("uneven.mkv", "libx264", Fraction(1, 1000), UNEVEN, 48),
        ("late.mp4", "libx264", Fraction(1, 600), [600 + 20 * number for number in range(30)], 48),
    ],
)
def test_a_video_keeps_its_frames_and_their_times(
    tmp_path: Path, name: str, codec: str, tick: Fraction, times: list[int], height: int
) -> None:
    path = write_video(tmp_path / name, times, tick, codec, height)
    seconds = [float((time - times[0]) * tick) for time in times]
    read = [(frame.moment.index, frame.moment.seconds) for frame in read_video(source(path)) if frame.moment]
    assert [index for index, _ in read] == list(range(len(times)))
    np.testing.assert_allclose([second for _, second in read], seconds, atol=1e-3)
    outputs, out = predict(path, "pictures", "json", "csv")
    assert (outputs.frames, outputs.failed) == (len(times), set())
    (written,) = out.glob("*.mp4")
    shown, shown_seconds, rate, count = read_times(written)
    assert shown == list(range(len(times)))
    assert count == len(times)
    np.testing.assert_allclose(shown_seconds, seconds, atol=1e-3)
    if name != "uneven.mkv":
        assert rate == 1 / (tick * (times[1] - times[0]))
    entries = json.loads((out / "detections.json").read_text())
    assert [entry["frame"] for entry in entries] == list(range(len(times)))
    np.testing.assert_allclose([entry["seconds"] for entry in entries], seconds, atol=1e-3)
    assert {(entry["video"], entry["picture"]) for entry in entries} == {(str(path), str(written))}


def test_frames_stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the video, the reader holds none of the frames that were taken before."""
    path = write_video(tmp_path / "long.mp4", range(100))
    alive = most = 0

    class Counted(Frame):
        def __init__(self, *values: object) -> None:
            nonlocal alive, most
            super().__init__(*values)  # type: ignore[arg-type]
            alive += 1
            most = max(most, alive)

        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    monkeypatch.setattr(video_module, "Frame", Counted)
    outputs, _ = predict(path, "pictures", "json", "coco", "yolo")
    assert outputs.frames == 100
    assert most <= 2


def test_results_of_frames_are_named_after_them(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mov", range(2))
    with Outputs(tmp_path / "out", CLASS_NAMES, ["coco", "yolo", "csv", "crops", "pictures"]) as outputs:
        for frame in read_video(source(path)):
            outputs.add(frame, found(CAT))
    assert files(tmp_path / "out") == {
        *("coco.json", "detections.csv", "classes.txt", "clip.mov.mp4", "overview.png"),
        *("labels/clip.mov-000000.txt", "labels/clip.mov-000001.txt"),
        *("crops/0-cat/clip.mov-000000.jpg-1.jpg", "crops/0-cat/clip.mov-000001.jpg-1.jpg"),
    }
    images = json.loads((tmp_path / "out" / "coco.json").read_text())["images"]
    assert [image["file_name"] for image in images] == ["clip.mov-000000.jpg", "clip.mov-000001.jpg"]
    row = (tmp_path / "out" / "detections.csv").read_text().splitlines()[2]
    assert row == f"{path},1,0.033333,cat,0.75,10.0,5.0,30.0,15.0,"


@pytest.mark.parametrize(
    ("name", "options", "keep"),
    [("cut.mp4", {"movflags": "faststart"}, 0.8), ("cut.avi", {}, 0.5)],
)
def test_a_video_that_is_cut_off_keeps_its_frames(
    tmp_path: Path, name: str, options: dict[str, str], keep: float, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_video(tmp_path / name, range(60), codec="mjpeg" if name.endswith("avi") else "libx264", **options)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    outputs, out = predict(path, "pictures", "json")
    assert 5 < outputs.frames < 60
    assert outputs.failed == {str(path)}
    said = capsys.readouterr().out
    assert said.startswith(f"skipped: {path} ")
    assert f"after {outputs.frames} " in said
    (written,) = out.glob("*.mp4")
    assert read_times(written)[0] == list(range(outputs.frames))
    assert len(json.loads((out / "detections.json").read_text())) == outputs.frames


def test_a_video_that_breaks_in_the_middle_keeps_its_frames(tmp_path: Path) -> None:
    path = write_video(tmp_path / "broken.mkv", range(40), codec="mpeg4")
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 20_000] = b"\xff" * len(content[middle : middle + 20_000])
    path.write_bytes(content)
    errors: list[UserError] = []
    frames = list(read_frames([source(path)], USUAL, lambda _, error: errors.append(error)))
    assert 0 < len(frames) < 40
    assert [str(error) for error in errors] == [
        f"{path} ends after {len(frames)} frames: the file is cut off or corrupt"
    ]


def test_what_is_no_video_is_named(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "list.m3u8").write_text("#EXTM3U\n#EXTINF:1,\n/etc/passwd\n")
    unknown = write_video(tmp_path / "unknown.mp4", range(3))
    unknown.write_bytes(unknown.read_bytes().replace(b"avc1", b"zzzz"))
    for path, reason in {
        tmp_path / "text.mp4": "cannot open .*text.mp4: Invalid data found",
        tmp_path / "list.m3u8": "cannot open .*list.m3u8: Invalid",
        unknown: "cannot decode .*unknown.mp4: this PyAV has no decoder for its codec",
    }.items():
        with pytest.raises(VideoError, match=reason):
            list(read_video(source(path)))
        assert count_frames(source(path)) in (None, 3)
    with pytest.raises(VideoError, match="cannot open camera 97: No such file or directory"):
        list(read_video(Source("camera 97", "97", Path("camera-97.mp4"), "video")))


def test_a_missing_package_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video(tmp_path / "clip.mp4", range(3))
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(VideoError, match=r"with PyAV: pip install 'rfdetr-hwd\[video\]'"):
        list(read_video(source(path)))
    assert count_all([source(path)]) is None


def test_a_missing_encoder_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    av = video_module.import_av()
    monkeypatch.setattr(av, "codecs_available", set())
    with pytest.raises(
        VideoError, match="this PyAV has no encoder of libx264.*: leave pictures out with --format json"
    ):
        VideoWriter(tmp_path / "out.mp4", (64, 64), Fraction(1, 30), Fraction(30))


def test_a_full_disk_keeps_the_frames_before(tmp_path: Path) -> None:
    """The video can be played up to a point, and the list has every frame up to there."""
    path = write_video(tmp_path / "clip.mp4", range(250))
    outputs = Outputs(tmp_path / "out", CLASS_NAMES, ["pictures", "json"])
    with pytest.raises(OSError, match="File too large"), outputs, file_limit(12_000):
        add_all(outputs, path)
    assert outputs.failed == set()
    shown, *_ = read_times(tmp_path / "out" / "clip.mp4")
    assert shown == list(range(len(shown)))
    entries = json.loads((tmp_path / "out" / "detections.json").read_text())
    assert 0 < len(shown) <= outputs.frames + 1
    assert 0 < outputs.frames == len(entries) < 250


def add_all(outputs: Outputs, path: Path) -> None:
    for frame in read_video(source(path)):
        outputs.add(frame, found())


def test_a_turned_video_is_read_upright(tmp_path: Path) -> None:
    """As players show it: the matrix in the header says a quarter turn clockwise."""
    path = write_video(tmp_path / "phone.mp4", range(2))
    content = bytearray(path.read_bytes())
    matrix = content.index(b"tkhd") + 44
    values = (0, 1 << 16, 0, -(1 << 16), 0, 0, 48 << 16, 0, 1 << 30)
    content[matrix : matrix + 36] = b"".join(value.to_bytes(4, "big", signed=True) for value in values)
    path.write_bytes(content)
    frames = list(read_video(source(path)))
    assert [frame.image.size for frame in frames] == [(48, 128)] * 2
    upright = np.asarray(frames[1].image)
    assert read_number(np.rot90(upright)) == 1  # back, counterclockwise


def test_a_video_of_a_server_is_read(tmp_path: Path) -> None:
    import threading

    from tests.unit.prediction.test_frames import Quiet

    write_video(tmp_path / "clip.mkv", range(20))
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path))) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        (there,) = find_sources([f"{url}/clip.mkv?key=secret"], tmp_path / "out")
        assert numbers(read_video(there)) == list(range(20))
        (gone,) = find_sources([f"{url}/gone.mkv?key=secret"], tmp_path / "out")
        with pytest.raises(VideoError, match=f"^cannot open {url}/gone.mkv: .*404 Not Found") as caught:
            list(read_video(gone))
        assert "secret" not in str(caught.value)
        server.shutdown()


def test_the_frames_of_all_sources_are_counted(tmp_path: Path) -> None:
    paths = [write_video(tmp_path / name, range(5)) for name in ("a.mp4", "b.mov")]
    sources = [source(path) for path in paths] + [Source("x", "x.jpg", Path("x.jpg"), "image")]
    assert count_all(sources) == 11
    assert count_all([*sources, Source("camera 0", "0", Path("camera-0.mp4"), "video")]) is None
    assert isinstance(found(), sv.Detections)
