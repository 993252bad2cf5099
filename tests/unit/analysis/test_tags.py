from pathlib import Path

import pytest

from rfdetr_hwd.analysis.tags import TagsError, metrics_by_tag, read_tags
from rfdetr_hwd.evaluation.matching import match
from rfdetr_hwd.evaluation.weighted_metrics import coco_metrics
from tests.unit.analysis.scenes import golden, scene

BOX = [0.0, 0.0, 10.0, 10.0]
NAMES = {"a.jpg": 0, "b/c.jpg": 1, "d, e.jpg": 2}


def written(folder: Path, content: str | bytes) -> Path:
    path = folder / "tags.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_images_by_tag_and_value(tmp_path: Path) -> None:
    path = written(tmp_path, '\ufefffile_name,light,camera\r\n"d, e.jpg",night,2\r\n\r\na.jpg, night ,\r\n')
    tags = read_tags(path, NAMES)
    assert tags.images == {"light": {"night": (0, 2)}, "camera": {"2": (2,)}}
    assert tags.num_untagged == 1
    assert tags.gaps == "images without a row, which have no tag: 1"


def test_rows_of_other_images_are_counted(tmp_path: Path) -> None:
    """A file of the whole dataset serves one of its splits."""
    tags = read_tags(written(tmp_path, "file_name,light\na.jpg,day\nx.jpg,dusk\ny.jpg,day\n"), NAMES)
    assert tags.images == {"light": {"day": (0,)}}
    expected = "images without a row, which have no tag: 2; rows of other images, which are ignored: 2"
    assert tags.gaps == expected
    rows = "".join(f'"{name}",day\n' for name in NAMES)
    assert read_tags(written(tmp_path, f"file_name,light\n{rows}"), NAMES).gaps == ""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "line 1: the header must be file_name, then the name of each tag"),
        ("a.jpg,night\n", "line 1: the header must be file_name, then the name of each tag"),
        ("file_name\na.jpg\n", "line 1: the header must be file_name, then the name of each tag"),
        ("file_name,light,\na.jpg,night,\n", "line 1: the header must be file_name, then the name of each tag"),
        ("file_name,light,light\n", "line 1: two columns have one name"),
        (
            "file_name,light\nx.jpg,day\ny.jpg,day\n",
            "none of its 2 rows is of an image of the dataset. It has 'x.jpg', ",
        ),
        ("file_name,light\na.jpg,day\na.jpg,day\n", "row 3: 'a.jpg' is listed twice"),
        ("file_name,light\na.jpg\n", "row 2: it has 1 columns, but the header has 2"),
        ('file_name,light\n"a.jpg,day\n', "it is not valid CSV"),
        (b"file_name,light\n\xff,day\n", "it is not UTF-8 text"),
    ],
)
def test_another_file_is_refused_in_one_line(tmp_path: Path, content: str | bytes, message: str) -> None:
    with pytest.raises(TagsError) as error:
        read_tags(written(tmp_path, content), NAMES)
    assert message in str(error.value)
    assert "tags.csv" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_file_and_a_column_of_dates_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TagsError, match="cannot read .*No such file"):
        read_tags(tmp_path / "none.csv", NAMES)
    names = {f"{number}.jpg": number for number in range(51)}
    path = written(tmp_path, "file_name,day\n" + "".join(f"{name},{number}\n" for name, number in names.items()))
    with pytest.raises(TagsError, match="column 'day' has 51 different values, more than 50"):
        read_tags(path, names)


def test_metrics_by_tag(tmp_path: Path) -> None:
    """The cat is found by day and not by night; nothing is on the third image."""
    objects = [(0, "cat", BOX), (1, "cat", BOX), (1, "dog", BOX)]
    matches = match(*scene(objects, [(0, "cat", BOX, 0.9)], num_images=3))
    path = written(tmp_path, 'file_name,light\na.jpg,day\nb/c.jpg,night\n"d, e.jpg",unknown\n')
    day, night, unknown = metrics_by_tag(matches, read_tags(path, NAMES), metrics=("AP50",))
    assert (day.tag, day.value, day.num_images, day.num_objects) == ("light", "day", 1, 1)
    assert day.metrics["AP50"] == pytest.approx(1)
    assert (night.num_objects, night.metrics) == (2, {"AP50": 0})
    assert (unknown.num_objects, unknown.metrics) == (0, {"AP50": None})


def test_a_tag_of_all_images_has_the_metrics_of_the_run(tmp_path: Path) -> None:
    truth, detections = golden()
    names = {f"{image['id']}.jpg": image["id"] for image in truth["images"]}
    path = written(tmp_path, "file_name,all\n" + "".join(f"{name},yes\n" for name in names))
    matches = match(truth, detections)
    (whole,) = metrics_by_tag(matches, read_tags(path, names))
    assert whole.num_images == 100
    assert whole.metrics == coco_metrics(matches, metrics=["AP", "AP50"])
    empty = read_tags(written(tmp_path, "file_name,all\n"), names)
    assert empty.num_untagged == 100
    assert metrics_by_tag(matches, empty) == []
