"""The last message and the exit status of a command that fails or is stopped."""

import shlex
import sys

from rfdetr_hwd.console import printable, say
from rfdetr_hwd.errors import Interrupted, UserError
from rfdetr_hwd.runtime.launch import is_first, launcher


def say_last_words(error: BaseException) -> int:
    """Print why a command ends, and return its exit status.

    A `UserError` is one message. A stop request prints the command to resume with, on rank 0 alone. Anything else is a
    defect and has a traceback.
    """
    if isinstance(error, UserError):
        message = "\n".join([str(error), *getattr(error, "__notes__", [])])
        print(f"error: {printable(message)}", file=sys.stderr, flush=True)
        return error.exit_code
    if isinstance(error, Interrupted):
        if is_first():
            say(error.advice or f"Stopped. Start again with:\n{launcher()} {shlex.join(sys.argv[1:])}")
        return error.status
    sys.excepthook(type(error), error, error.__traceback__)
    return 1
