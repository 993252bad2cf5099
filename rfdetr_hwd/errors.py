"""Errors whose message is written for the user: the command line prints it and exits, without a traceback."""


class UserError(Exception):
    """Something the user can mend. The message says what was wrong, where, and what to do."""

    exit_code = 1
    """Exit status of the command that ends with this error: 1 failed, 2 usage or configuration."""


class ConfigError(UserError):
    """A configuration that cannot be read or is not valid."""

    exit_code = 2


def printable(text: str) -> str:
    """Escape what could command a terminal or cannot be written: names and messages may come from anyone's files."""
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)


class Interrupted(SystemExit):
    """A request to stop, answered: by a signal (exit status 128 + signal) or by a time limit (124).

    It is an exit and no `Exception`, so that nothing which handles errors holds it up.

    Args:
        code: Exit status.
        advice: The last line to print: how to go on. `None`: another rank prints it; empty: nobody knows yet.
    """

    def __init__(self, code: int, advice: str | None = "") -> None:
        super().__init__(code)
        self.advice = advice
