"""XML: read without trusting the file, written element by element."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any
from xml.etree.ElementTree import Element, ParseError
from xml.sax.saxutils import XMLGenerator
from xml.sax.xmlreader import AttributesImpl

from defusedxml import DefusedXmlException, ElementTree

from maskseg.core.errors import InputError
from maskseg.core.files import check_file
from maskseg.core.text import printable


def read_xml(source: Path | bytes, name: str | None = None) -> Element:
    """The root of an XML file.

    Parameters
    ----------
    source : Path or bytes
        The file, or its content.
    name : str, optional
        What errors call it; the path where not given.

    Raises
    ------
    InputError
        If it is missing, malformed, or defines entities, as only an attack does.
    """
    name = name or (str(source) if not isinstance(source, bytes) else "annotations")
    if not isinstance(source, bytes):
        check_file(source, name)
        try:
            source = source.read_bytes()
        except OSError as error:
            raise InputError(f"{name}: cannot be read ({error.strerror}); check the path") from error
    try:
        return ElementTree.fromstring(source)
    except DefusedXmlException as error:
        raise InputError(f"{name}: defines XML entities, which may be an attack; export it again") from error
    except (ParseError, LookupError, ValueError) as error:
        raise InputError(f"{name}: malformed XML ({error}); export it again") from error


class XmlWriter:
    """XML written to a file as it comes, so that memory does not grow with it.

    Parameters
    ----------
    file : text file
    indent : str
        What a level is indented by; without it everything between elements is the caller's.
    """

    def __init__(self, file: IO[Any], indent: str = "") -> None:
        self._xml = XMLGenerator(file, "utf-8", short_empty_elements=True)
        self._indent, self._depth = indent, 0

    @contextmanager
    def element(self, name: str, **attributes: Any) -> Iterator[None]:
        """An element around what is written in the block."""
        self._line()
        self._xml.startElement(name, _texts(attributes))
        self._depth += 1
        yield
        self._depth -= 1
        self._line()
        self._xml.endElement(name)

    def leaf(self, name: str, text: str = "", **attributes: Any) -> None:
        """An element with nothing but a text in it, or nothing at all."""
        self._line()
        self._xml.startElement(name, _texts(attributes))
        if text:
            self._xml.characters(printable(text))
        self._xml.endElement(name)

    def text(self, text: str) -> None:
        """Text between elements, as it is."""
        self._xml.characters(text)

    def _line(self) -> None:
        if self._indent:
            self._xml.ignorableWhitespace("\n" + self._indent * self._depth)


def _texts(attributes: Mapping[str, Any]) -> AttributesImpl:
    return AttributesImpl({name: printable(str(value)) for name, value in attributes.items()})
