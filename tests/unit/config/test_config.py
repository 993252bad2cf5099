"""The configuration refuses what it does not know, and says what would be right."""

import contextlib
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from rfdetr_hwd.config.changes import REMEASURING, check_changes
from rfdetr_hwd.config.load import FORMER, RENAMED, keep_former, known_keys, load_config, parse_config, parse_recorded
from rfdetr_hwd.config.schema import RESOLUTION_STEP, Config, SplitSection
from rfdetr_hwd.errors import ConfigError

NEEDED = ["data.root=d", "output.dir=o"]
CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_shipped_configurations_are_valid_and_documented(path: Path) -> None:
    load_config(path, NEEDED)
    header = [line for line in path.read_text().splitlines() if line.startswith("#")]
    for word in ("command:", "hardware:", "expect:"):
        assert any(word in line for line in header), word


def test_overrides_are_dotted_yaml() -> None:
    config = parse_config(
        {"train": {"epochs": 5, "lr": 1}}, [*NEEDED, "train.epochs=12", "model.levels=[P4]", "amp=off"]
    )
    assert (config.train.epochs, config.train.lr, config.model.levels, config.amp) == (12, 1.0, ("P4",), False)
    assert parse_config({}, [*NEEDED, "train.lr=1e-4"]).train.lr == 1e-4


def test_annotations_and_images_of_a_split_may_be_named_apart() -> None:
    config = parse_config({}, [*NEEDED, "data.train={annotations: a.json, images: b}", "data.val.annotations=c.json"])
    assert (config.data.train, config.data.val) == (
        SplitSection(annotations="a.json", images="b"),
        SplitSection(annotations="c.json"),
    )
    other = parse_config(config.model_dump(), ["data.train.images=d"])
    assert check_changes(config, other, ["data.train"]) == {"data.train"}
    with pytest.raises(ConfigError, match=r"data.train \(was .*b.*is .*d.*--accept data.train"):
        check_changes(config, other, [])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.epocs=3", "train.epocs: unknown key; the nearest known key is train.epochs"),
        ("output.save_every_updates=3", "output.save_every_updates was renamed to output.save_every_steps"),
        ("train.batch_size=true", "train.batch_size: must not be true"),
        ("train.clip=false", "train.clip: must not be false"),
        ("data.allow=negative_box", "data.allow = 'negative_box': must be a list, such as data.allow=[negative_box]"),
        ("trian.lr=1", "trian: unknown key; the nearest known key is train"),
        ("train.epochs=0", "train.epochs = 0: input should be greater than 0"),
        ("train.lr=.nan", "train.lr = nan"),
        ("amp=perhaps", "amp = 'perhaps'"),
        ("model.variant=huge", "'nano', 'small', 'medium', 'base' or 'large'"),
        ("model.resolution=100", "100 is not a multiple of 32; the nearest is 96"),
        ("model.levels=[P5,P4]", "ascending"),
        ("train.micro_batch=all", r"integer, unable to parse string as an integer, or input should be 'auto'"),
        ("train.micro_batch=99", "micro_batch 99 is larger than batch_size 16"),
        ("novalue", "write key=value"),
        ("train.epochs=[", "not valid YAML"),
        ("train=3", "train = 3"),
        ("data.train=[a]", "data.train: must be NAME or {annotations: FILE, images: DIRECTORY}, not ['a']"),
        (
            "data.val={images: b}",
            "data.val: must be NAME or {annotations: FILE, images: DIRECTORY}, not {'images': 'b'}",
        ),
    ],
)
def test_bad_overrides_are_named(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config({}, [*NEEDED, override])
    assert message in str(caught.value)
    assert caught.value.exit_code == 2


def test_overrides_are_a_list() -> None:
    with pytest.raises(ConfigError, match="overrides are a list"):
        parse_config({}, "train.epochs=2")


def test_a_value_in_a_mapping_is_named_without_its_type() -> None:
    with pytest.raises(
        ConfigError, match=r"  train\.class_weights\.crack = 0: input should be greater than 0"
    ) as caught:
        parse_config({"train": {"class_weights": {"crack": 0}}})
    assert "balanced" not in str(caught.value)


def test_missing_sections_name_the_keys() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config({})
    assert "data.root: required" in str(caught.value)
    assert "output.dir: required" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: &x [1]\nb: *x\n", "aliases"),
        ("train: {epochs: 1}\ntrain: {epochs: 2}\n", "duplicate key 'train' in the mapping at line 1"),
        ("- 1\n", "must be a mapping"),
        ("a: [\n", "not valid YAML"),
        ("", "must be a mapping"),
        ("a: !!python/object/apply:os.getcwd []\n", "not valid YAML"),
        ("#" * (1 << 20) + "\n", "more than the limit of 1048576"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match="c.yaml") as caught:
        load_config(path)
    assert message in str(caught.value)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="none.yaml: No such file"):
        load_config(tmp_path / "none.yaml")


