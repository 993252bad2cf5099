"""Names in a YOLO dataset that is written are found by every reader, and each has a label file of its own."""

import pytest

from rfdetr_hwd.data.yolo.names import flat_names


def never(row: int) -> str:
    raise AssertionError(f"the suffix of {row} says enough")


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a.jpg", "b.PNG", "c.tiff"], ["a.jpg", "b.PNG", "c.tiff"]),
        (["x/y/a.jpg", "x/z/a.jpg"], ["x_y_a.jpg", "x_z_a.jpg"]),
        (["a.jpg", "a.png"], ["a.jpg", "a_2.png"]),
        (["A.jpg", "a.jpg"], ["A.jpg", "a_2.jpg"]),
        (["a.jpg", "A.jpg"], ["a.jpg", "A_2.jpg"]),
        (["a.jfif", "b.JPE", "c.apng"], ["a.jpg", "b.jpg", "c.png"]),
        (["a.jfif", "a.jpg"], ["a_2.jpg", "a.jpg"]),  # what can stay does
        (["x/a.jpg", "x_a.jpg", "x_a_2.png"], ["x_a_3.jpg", "x_a.jpg", "x_a_2.png"]),
        (["./a.jpg", "b c/ü 車.jpg"], ["a.jpg", "b c_ü 車.jpg"]),
        (["a.v1.jpg", "a.v2.jpg"], ["a.v1.jpg", "a.v2.jpg"]),
    ],
)
def test_names_are_flat_and_have_stems_of_their_own(names: list[str], expected: list[str]) -> None:
    assert flat_names(names, never) == expected


def test_a_suffix_that_says_nothing_becomes_that_of_the_file() -> None:
    formats = ["JPEG", "PNG", "WEBP", "MPO"]
    assert flat_names(["a", "b.v1", "x/c.dat", "d.gif"], formats.__getitem__) == [
        *("a.jpg", "b.v1.png", "x_c.dat.webp", "d.gif.jpg")
    ]


def test_a_long_path_becomes_a_name_that_disks_take() -> None:
    (name, other) = flat_names(["/".join([letter, "ü" * 120, "y" * 120, "z.jpg"]) for letter in "ab"], never)
    assert name != other
    assert name.endswith("y_z.jpg")
    assert len(name.encode()) < 255
