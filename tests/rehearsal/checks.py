"""What a part of the rehearsal says when something is wrong, and what it does not say."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager


def check(is_right: bool, what: str) -> None:
    """Raise what is wrong."""
    if not is_right:
        raise AssertionError(what)


@contextmanager
def silent(package: str) -> Iterator[None]:
    """Keep the warnings of a package from being printed: here they are expected."""
    logger = logging.getLogger(package)
    handler = logging.NullHandler()
    was_propagating, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = was_propagating