def test_it_is_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        parse_config({}, NEEDED).train.epochs = 3  # type: ignore[misc]


def test_a_key_that_came_later_means_what_was_done_before() -> None:
    """Also where a run continues by the file it was started with, which says nothing of it either."""
    values = {"data": {"root": "d"}, "train": {"epochs": 2}, "output": {"dir": "o"}}
    started = parse_config(values)
    assert started.train.last_batch == "fill"
    recorded = parse_recorded(values)
    assert recorded.train.last_batch == "keep"
    assert (started.evaluation.raw_every, recorded.evaluation.raw_every) == (None, 1)
    assert recorded.train.epochs == 2
    assert keep_former(started, values) == recorded
    assert keep_former(parse_config(values, ["train.last_batch=drop"]), values).train.last_batch == "drop"
    newer = yaml.safe_load(started.to_yaml())
    assert keep_former(started, newer) == parse_recorded(newer) == started
    assert set(FORMER) <= set(known_keys())


def test_a_run_that_recorded_a_key_by_its_former_name_keeps_its_value() -> None:
    """Where a user writes it, it is an error that says the name."""
    recorded = parse_config({}, NEEDED).model_dump(mode="json")
    recorded["output"]["save_every_updates"] = 7
    del recorded["output"]["save_every_steps"]
    assert parse_recorded(recorded).output.save_every_steps == 7
    assert set(RENAMED.values()) <= set(known_keys())


@pytest.mark.parametrize("backend", ["pycocotools", "faster"])
def test_a_run_resumes_with_another_evaluation_library(backend: str) -> None:
    """Its metrics are the same: neither its steps nor its best AP depend on it."""
    values = parse_config({}, NEEDED).model_dump(mode="json")
    values["evaluation"]["backend"] = backend
    changed = check_changes(parse_recorded(values), parse_config({}, NEEDED), [])
    assert changed == ({"evaluation.backend"} if backend == "pycocotools" else set())
    assert not changed & set(REMEASURING)


def test_every_field_is_documented() -> None:
    def undocumented(section: type, prefix: str = "") -> list[str]:
        missing = []
        for name, field in section.model_fields.items():
            inner = field.annotation
            if isinstance(inner, type) and hasattr(inner, "model_fields"):
                missing += undocumented(inner, f"{prefix}{name}.")
            elif not field.description:
                missing.append(prefix + name)
        return missing

    assert undocumented(Config) == []


def test_resolved_yaml_reads_back(tmp_path: Path) -> None:
    config = parse_config({}, [*NEEDED, "train.lr=3e-7", "output.trackers=[tensorboard]"])
    (tmp_path / "c.yaml").write_text(config.to_yaml())
    assert load_config(tmp_path / "c.yaml") == config


@given(st.dictionaries(st.sampled_from([*known_keys(), "x.y", ""]), st.text(max_size=12), max_size=4))
def test_any_override_is_answered_or_accepted(values: dict[str, str]) -> None:
    with contextlib.suppress(ConfigError):
        parse_config({}, [*NEEDED, *(f"{key}={value}" for key, value in values.items())])


def test_resolution_steps_are_upstreams() -> None:
    from rfdetr_hwd.model.rfdetr import build_stock_model

    for variant, step in RESOLUTION_STEP.items():
        model = build_stock_model(variant, 2, resolution=step * 2, num_queries=4, group_detr=1)
        assert model.resolution_step == step
