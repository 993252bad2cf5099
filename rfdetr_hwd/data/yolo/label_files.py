"""Which text file holds the labels of an image: where YOLO looks for it, or else where they are."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from posixpath import splitext

from rfdetr_hwd.data.images import IMAGE_SUFFIXES, OTHER_IMAGE_SUFFIXES
from rfdetr_hwd.data.listing import FileList
from rfdetr_hwd.data.roles import Role, role_of
from rfdetr_hwd.data.text_file import read_lines
from rfdetr_hwd.data.yolo.description import CLASS_LISTS
from rfdetr_hwd.data.yolo.paths import fold

_MAX_PEEKED = 20


def label_file_of(image: str) -> str:
    """Return the label file of an image: the last directory `images` becomes `labels`, the suffix `.txt`."""
    directory, _, last = image.rpartition("/")
    place = _label_directory(directory)
    return f"{place}/{splitext(last)[0]}.txt" if place else f"{splitext(last)[0]}.txt"


@lru_cache
def _label_directory(directory: str) -> str:
    before, images, after = f"/{directory}/".rpartition("/images/")
    return f"{before}/labels/{after}".strip("/") if images else directory


def is_image(name: str) -> bool:
    """Return whether a file has the suffix of an image that can be read."""
    return name.lower().endswith(IMAGE_SUFFIXES)


def role_of_directory(directory: str) -> Role | None:
    """Return the role that the deepest part of a path with the name of one says."""
    return next((role for part in reversed(directory.split("/")) if (role := role_of(part))), None)


class LabelFiles:
    """The label files of a dataset.

    YOLO looks in one place. Where that holds no label of a directory's images, another directory with files of their
    names is taken, if one alone can be meant: `Labels`, beside the images, `annotations`. So is a file whose name
    differs in case or Unicode form, or that keeps the image's suffix (`a.jpg.txt`).

    Args:
        root: Directory of the dataset.
        files: All files below the root.
    """

    def __init__(self, root: Path, files: FileList) -> None:
        self._root, self._names = root, files.names
        self._labels: dict[str, str] = {}
        self._images: defaultdict[str, list[str]] = defaultdict(list)
        self._texts: defaultdict[str, defaultdict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
        for name in sorted(files.names):
            directory, _, last = name.rpartition("/")
            if is_image(last):
                self._images[directory].append(name)
            elif last.lower().endswith(".txt") and last.lower() not in CLASS_LISTS:
                self._texts[directory][fold(last[: -len(".txt")])].append(name)

    def label_of(self, image: str) -> str:
        """Return the label file of an image, or where it would be."""
        label = self._labels.get(image)
        if label is None:
            label = self._labels[image] = self._label_of(image)
        return label

    def has_labels(self, directory: str) -> bool:
        """Return whether an image of a directory has a label file that looks like one."""
        labels = [label for image in self._images[directory] if (label := self.label_of(image)) in self._names]
        return any(looks_like_labels(self._root / label) for label in labels[:_MAX_PEEKED])

    def directories(self) -> list[str]:
        """Return the directories that hold images themselves, sorted."""
        return sorted(self._images)

    def images_in(self, directory: str) -> list[str]:
        """Return the images of a directory itself, sorted."""
        return self._images[directory]

    def highest_class(self) -> int:
        """Return the highest class number in all labels of images; -1 where there is none."""
        highest = -1
        for label in self._used.keys() & self._names:
            try:
                words = [line.split()[0] for _, line in read_lines(self._root / label)]
            except (OSError, ValueError):
                continue
            highest = max([highest, *(int(float(word)) for word in words if _is_number(word) and len(word) < 20)])
        return highest

    def notes(self, images: Iterable[str]) -> Iterator[str]:
        """Yield, as sentences, where labels of images were found that YOLO would not look for there."""
        moved: Counter[tuple[str, str]] = Counter()
        renamed: list[tuple[str, str]] = []
        for image in images:
            label, usual = self.label_of(image), label_file_of(image)
            if label == usual:
                continue
            places = label.rpartition("/")[0], usual.rpartition("/")[0]
            if places[0] != places[1]:
                moved[places] += 1
            else:
                renamed.append((label, usual))
        for (here, there), count in moved.items():
            yield f"the labels of {count} images are read from {here or '.'}, but YOLO would look in {there or '.'}"
        if renamed:
            (label, usual), more = renamed[0], len(renamed) - 1
            yield f"{label} is read as {usual}" + (f", and {more} others likewise" if more else "")

    def doubts(self, images: Iterable[str]) -> Iterator[tuple[str, str]]:
        """Yield (directory, reason) of images whose labels may be in several places, and are read from none."""
        for directory in sorted({image.rpartition("/")[0] for image in images}):
            rivals = self._choices.get(directory, [])
            if len(rivals) > 1:
                yield directory, f"the labels of its images may be those in {' or '.join(map(repr, rivals))}: keep one"

    def unused(self, images: Iterable[str]) -> Iterator[tuple[str, str]]:
        """Yield (label file, reason) of labels beside those of the images that belong to no image."""
        directories = {label.rpartition("/")[0] for image in images if (label := self.label_of(image)) in self._names}
        sources: defaultdict[str, set[str]] = defaultdict(set)
        for image in self._used.values():
            sources[self.label_of(image).rpartition("/")[0]].add(image.rpartition("/")[0])
        for directory in sorted(directories):
            for label in sorted({label for labels in self._texts[directory].values() for label in labels}):
                if label not in self._used and looks_like_labels(self._root / label):
                    yield label, self._why_unused(label, sorted(sources[directory]))

    def unread(self, images: Iterable[str]) -> Iterator[tuple[str, str]]:
        """Yield (directory, reason) of files beside images whose format is not read."""
        directories = {image.rpartition("/")[0] for image in images}
        counts = Counter(
            (directory, splitext(last)[1])
            for directory, _, last in (name.rpartition("/") for name in self._names)
            if directory in directories and last.lower().endswith(OTHER_IMAGE_SUFFIXES)
        )
        for (directory, suffix), count in sorted(counts.items()):
            yield directory, f"{count} files with {suffix} are not read: convert them to JPEG or PNG"

    def _label_of(self, image: str) -> str:
        usual = label_file_of(image)
        if usual in self._names:
            return usual
        directory, _, last = image.rpartition("/")
        chosen = self._directories.get(directory)
        found = [] if chosen is None else self._find(chosen, last)
        return found[0] if len(found) == 1 else usual

    def _why_unused(self, label: str, directories: Sequence[str]) -> str:
        stem = splitext(_last(label))[0]
        places = [f"{directory}/{stem}" if directory else stem for directory in directories]
        for place in places:
            other = next((name for name in sorted(self._names) if name.rpartition(".")[0] == place), None)
            if other is not None and other != label:
                return f"is not read: its image {other} has a format that is not read"
        return f"is not read: there is no image {' or '.join(f'{place}.*' for place in places)}"

    @cached_property
    def _used(self) -> dict[str, str]:
        """By each label file an image that it belongs to."""
        return {self.label_of(image): image for images in self._images.values() for image in images}

    @cached_property
    def _directories(self) -> dict[str, str]:
        """By each directory of images the one that its labels are in, where there are any."""
        return {directory: choices[0] for directory, choices in self._choices.items() if len(choices) == 1}

    @cached_property
    def _choices(self) -> dict[str, list[str]]:
        """By each directory of images those that its labels may be in."""
        usual = {directory: label_file_of(f"{directory}/x.jpg" if directory else "x.jpg") for directory in self._images}
        places = {directory: label.rpartition("/")[0] for directory, label in usual.items()}
        at_home = {
            directory: place
            for directory, place in places.items()
            if any(label_file_of(image) in self._names for image in self._images[directory])
        }
        taken = set(at_home.values())
        return {
            directory: [at_home[directory]] if directory in at_home else self._elsewhere(directory, place, taken)
            for directory, place in places.items()
        }

    def _elsewhere(self, directory: str, place: str, taken: set[str]) -> list[str]:
        """Return the directories, as good as each other, with label files for the images of one."""
        role = role_of_directory(directory)
        ranked: defaultdict[int, dict[str, int]] = defaultdict(dict)
        for other in sorted(self._texts.keys() - taken):
            other_role = role_of_directory(other)
            if role and other_role and role != other_role:
                continue
            labels = [found[0] for image in self._images[directory] if (found := self._find(other, _last(image)))]
            if any(looks_like_labels(self._root / label) for label in labels[:_MAX_PEEKED]):
                ranked[_unlikeness(other, directory, place)][other] = len(labels)
        best = ranked[min(ranked)] if ranked else {}
        return [other for other, count in best.items() if 2 * count >= max(best.values())]

    def _find(self, directory: str, image: str) -> list[str]:
        """Return the label files in a directory that have the name of an image, in whatever case and form."""
        texts: Mapping[str, list[str]] = self._texts.get(directory, {})
        stem = image.rpartition(".")[0]
        exact = [text for text in texts.get(fold(stem), ()) if _last(text) == f"{stem}.txt"]
        return exact or texts.get(fold(stem)) or texts.get(fold(image)) or []


def looks_like_labels(path: Path) -> bool:
    """Return whether a text file holds lines of a class and numbers, whatever is wrong with them."""
    try:
        lines = read_lines(path)
    except (OSError, ValueError):
        return False
    words = [line.replace(",", " ").replace(";", " ").split() for _, line in lines[:_MAX_PEEKED]]
    rows = [line for line in words if len(line) >= 5 and not is_image(line[0])]  # no list of images
    return any(_is_number(row[1]) and _is_number(row[2]) for row in rows)


def _unlikeness(other: str, directory: str, place: str) -> int:
    """Return how far a directory of labels is from where they should be."""
    if fold(other) == fold(place):
        return 0
    if other == directory:
        return 1
    parts, wanted = other.split("/"), directory.split("/")
    if len(parts) == len(wanted) and sum(a != b for a, b in zip(parts, wanted, strict=True)) == 1:
        return 2
    return 3


def _last(name: str) -> str:
    return name.rpartition("/")[2]


def _is_number(word: str) -> bool:
    try:
        return math.isfinite(float(word))
    except ValueError:
        return False
