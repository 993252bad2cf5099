import numpy as np
import pytest

from rfdetr_hwd.analysis.split_distance import PERMUTATIONS, count_labels, find_bins, split_distance


def test_distances_are_worked_examples() -> None:
    """3 of 4 objects of the first class against 1 of 4: 0.5. In three ordered bins the cumulative fractions differ."""
    first, second = np.array([[1, 0], [2, 1]]), np.array([[0, 2], [1, 1]])
    assert split_distance(first, second, are_ordered=False).value == pytest.approx(0.5)
    low, high = np.array([[2, 1, 1]]), np.array([[1, 1, 2]])
    assert split_distance(low, high, are_ordered=True).value == pytest.approx(0.25)
    assert split_distance(np.zeros((3, 2), np.int64), second, are_ordered=False) is None


def test_the_p_value_is_exact_where_all_permutations_are_alike_or_can_be_counted() -> None:
    """Two images against two, of different classes: 2 of the 6 choices are as far apart."""
    same = np.ones((4, 2), np.int64)
    assert split_distance(same, same, are_ordered=False).p_value == 1
    first, second = np.array([[1, 0]] * 2), np.array([[0, 1]] * 2)
    found = split_distance(first, second, are_ordered=False)
    assert (found.value, found.p_value) == (1, pytest.approx(1 / 3, abs=0.04))
    assert split_distance(first.repeat(20, axis=0), second.repeat(20, axis=0), False).p_value == 1 / (PERMUTATIONS + 1)


def test_clusters_of_objects_are_no_difference() -> None:
    """Each image has 50 objects of one class. A chi-squared test of 1,000 objects would reject 600 to 400."""
    classes = np.array([0] * 12 + [1] * 8)
    counts = np.eye(2, dtype=np.int64)[classes] * 50
    first, second = counts[[*range(6), *range(12, 16)]], counts[[*range(6, 12), *range(16, 20)]]
    assert split_distance(first, second, are_ordered=False).p_value == 1
    first, second = counts[[*range(7), *range(12, 15)]], counts[[*range(7, 12), *range(15, 20)]]
    assert split_distance(first, second, are_ordered=False).p_value > 0.3


def test_a_small_split_is_compared_with_a_large_one_either_way() -> None:
    generator = np.random.default_rng(0)
    large, small = generator.integers(0, 5, (50, 3)), generator.integers(0, 5, (9, 3))
    one, other = split_distance(large, small, are_ordered=True), split_distance(small, large, are_ordered=True)
    assert one.value == pytest.approx(other.value)
    assert one.p_value == pytest.approx(other.p_value, abs=0.05)


def test_counts_and_bins() -> None:
    image, label = np.array([0, 0, 2]), np.array([1, 1, 0])
    assert count_labels(image, label, 3, 2).tolist() == [[0, 2], [0, 0], [1, 0]]
    bounds = find_bins(np.array([480.0] * 5), np.array([640.0] * 5))
    assert np.digitize([479, 480, 639, 640], bounds).tolist() == [0, 1, 1, 2]
    assert len(find_bins(np.arange(1000.0))) <= 64
