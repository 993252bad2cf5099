"""Equal parts of the training images, one of which is held out: cross-validation."""

_TOLERANCE = 0.05
"""How far 1 / fraction may be from a whole number: 0.33 is a third."""


def number_of_parts(fraction: float) -> int:
    """Return how many equal parts a fraction stands for: 5 for 0.2."""
    return round(1 / fraction)


def check_part(fraction: float | None, part: int) -> None:
    """Refuse a part that does not exist.

    Args:
        fraction: `data.val_fraction`.
        part: `data.val_part`.

    Raises:
        ValueError: There is no fraction, it is not that of two equal parts or more, or they are fewer than `part`.
    """
    if fraction is None:
        raise ValueError("val_part needs val_fraction, such as 0.2 for 5 parts")
    number = number_of_parts(fraction)
    if number < 2 or abs(1 / fraction - number) > _TOLERANCE:
        raise ValueError(f"val_fraction {fraction:g} makes no equal parts. With val_part, set 0.5, 0.333, 0.25, ...")
    if part > number:
        raise ValueError(f"val_part {part}: val_fraction {fraction:g} makes {number} parts, numbered from 1")
