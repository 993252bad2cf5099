"""Whatever stands in YAML, labels and lists, reading a YOLO dataset ends with data, findings or one message."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.data.broken_files import read_everything
from tests.unit.data.yolo_files import write_tree

NUM_EXAMPLES = 60
NUM_SLOW_EXAMPLES = 3000

PATHS = [
    "train/images",
    "../train/images",
    "D:\\x\\images",
    "/images",
    ".",
    "..",
    "",
    "a.txt",
    "x.png",
    "train",
    "\0",
    "~",
]
SCALARS = st.one_of(
    st.sampled_from(
        [*PATHS, "cat", "dog", "yes", "null", "0x10", "1e999", "nan", "2", "-1", "[", "{", "&a", "*a", "!!x", "|"]
    ),
    st.text(max_size=8),
    st.integers().map(str),
    st.floats().map(str),
)
SEQUENCES = st.lists(SCALARS, max_size=4).map(lambda items: f"[{', '.join(items)}]")
MAPPINGS = st.lists(st.tuples(SCALARS, SCALARS), max_size=4).map(
    lambda pairs: "{" + ", ".join(f"{key}: {value}" for key, value in pairs) + "}"
)
KEYS = st.sampled_from(["train", "val", "valid", "test", "path", "names", "nc", "kpt_shape", "NAMES", "x", "download"])
LINES = st.tuples(KEYS, st.one_of(SCALARS, SEQUENCES, MAPPINGS)).map(": ".join)
SOUND = "names: [cat, dog]"
TEXTS = st.one_of(
    st.lists(LINES, max_size=6).map("\n".join),
    st.lists(LINES, max_size=4).map(lambda lines: "\n".join([*lines, SOUND])),
    st.text(max_size=60),
)
YAMLS = st.one_of(
    TEXTS.map(lambda text: text.encode(errors="ignore")),
    TEXTS.map(lambda t: t.encode("utf-16", "ignore")),
    st.binary(max_size=60),
)
NUMBERS = st.one_of(
    st.floats(0, 1).map(str),
    st.integers(-2, 3).map(str),
    st.floats().map(str),
    st.sampled_from(["1,5", "cat", "1_0", "٣", "1e999"]),
)
ROWS = st.lists(NUMBERS, max_size=24).map(" ".join)
LABELS = st.one_of(
    st.lists(ROWS, max_size=4).map(lambda rows: "\n".join(rows).encode()),
    st.binary(max_size=60),
    st.text(max_size=40).map(str.encode),
)
ENTRIES = st.one_of(
    st.sampled_from(
        ["train/images/a.png", "./a.png", "..\\a.png", "/x/a.png", "a.png 1,2,3,4,0", "C:a.png", "\0.png", "b.jpg"]
    ),
    st.text(max_size=10),
    st.text(max_size=6).map(lambda text: f"{text}/a.png"),
)
LISTS = st.one_of(
    st.lists(ENTRIES, max_size=5).map(lambda lines: "\n".join(lines).encode(errors="ignore")), st.binary(max_size=40)
)
OPTIONAL = ("data.yaml", "other.yml", "obj.data", "classes.txt", "a.txt", "b.txt")
DATASETS = st.fixed_dictionaries(
    {"train/labels/a.txt": LABELS},
    optional={
        "data.yaml": YAMLS,
        "other.yml": YAMLS,
        "obj.data": YAMLS,
        "classes.txt": LISTS,
        "a.txt": LISTS,
        "b.txt": LABELS,
    },
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tree(
        tmp_path_factory.mktemp("fuzz"), {"train/images/a.png": None, "b.png": None, "train/images/c.gif": None}
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
