"""The class filter keeps what it names, and says what it does not know."""

import pytest

from rfdetr_hwd.errors import ConfigError
from rfdetr_hwd.prediction.finder import Finder, choose_labels
from tests.unit.prediction.frames import CAT, DOG, found


class FixedDetector:
    """Finds the same in every image."""

    def predict(self, images: list[object], threshold: float) -> list[object]:
        return [found(CAT, DOG, CAT) for _ in images]


def test_labels_are_chosen_by_name() -> None:
    names = ("cat", "dog", "cat, wild", "a")
    assert choose_labels([], names) is None
    assert choose_labels(["cat"], names) == {0}
    assert choose_labels(["dog, cat", "a"], names) == {0, 1, 3}
    assert choose_labels(["cat, wild"], names) == {2}
    with pytest.raises(
        ConfigError, match="--classes: unknown class 'cow', 'wild'. The model knows: cat, dog, cat, wild, a"
    ):
        choose_labels(["cow,dog", "cat,wild"], names)


@pytest.mark.parametrize(("labels", "kept"), [(None, [0, 1, 0]), (frozenset({0}), [0, 0]), (frozenset({7}), [])])
def test_other_classes_are_dropped(labels: frozenset[int] | None, kept: list[int]) -> None:
    finder = Finder(FixedDetector(), 0.5, labels)  # type: ignore[arg-type]
    for detections in finder.find([None, None]):  # type: ignore[list-item]
        assert detections.class_id.tolist() == kept
        assert len(detections.data["class_name"]) == len(kept)
