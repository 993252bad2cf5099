"""Errors whose message is shown to the user without a traceback, and requests to stop."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

Kinds = type[Exception] | tuple[type[Exception], ...]
"""Of exceptions, as `except` takes them."""

STOP_SIGNALS: tuple[signal.Signals, ...] = tuple(
    number for number in signal.Signals if number.name in ("SIGTERM", "SIGINT", "SIGUSR1", "SIGHUP")
)
"""Signals that ask a process to stop. Windows lacks two of them, and is answered by `cli.main`, not while importing."""


def answered_signals() -> list[signal.Signals]:
    """Return `STOP_SIGNALS`, without SIGHUP where nohup(1) has the process ignore it."""
    return [n for n in STOP_SIGNALS if n.name != "SIGHUP" or signal.getsignal(n) is not signal.SIG_IGN]


class UserError(Exception):
    """An error that the user can fix. The message says what is wrong, where, and what to do."""

    exit_code = 1
    """Exit status of the command that ends with this error: 1 failed, 2 usage or configuration."""


class ConfigError(UserError):
    """A configuration that cannot be read or is not valid."""

    exit_code = 2


@contextmanager
def writing(option: str, path: Path, error: type[UserError] = ConfigError) -> Iterator[None]:
    """Turn an `OSError` of the block into one message that names the option or key, the path and the reason.

    Args:
        option: The option or key that gives the path: `--out`, `output.dir`.
        path: The file or directory that is written.
        error: The error that is raised.

    Raises:
        UserError: Of the given kind.
    """
    with explaining(OSError, f"{option}: cannot write {path}", error):
        yield


@contextmanager
def explaining(kinds: Kinds, what: str, error: type[UserError]) -> Iterator[None]:
    """Turn an error of the block into one line, `what: reason`.

    Args:
        kinds: Kinds of the errors.
        what: What failed, and where.
        error: The error that is raised.

    Raises:
        UserError: Of the given kind.
    """
    try:
        yield
    except kinds as failure:
        reason = getattr(failure, "strerror", None) or " ".join(str(failure).split())[:500]
        raise error(f"{what}: {reason or type(failure).__name__}") from None


class Interrupted(SystemExit):
    """A request to stop, answered: by a signal (exit status 128 + signal) or by a time limit (124).

    It is a `SystemExit` and no `Exception`, so that error handlers do not catch it.

    Args:
        status: Exit status.
        advice: The last line to print, the command that resumes the run. Empty if the same command does.
    """

    def __init__(self, status: int, advice: str = "") -> None:
        super().__init__(status)
        self.status, self.advice = status, advice
