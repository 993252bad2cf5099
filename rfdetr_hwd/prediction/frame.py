"""An image to find objects in: a still, or a frame of a video."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import PIL.Image

from rfdetr_hwd.prediction.sources import Source


@dataclass(frozen=True)
class Moment:
    """The place of a frame in its video.

    Attributes:
        index: Its number, from 0.
        ticks: Its time since the first frame, in units of `tick`.
        tick: In seconds.
        rate: Frames per second of the video, on average.
    """

    index: int
    ticks: int
    tick: Fraction
    rate: Fraction

    @property
    def seconds(self) -> float:
        """Its time since the first frame."""
        return float(self.ticks * self.tick)


@dataclass(frozen=True)
class Frame:
    """An image to find objects in.

    Attributes:
        source: Where it is from.
        image: RGB image.
        moment: When, of a video.
    """

    source: Source
    image: PIL.Image.Image
    moment: Moment | None = None

    @property
    def place(self) -> Path:
        """Relative path of the image, that of no other; of a frame, as if the frames were files."""
        place = self.source.place
        return place if self.moment is None else place.with_name(f"{place.stem}-{self.moment.index:06}.jpg")

    @property
    def name(self) -> str:
        """Its name in messages."""
        return self.source.name if self.moment is None else f"{self.source.name}, frame {self.moment.index}"
