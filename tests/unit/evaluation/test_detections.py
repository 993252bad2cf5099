import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from rfdetr_hwd.evaluation.detections import Detections, find_positions

RESULTS = [
    {"image_id": 7, "category_id": 0, "bbox": [1.0, 2.0, 3.0, 4.5], "score": 0.25},
    {"image_id": 0, "category_id": 3, "bbox": [0.0, 0.0, 1.0, 1.0], "score": 1.0},
]


def test_results_become_arrays_and_return() -> None:
    detections = Detections.from_results(RESULTS)
    assert detections.boxes_xywh.tolist() == [[1, 2, 3, 4.5], [0, 0, 1, 1]]
    assert detections.to_results() == RESULTS
    assert detections[np.array([False, True])].to_results() == RESULTS[1:]
    again = Detections.concatenate([detections, Detections.none(), detections[:1]])
    assert again.to_results() == [*RESULTS, RESULTS[0]]


IDS = st.one_of(st.integers(-9, 9), st.integers(-(2**63), 2**63 - 1), st.just(2**22))


@settings(deadline=None)
@given(st.lists(IDS), st.sets(IDS))
def test_ids_are_found_among_known_ones(ids: list[int], known: set[int]) -> None:
    """In a table or by a search, whatever whole numbers of 64 bits they are."""
    ordered = sorted(known)
    positions, is_known = find_positions(np.array(ids, np.int64), np.array(ordered, np.int64))
    assert is_known.tolist() == [value in known for value in ids]
    assert [ordered[position] for position in positions[is_known]] == [value for value in ids if value in known]


def test_no_detections_have_the_shapes_of_some() -> None:
    for empty in (Detections.none(), Detections.from_results([]), Detections.concatenate([])):
        assert len(empty) == 0
        assert empty.boxes_xywh.shape == (0, 4)
        assert empty.image_ids.dtype == empty.category_ids.dtype == np.int64
