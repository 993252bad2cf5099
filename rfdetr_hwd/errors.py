"""Errors whose message is written for the user: the command line prints it and exits, without a traceback."""


class UserError(Exception):
    """Something the user can mend. The message says what was wrong, where, and what to do."""

    exit_code = 1
    """Exit status of the command that ends with this error: 1 failed, 2 usage or configuration."""


class ConfigError(UserError):
    """A configuration that cannot be read or is not valid."""

    exit_code = 2
