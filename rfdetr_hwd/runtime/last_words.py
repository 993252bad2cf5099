"""What a command ends with when it fails or is stopped: its last words and its exit status."""

import shlex
import sys

from rfdetr_hwd.console import printable, say
from rfdetr_hwd.errors import Interrupted, UserError
from rfdetr_hwd.runtime.launch import is_first, launcher


def say_last_words(error: BaseException) -> int:
    """Print why a command ends, and return its exit status.

    An error that is meant for the user is one message; a request to stop is answered by the command that continues, on
    the first of several processes; anything else is a defect, and has a traceback.
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
