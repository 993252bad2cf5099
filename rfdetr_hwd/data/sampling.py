"""Which images an epoch draws where classes are rare: some of them often, as a function of seed and epoch."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rfdetr_hwd.config.schema import DataSection, TrainSection
from rfdetr_hwd.data.annotations import DetectionData
from rfdetr_hwd.errors import ConfigError

_SAMPLE = 10
"""Random stream, beside those of `rfdetr_hwd.data.dataset` and `rfdetr_hwd.data.augmentation`."""


@dataclass(frozen=True)
class Objects:
    """The objects of a split that are trained on.

    Attributes:
        class_names: Class names in label order.
        num_images: Images of the split.
        image_rows: Shape (M,), the image of each object.
        labels: Shape (M,).
    """

    class_names: tuple[str, ...]
    num_images: int
    image_rows: NDArray[np.int64]
    labels: NDArray[np.int64]

    @classmethod
    def of(cls, data: DetectionData) -> "Objects":
        """Return the objects of a split, without crowd regions and boxes without area."""
        is_usable = data.usable()
        image_rows = np.repeat(np.arange(len(data)), data.objects_per_image())
        return cls(data.class_names, len(data), image_rows[is_usable], data.labels[is_usable])

    @property
    def in_image(self) -> NDArray[np.bool_]:
        """Whether each image has an object, shape (N,)."""
        return np.bincount(self.image_rows, minlength=self.num_images) > 0

    def count(self, times: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
        """Return the objects of each class, with each image counted so many times."""
        weights = None if times is None else times[self.image_rows]
        return np.bincount(self.labels, weights, minlength=len(self.class_names)).astype(np.int64)

    def pairs(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the image and the class of each pair that occurs, and so each class of an image once."""
        num_classes = len(self.class_names)
        image_rows, labels = np.divmod(np.unique(self.image_rows * num_classes + self.labels), num_classes)
        return image_rows, labels


