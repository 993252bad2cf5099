"""What the words of the command line stand for, and where the results about each source lie."""

from pathlib import Path

import pytest

from rfdetr_hwd.errors import ConfigError
from rfdetr_hwd.prediction.sources import Source, find_sources


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of files that are never opened; the working directory is the one above."""
    for name in ("a.jpg", "b.PNG", "notes.txt", "clip.mov", "more/a.jpg", "more/deep/c.webp"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path / "photos"


def places(*words: str, out: str = "out", lines: tuple[str, ...] = ()) -> dict[str, str]:
    return {source.name: source.place.as_posix() for source in find_sources(words, Path(out), lines)}


def test_a_directory_is_searched_recursively(photos: Path) -> None:
    assert places("photos") == {
        "photos/a.jpg": "a.jpg",
        "photos/b.PNG": "b.PNG",
        "photos/clip.mov": "clip.mov.mp4",
        "photos/more/a.jpg": "more/a.jpg",
        "photos/more/deep/c.webp": "more/deep/c.webp",
    }


def test_globs_keep_the_directories_below_their_fixed_part(photos: Path) -> None:
    assert places("photos/*.jpg") == {"photos/a.jpg": "a.jpg"}
    assert places("photos/**/*.[jw]*") == {
        "photos/a.jpg": "a.jpg",
        "photos/more/a.jpg": "more/a.jpg",
        "photos/more/deep/c.webp": "more/deep/c.webp",
    }
    (photos / "[1].jpg").touch()
    assert places("photos/[1].jpg") == {"photos/[1].jpg": "[1].jpg"}


def test_several_sources_have_places_of_their_own_and_come_once(photos: Path) -> None:
    assert places("photos/more/a.jpg", "photos/a.jpg", "photos/notes.txt", "photos/*.jpg", "photos/more") == {
        "photos/more/a.jpg": "a.jpg",
        "photos/a.jpg": "a-2.jpg",
        "photos/notes.txt": "notes.txt",
        "photos/more/deep/c.webp": "deep/c.webp",
    }
    (photos / "a-2.jpg").touch()
    found = find_sources(["photos/a.jpg", "photos/more/a.jpg", "photos/a-2.jpg"], Path("out"))
    assert [source.place.name for source in found] == ["a.jpg", "a-2.jpg", "a-2-2.jpg"]


def test_a_list_on_stdin_may_name_anything_but_itself(photos: Path) -> None:
    lines = ("photos/a.jpg\n", "\n", "gone.jpg\r\n", "photos/more\n", "https://x.org/y.jpg\n")
    assert places("photos/b.PNG", "-", lines=lines) == {
        "photos/b.PNG": "b.PNG",
        "photos/a.jpg": "a.jpg",
        "gone.jpg": "gone.jpg",
        "photos/more/a.jpg": "a-2.jpg",
        "photos/more/deep/c.webp": "deep/c.webp",
        "https://x.org/y.jpg": "y.jpg",
    }


def test_urls_and_cameras_are_told_by_their_words(photos: Path) -> None:
    words = [
        "https://me:secret@x.org/a/b.jpg?key=1",
        "http://x.org/",
        "http://x.org/v.MKV",
        "rtsp://u:p@cam:554/live",
        "0",
    ]
    named = [
        Source("https://x.org/a/b.jpg", words[0], Path("b.jpg"), "image"),
        Source("http://x.org/", words[1], Path("x.org"), "image"),
        Source("http://x.org/v.MKV", words[2], Path("v.MKV.mp4"), "video"),
        Source("rtsp://cam:554/live", words[3], Path("live.mp4"), "video"),
        Source("camera 0", "0", Path("camera-0.mp4"), "video"),
    ]
    found = find_sources(words, Path("out"))
    assert found == named
    assert [source.is_url for source in found] == [True, True, True, True, False]
    assert [source.is_camera for source in found] == [False, False, False, False, True]


def test_results_are_no_sources_and_overwrite_none(photos: Path) -> None:
    (photos / "out").mkdir()
    (photos / "out" / "a.jpg.png").touch()
    assert "photos/out/a.jpg.png" not in places("photos", "photos/**/*", out="photos/out")
    for word, out in (("photos", "photos"), ("photos/more", "photos")):
        with pytest.raises(ConfigError, match=f"--out {out} contains {word}: choose another output directory"):
            places(word, out=out)
    assert places("photos/a.jpg", out="photos") == {"photos/a.jpg": "a.jpg"}
    (photos / "film.mp4").touch()
    with pytest.raises(ConfigError, match="--out photos contains photos/film.mp4"):
        places("photos/film.mp4", out="photos")


def test_words_that_stand_for_nothing_are_refused(photos: Path) -> None:
    (photos / "empty").mkdir()
    for word, reason in {
        "photos/no.jpg": "there is no image or directory photos/no.jpg",
        "photos/*.gif": r"no image and no video matches photos/\*.gif",
        "photos/empty": "photos/empty contains no images and no videos",
        "ftp://me:secret@x.org/a.jpg": "cannot read ftp://x.org/a.jpg: a URL must begin with http://",
        "file:///etc/passwd": "a URL must begin with http://",
        "http://[x/a.jpg": "the URL is not valid",
    }.items():
        with pytest.raises(Exception, match=reason):
            places(word)
    with pytest.raises(ConfigError, match="there is no image: give images"):
        places("-", lines=("\n",))
