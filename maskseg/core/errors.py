"""The one error that means "the input is wrong", told in one line."""


class InputError(ValueError):
    """Bad input from the user.

    The message is one line that names the file (or key) and the remedy. Commands print it without a traceback
    and exit with status 2; batch functions collect it and go on with the rest.
    """
