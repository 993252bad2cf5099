"""Which Pascal VOC annotation file belongs to which image, wherever a tool has put the two."""

import functools
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from rfdetr_hwd.data.images import IMAGE_SUFFIXES
from rfdetr_hwd.data.listing import FileList
from rfdetr_hwd.data.roles import Role, role_of
from rfdetr_hwd.data.voc.xml import VocFile, is_voc_file, read_voc_file

_SUFFIX = ".xml"
_IMAGE_DIRECTORY = re.compile(r"images?$|imgs?$|photos?$|pictures?$|pics?$", re.IGNORECASE)
_FILLERS = (
    *("images", "image", "imgs", "img", "jpegimages", "photos", "annotations", "annotation", "annots", "annot"),
    *("labels", "label", "xml", "xmls", "voc", "set", "data", "dataset", "split"),
)


@dataclass
class Pairs:
    """The images and annotation files of a dataset, by their paths below its root.

    Attributes:
        labels: The annotation file of each image; empty for an image without one.
        unsafe: Annotation files that are not read: links out of the dataset.
        problems: Kind of finding and reason, for images and annotation files that cannot be used.
        named: Images that were found by the name that the annotation file gives, and not by its own.
        files: Annotation files that were read already.
    """

    labels: dict[str, str]
    unsafe: frozenset[str]
    problems: dict[str, tuple[str, str]] = field(default_factory=dict)
    named: dict[str, str] = field(default_factory=dict)
    files: dict[str, VocFile] = field(default_factory=dict)

    @cached_property
    def _directories(self) -> set[str]:
        return {directory_of(image) for image, label in self.labels.items() if label}

    @property
    def without_image(self) -> list[str]:
        """The annotation files that cannot be used and are no image's."""
        paired = {*self.labels, *self.labels.values()}
        return [path for path in self.problems if path not in paired]

    def is_beside_annotated(self, image: str) -> bool:
        """Return whether an image lies in a directory with annotated ones: masks and logos do not."""
        return directory_of(image) in self._directories

    def read(self, root: Path, label: str) -> VocFile:
        """Return an annotation file, read once."""
        if label not in self.files:
            self.files[label] = read_voc_file(root / label)
        return self.files[label]


@functools.cache
def directory_role(name: str) -> Role | None:
    """Return which split a directory or list is for by its name, such as `Train`, `trainval` or `test_images`.

    Of a name with further words nothing is concluded: `bullet train` may be a class.
    """
    words = [word for word in re.split(r"[^a-z]+", name.lower()) if word and word not in _FILLERS]
    return role_of(words[0]) if len(words) == 1 else None


def key_of(name: str) -> str:
    """Return what two names that differ in case or in the form of their accents have in common."""
    return unicodedata.normalize("NFC", name).casefold()


def stem_of(path: str) -> str:
    """Return the name of a file without directories and without its last suffix."""
    name = name_of(path)
    return name.rpartition(".")[0] or name


def name_of(path: str) -> str:
    """Return the name of a file without directories."""
    return path.rpartition("/")[2]


def directory_of(path: str) -> str:
    """Return the directory of a file; empty for the root."""
    return path.rpartition("/")[0]


def find_labels(root: Path, files: FileList) -> list[str]:
    """Return the annotation files below a directory, sorted; none where no XML there is Pascal VOC's."""
    every = files.names | {name for name in files.escaping if not name.endswith("/")}

    # Collect the files that may be annotations
    labels = sorted(name for name in every if name.lower().endswith(_SUFFIX))
    if not labels:  # Stanford Dogs has them without a suffix
        labels = sorted(name for name in every if "." not in name_of(name) and "annot" in name.lower())

    # Look into one of each directory: reading all would take too long
    samples = {directory_of(name): name for name in reversed(labels)}  # the first of each directory
    is_voc = any(is_voc_file(root / name) for name in (*samples.values(), *labels[:20]) if name in files.names)
    return labels if is_voc else []


