"""Whatever stands in XML files and lists, reading a Pascal VOC dataset ends with data, findings or one message."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.data.broken_files import read_everything
from tests.unit.data.yolo_files import write_tree

NUM_EXAMPLES = 60
NUM_SLOW_EXAMPLES = 3000

VALUES = st.one_of(
    st.sampled_from(
        ["a.png", "../a.png", "C:\\x\\b.png", "1", "-1", "1e999", "nan", "1_0", "9" * 400, "", "cat", "&lt;"]
    ),
    st.integers(-9, 99).map(str),
    st.floats().map(str),
    st.text(max_size=6),
)
TAGS = st.sampled_from(
    [*("filename", "folder", "path", "size", "width", "height", "depth", "segmented", "name", "pose", "difficult")]
    + [*("object", "bndbox", "robndbox", "polygon", "xmin", "ymin", "xmax", "ymax", "cx", "cy", "w", "h", "angle", "x")]
)
LEAVES = st.tuples(TAGS, VALUES).map(lambda pair: f"<{pair[0]}>{pair[1]}</{pair[0]}>")
TREES = st.recursive(
    LEAVES,
    lambda inner: st.tuples(TAGS, st.lists(inner, max_size=4)).map(
        lambda pair: f"<{pair[0]}>{''.join(pair[1])}</{pair[0]}>"
    ),
    max_leaves=12,
)
CORNERS = st.tuples(VALUES, VALUES, VALUES, VALUES).map(
    lambda c: f"<bndbox><xmin>{c[0]}</xmin><ymin>{c[1]}</ymin><xmax>{c[2]}</xmax><ymax>{c[3]}</ymax></bndbox>"
)
OBJECTS = st.tuples(VALUES, CORNERS, st.lists(TREES, max_size=2)).map(
    lambda parts: f"<object><name>{parts[0]}</name>{parts[1]}{''.join(parts[2])}</object>"
)
ANNOTATIONS = st.lists(st.one_of(OBJECTS, TREES), max_size=5).map(
    lambda parts: f"<annotation>{''.join(parts)}</annotation>"
)
XML = st.one_of(
    ANNOTATIONS.map(lambda text: text.encode(errors="ignore")),
    ANNOTATIONS.map(lambda text: text.encode("utf-16", "ignore")),
    ANNOTATIONS.map(lambda text: f"<!DOCTYPE a [<!ENTITY b 'c'>]>{text}".encode(errors="ignore")),
    st.tuples(ANNOTATIONS, st.integers(0, 80)).map(lambda pair: pair[0].encode(errors="ignore")[: pair[1]]),
    st.binary(max_size=60),
)
NAMES = st.one_of(st.sampled_from(["a", "b", "a  1", "b -1", "../a", "a.png", "\0", "c"]), st.text(max_size=6))
LISTS = st.one_of(
    st.lists(NAMES, max_size=5).map(lambda lines: "\n".join(lines).encode(errors="ignore")), st.binary(max_size=40)
)
OPTIONAL = ["Annotations/b.xml", "Annotations/c.XML", "ImageSets/Main/train.txt", "ImageSets/Main/odd.txt", "b.xml"]
DATASETS = st.fixed_dictionaries(
    {"Annotations/a.xml": XML}, optional={name: XML if name.lower().endswith("xml") else LISTS for name in OPTIONAL}
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tree(
        tmp_path_factory.mktemp("fuzz"), {"JPEGImages/a.png": None, "JPEGImages/b.png": None, "b.png": None}
    )


@settings(max_examples=NUM_EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(files=DATASETS)
def test_broken_files_are_answered(root: Path, files: dict[str, bytes]) -> None:
    read_everything(root, files, OPTIONAL)


@pytest.mark.slow
@settings(max_examples=NUM_SLOW_EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(files=DATASETS)
def test_thousands_of_broken_files_are_answered(root: Path, files: dict[str, bytes]) -> None:
    read_everything(root, files, OPTIONAL)
