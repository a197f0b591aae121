"""Text from elsewhere, such as names of files, made fit for the files that it is written to."""

from __future__ import annotations

import re

# What is no character of a text: control characters, and the halves of surrogate pairs that stand for bytes of a name
# that is no UTF-8. What turns the direction of all text behind it would disguise the rest of a line.
_NOT_TEXT = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")
_SHORT = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}


def printable(text: str) -> str:
    r"""Text with its control characters, and bytes that are no text, written as escapes.

    Examples
    --------
    >>> printable("cell\n\x07")
    'cell\\n\\x07'
    """
    return _NOT_TEXT.sub(lambda match: _SHORT.get(match[0]) or _escape(match[0]), text)


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