def pair_files(root: Path, files: FileList, labels: Sequence[str]) -> Pairs:
    """Find the image of each annotation file.

    It is the one with the same stem that lies nearest: in the same directory, in a directory beside (`Annotations/` and
    `images/`, each with the same subdirectories), or in subdirectories of one of the two. Of two images with one stem
    in one directory it is the one whose name the annotation file gives. Where no image has the stem, that name counts.
    """
    every = files.names | {name for name in files.escaping if not name.endswith("/")}

    # Index the images by stem and by name
    images = sorted(name for name in every if name.lower().endswith(IMAGE_SUFFIXES))
    by_key: dict[str, list[str]] = {}
    for image in images:
        by_key.setdefault(key_of(stem_of(image)), []).append(image)
        by_key.setdefault(key_of(name_of(image)), []).append(image)
    unsafe = frozenset(labels) - files.names
    pairs = Pairs(dict.fromkeys(images, ""), unsafe, {path: files.problem(path) for path in unsafe})

    # Let each annotation file claim the nearest image of its stem
    claims: dict[str, list[tuple[tuple[int, ...], str]]] = {}
    without: list[str] = []
    for label in labels:
        near, distance = _nearest(label, by_key.get(key_of(stem_of(label)), ()))
        chosen = _choose(pairs, root, label, near) if len(near) > 1 else near
        for image in near:
            if image not in chosen:
                reason = f"is for {chosen[0]}" if chosen else f"does not tell which of {', '.join(near)} it is for"
                pairs.problems[image] = ("same_stem", f"shares its stem with another image, and {label} {reason}")
        if chosen:
            claims.setdefault(chosen[0], []).append((distance, label))
        elif not near:
            without.append(label)

    # Give an image that several files claim to the nearest
    for image, claimants in claims.items():
        first, *others = sorted(claimants)
        pairs.labels[image] = first[1]
        pairs.problems.pop(image, None)
        for _, label in others:
            pairs.problems[label] = ("duplicate_label", f"{image} has the annotation file {first[1]} already")

    # Match the other files by the image name that they give
    for label in without:
        _pair_by_name(pairs, root, label, by_key)
    pairs.problems |= {image: files.problem(image) for image in images if image not in files.names}
    return pairs


def _nearest(label: str, images: Iterable[str]) -> tuple[list[str], tuple[int, ...]]:
    """Return the images that lie nearest to an annotation file, all equally near, and how near."""
    at = {image: _distance(label, image) for image in images}
    distances = {image: distance for image, distance in at.items() if distance}
    least = min(distances.values(), default=(0,))
    return [image for image, distance in distances.items() if distance == least], least


def _distance(label: str, image: str) -> tuple[int, ...]:
    """Return how far an image lies from an annotation file, for comparison; empty where the two cannot be a pair."""
    # Drop the directories that both have in common
    here, there = (tuple(filter(None, directory_of(path).split("/"))) for path in (label, image))
    shared = next((i for i, (a, b) in enumerate(zip(here, there, strict=False)) if a != b), min(len(here), len(there)))
    here, there = here[shared:], there[shared:]

    # Files of different splits are no pair
    roles = [{role for part in parts if (role := directory_role(part))} for parts in (here, there)]
    if roles[0] and roles[1] and not roles[0] & roles[1]:
        return ()

    # Prefer the same directory, then one beside it, then subdirectories of one of the two
    is_other_stem = stem_of(label) != stem_of(image)
    is_no_image_directory = bool(there) and not _IMAGE_DIRECTORY.search(there[0])
    if here[1:] == there[1:] and len(here) == len(there):
        return (len(here[:1]), is_no_image_directory, is_other_stem, -shared)
    if min(len(here), len(there)) > 1:
        return ()  # VOC2007/Annotations and VOC2012/JPEGImages
    return (2, is_no_image_directory, is_other_stem, -shared)


def _choose(pairs: Pairs, root: Path, label: str, images: Sequence[str]) -> list[str]:
    """Return the one image that an annotation file gives the name of, if there is one."""
    name = key_of(pairs.read(root, label).file_name) if label not in pairs.unsafe else ""
    named = [image for image in images if key_of(name_of(image)) == name]
    return named if len(named) == 1 else []


def _pair_by_name(pairs: Pairs, root: Path, label: str, by_key: dict[str, list[str]]) -> None:
    """Find the image of an annotation file whose stem no image has, by the name that it gives."""
    if label in pairs.unsafe or not is_voc_file(root / label):
        return  # a link out of the dataset, or another tool's
    name = pairs.read(root, label).file_name
    free = [image for image in by_key.get(key_of(name), ()) if not pairs.labels[image]] if name else []
    near, _ = _nearest(label, free)
    if len(near) != 1:
        what = f"has the stem {stem_of(label)!r}" + (f" or the name {name!r}" if name else "")
        pairs.problems[label] = ("missing_file", f"there is no image for it: none {what}")
        return
    pairs.labels[near[0]] = label
    pairs.named[near[0]] = label
    pairs.problems.pop(near[0], None)
