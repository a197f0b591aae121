import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskseg.core.errors import InputError
from maskseg.core.text import printable
from maskseg.core.xml_files import XmlWriter, read_xml


@pytest.mark.slow
@pytest.mark.parametrize("indent", ["", "\t"])
@given(name=st.text(), text=st.text(min_size=1))
def test_any_text_comes_back_as_what_can_be_printed_of_it(indent, name, text):
    file = io.StringIO()
    xml = XmlWriter(file, indent)
    with xml.element("Outer", Name=name):
        xml.leaf("Inner", text, Number=3)
        xml.leaf("Empty")
    root = read_xml(file.getvalue().encode())
    assert root.get("Name") == printable(name)
    assert root.find("Inner").text == printable(text)
    assert [child.tag for child in root] == ["Inner", "Empty"]


@pytest.mark.parametrize(
    "content",
    [b"", b"<a>", b"\xff\xfe", b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', b'<?xml version="1.0" encoding="no"?><a/>'],
)
def test_what_is_no_sound_xml_is_one_line(content, tmp_path):
    (tmp_path / "a.xml").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.xml: .*export it again") as error:
        read_xml(tmp_path / "a.xml")
    assert "\n" not in str(error.value)