@dataclass(frozen=True)
class Sampler:
    """Draws the images of an epoch.

    Attributes:
        objects: The objects of the split.
        expected: Shape (N,), how often each image is drawn in an epoch on average. Their sum is `num_drawn`.
        num_background: Drawn images without objects, spread evenly over the epoch; `None`: wherever they fall.
        seed: Seed of the run.
        name: The settings, for people.
    """

    objects: Objects
    expected: NDArray[np.float64]
    num_background: int | None
    seed: int
    name: str

    @property
    def num_drawn(self) -> int:
        """Images that an epoch draws."""
        return round(float(self.expected.sum()))

    def draw(self, epoch: int) -> list[int]:
        """Return the images of an epoch, in order. Each comes as often as expected, rounded down or up."""
        generator = np.random.default_rng([_SAMPLE, self.seed, epoch])
        if self.num_background is None:
            return [*map(int, self._draw(np.arange(len(self.expected)), self.num_drawn, generator))]
        # Spread the background images, so that each batch has its share of them.
        has_object, total = self.objects.in_image, self.num_drawn
        is_background = np.diff(np.arange(total + 1) * self.num_background // total) > 0
        rows = np.empty(total, np.int64)
        for is_here, known in ((is_background, ~has_object), (~is_background, has_object)):
            rows[is_here] = self._draw(np.flatnonzero(known), int(is_here.sum()), generator)
        return [*map(int, rows)]

    def _draw(self, rows: NDArray[np.int64], number: int, generator: np.random.Generator) -> NDArray[np.int64]:
        """Draw so many of some images by systematic sampling (Madow, 1949), and shuffle them."""
        shuffled = generator.permutation(rows)
        bounds = np.cumsum(self.expected[shuffled])
        if not number or not bounds[-1]:
            return np.zeros(0, np.int64)
        points = (np.arange(number) + generator.random()) * (bounds[-1] / number)
        drawn = shuffled[np.searchsorted(bounds, points, side="right").clip(max=len(rows) - 1)]
        return generator.permutation(drawn)

    def count(self, epoch: int) -> dict[str, float]:
        """Return what an epoch draws, by the names of metrics.jsonl: images, and objects of each class."""
        times = np.bincount(self.draw(epoch), minlength=len(self.expected))
        counts = dict(zip(self.objects.class_names, self.objects.count(times).tolist(), strict=True))
        return {
            "drawn/images": self.num_drawn,
            "drawn/different_images": int((times > 0).sum()),
            "drawn/background_images": int(times[~self.objects.in_image].sum()),
            **{f"drawn/objects/{name}": number for name, number in counts.items()},
        }

    def describe(self) -> str:
        """Return what the first epoch draws, for people, with the classes whose objects come most and least often."""
        drawn, objects = self.count(0), self.objects.count()
        times = {
            name: drawn[f"drawn/objects/{name}"] / number
            for name, number in zip(self.objects.class_names, objects.tolist(), strict=True)
            if number
        }
        ranked = sorted(times, key=times.__getitem__, reverse=True)
        shown = dict.fromkeys([*ranked[:3], *ranked[-2:]])
        often = ", ".join(f"{name} {times[name]:.1f}" for name in shown)
        different, background = (int(drawn[f"drawn/{what}_images"]) for what in ("different", "background"))
        return (
            f"{self.name}: an epoch draws {self.num_drawn} images, {different} different ones of {len(self.expected)}. "
            f"{background} of the draws are images without objects. The objects of a class are drawn so often on "
            f"average: {often}"
        )


def build_sampler(data: DetectionData, settings: DataSection, train: TrainSection) -> Sampler | None:
    """Return the sampler of a run; `None`: an epoch has every image once.

    Args:
        data: The training split.
        settings: How images are drawn.
        train: The batch size, by which an epoch is made whole, and the seed.

    Raises:
        ConfigError: Background images are asked for, and there are none.
    """
    fraction, method = settings.background_fraction, settings.sampling
    if method == "uniform" and fraction is None:
        return None
    # Find how often each image should come, relative to the others.
    objects = Objects.of(data)
    has_object = objects.in_image
    expected = np.ones(len(data))
    if method == "repeat_factor":
        expected = repeat_factors(objects, settings.repeat_threshold)
    elif method == "class_balanced":
        expected[has_object] = class_balanced(objects)[has_object]
    # Give the images without objects their share.
    if fraction is not None:
        if fraction and has_object.all():
            raise ConfigError(
                f"data.background_fraction={fraction:g}: every image of {data.name} has objects. Add images without "
                "objects, or set it to null"
            )
        share = fraction / (1 - fraction) * expected[has_object].sum()
        expected[~has_object] = share / max(1, int((~has_object).sum()))
    # Make the epoch one of whole batches, unless the last one is kept as it is.
    number = round(float(expected.sum()))
    size = train.batch_size
    if train.last_batch != "keep":
        number = size * (number // size if train.last_batch == "drop" else -(-number // size))
    expected *= number / expected.sum()
    num_background = None if fraction is None else round(number * fraction)
    return Sampler(objects, expected, num_background, train.seed, ", ".join(_describe(settings)))


def _describe(settings: DataSection) -> Iterator[str]:
    yield f"data.sampling={settings.sampling}"
    if settings.sampling == "repeat_factor":
        yield f"data.repeat_threshold={settings.repeat_threshold:g}"
    if settings.background_fraction is not None:
        yield f"data.background_fraction={settings.background_fraction:g}"


def repeat_factors(objects: Objects, threshold: float) -> NDArray[np.float64]:
    """Return how often each image comes, at least 1 (Gupta et al., LVIS, CVPR 2019).

    A class that a fraction f of the images has is repeated max(1, sqrt(threshold / f)) times. An image is repeated as
    often as the most repeated of its classes.

    Args:
        objects: The objects of the split.
        threshold: Fraction of the images below which a class is repeated.
    """
    image_rows, labels = objects.pairs()
    fractions = np.bincount(labels, minlength=len(objects.class_names)) / objects.num_images
    of_class = np.maximum(1, np.sqrt(threshold / fractions.clip(min=1 / objects.num_images)))
    factors = np.ones(objects.num_images)
    np.maximum.at(factors, image_rows, of_class[labels])
    return factors


def class_balanced(objects: Objects) -> NDArray[np.float64]:
    """Return how often each image with objects comes if each class is drawn as often, and then one of its images.

    Their sum is the number of images with objects (Shen et al., Relay backpropagation, ECCV 2016). Others have 0.

    Args:
        objects: The objects of the split.
    """
    image_rows, labels = objects.pairs()
    images_of_class = np.bincount(labels, minlength=len(objects.class_names))
    weights = np.bincount(image_rows, 1 / images_of_class[labels], minlength=objects.num_images)
    scaled: NDArray[np.float64] = weights * (objects.in_image.sum() / np.count_nonzero(images_of_class))
    return scaled
