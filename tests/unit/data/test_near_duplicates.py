"""Perceptual hashes: the same picture is found in another form, blank images are not all one, groups are complete."""

import io
import json
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageEnhance
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rfdetr_hwd.data.detect import find_layout
from rfdetr_hwd.data.images import ReadOptions
from rfdetr_hwd.data.near_duplicates import MAX_DISTANCE, hash_image, hash_images, near_duplicates
from rfdetr_hwd.data.read import read_split


def distance(a: PIL.Image.Image, b: PIL.Image.Image) -> int:
    return int(np.bitwise_count(hash_image(a) ^ hash_image(b)))


def scene(seed: int, side: int = 160) -> PIL.Image.Image:
    """Smooth random blobs, as photographs have."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return PIL.Image.fromarray(coarse).resize((side, side), PIL.Image.Resampling.BICUBIC)


def test_bits_say_which_neighbour_is_brighter() -> None:
    rising = np.tile(np.arange(0, 180, 20, dtype=np.uint8), (8, 1))  # 9x8, so nothing is resized
    assert hash_image(PIL.Image.fromarray(rising)) == np.uint64(2**64 - 1)
    assert hash_image(PIL.Image.fromarray(rising[:, ::-1].copy())) == 0
    one = np.full((8, 9), 100, dtype=np.uint8)
    one[0, 1] = 200  # brighter than its left neighbour: the second column, the first bit
    assert hash_image(PIL.Image.fromarray(one)) == np.uint64(1 << 63)


def test_another_form_of_a_picture_is_near_and_another_picture_far() -> None:
    pictures = [scene(seed) for seed in range(40)]
    for picture in pictures:
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=30)
        assert distance(picture, PIL.Image.open(buffer)) <= MAX_DISTANCE
        assert distance(picture, picture.resize((71, 93))) <= MAX_DISTANCE
        assert distance(picture, PIL.ImageEnhance.Brightness(picture).enhance(0.8)) <= MAX_DISTANCE
    hashes = np.array([hash_image(picture) for picture in pictures])
    assert near_duplicates(hashes, MAX_DISTANCE) == []


def test_blank_images_are_alike_only_when_they_are_the_same() -> None:
    shades = [PIL.Image.new("RGB", (64, 48), (v, v, v)) for v in (0, 1, 128, 255)]
    rng = np.random.default_rng(0)
    noisy = [PIL.Image.fromarray(rng.integers(v, v + 3, (48, 64, 3), dtype=np.uint8)) for v in (60, 60, 90, 120)]
    larger = [PIL.Image.new("RGB", (128, 128), (0, 0, 0))]
    hashes = np.array([hash_image(image) for image in [*shades, *noisy, *larger]])
    assert near_duplicates(hashes, MAX_DISTANCE) == [[0, 8], [4, 5]]  # black at two sizes; one grey twice, noise aside


def brute_force(hashes: list[int], max_distance: int) -> list[list[int]]:
    groups = list(range(len(hashes)))
    for i, a in enumerate(hashes):
        for j, b in enumerate(hashes[:i]):
            if (a ^ b).bit_count() <= max_distance:
                groups = [groups[j] if group == groups[i] else group for group in groups]
    members = [[i for i, g in enumerate(groups) if g == group] for group in set(groups)]
    return sorted(group for group in members if len(group) > 1)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.lists(st.integers(0, 63), max_size=14)), max_size=30),
    st.integers(0, 11),
)
def test_groups_are_those_of_all_pairs(parts: list[tuple[int, list[int]]], max_distance: int) -> None:
    bases = np.random.default_rng(7).integers(0, 2**63, 4).tolist()
    hashes = [bases[base] ^ sum(1 << bit for bit in set(bits)) for base, bits in parts]
    assert near_duplicates(np.array(hashes, dtype=np.uint64), max_distance) == brute_force(hashes, max_distance)


def test_pairs_are_joined_across_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rfdetr_hwd.data.near_duplicates._PAIRS_AT_ONCE", 5)
    rng = np.random.default_rng(3)
    hashes = np.array([int(rng.integers(8)) << 20 | int(rng.integers(8)) for _ in range(60)], dtype=np.uint64)
    assert near_duplicates(hashes, 2) == brute_force(hashes.tolist(), 2)


def test_many_hashes() -> None:
    """20,000 pairs among 100,000: found, and nothing else."""
    rng = np.random.default_rng(1)
    hashes = rng.integers(0, 2**64, 100_000, dtype=np.uint64)
    hashes[80_000:] = hashes[:20_000]
    for bit in (5, 20, 33, 50, 63):
        hashes[80_000:] ^= np.uint64(1 << bit)
    assert near_duplicates(hashes, 5) == [[i, 80_000 + i] for i in range(20_000)]
    assert near_duplicates(hashes, 4) == []
    assert near_duplicates(hashes[:0], 4) == []


def test_distances_out_of_range_are_refused() -> None:
    for wrong in (-1, 12):
        with pytest.raises(ValueError, match="must be 0 to 11"):
            near_duplicates(np.zeros(2, dtype=np.uint64), wrong)


def test_real_photographs_under_compression(tmp_path: Path) -> None:
    root = Path(__file__).parents[4] / "shared" / "data" / "bccd" / "valid"
    files = sorted(root.glob("*.jpg"))[:30]
    if not files:
        pytest.skip("the BCCD images are not here")
    originals = [PIL.Image.open(file).convert("RGB") for file in files]
    again = []
    for number, image in enumerate(originals):
        image.resize((320, 240)).save(tmp_path / f"{number}.jpg", quality=30)
        again.append(PIL.Image.open(tmp_path / f"{number}.jpg"))
    hashes = np.array([hash_image(image) for image in [*originals, *again]])
    assert near_duplicates(hashes, MAX_DISTANCE) == [[i, i + 30] for i in range(30)]


def test_files_of_12_bits_are_compared_like_those_of_8(tmp_path: Path) -> None:
    """Read as 16 bits they are so dark that hardly one differs from another."""
    hashes = {}
    for bits, name in ((8, "grey"), (12, "deep")):
        root = tmp_path / name / "train"
        root.mkdir(parents=True)
        entries = []
        for number in range(4):
            grey = np.asarray(scene(number).convert("L")).astype(np.int64) // 2
            values = grey.astype(np.uint8) if bits == 8 else (-(-grey * 4095 // 255)).astype(np.uint16)
            PIL.Image.fromarray(values).save(root / f"{number}.png")
            entries.append({"id": number, "file_name": f"{number}.png", "width": 160, "height": 160})
        content = {"images": entries, "annotations": [], "categories": [{"id": 1, "name": "a"}]}
        (root / "_annotations.coco.json").write_text(json.dumps(content))
        data = read_split(find_layout(root.parent).split("train"), options=ReadOptions(12))
        hashes[name] = hash_images(data).values.tolist()
    assert hashes["grey"] == hashes["deep"]
    assert len(set(hashes["deep"])) == 4
