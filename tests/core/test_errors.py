import pytest

from maskseg.core.errors import located, without_place


@pytest.mark.parametrize("where", ["a/x.json", "a/x.json: image 3", "a/x.json: image 3: region 2", "a.zip:in/x.xml"])
@pytest.mark.parametrize("reason", ["no JSON; export it again", "2 points: an outline has three; draw it again"])
def test_the_place_comes_before_the_reason_and_once(where, reason):
    line = located(where, reason)
    assert line == f"{where}: {reason}"
    assert located(where, line) == line, "named already"
    assert located(where, f"{where.split(': ')[0]}: {reason}") == line, "the file alone was named"
    assert without_place(where, line) == reason


def test_a_reason_that_names_another_file_keeps_it():
    reason = "masks/x.tif: no TIFF; write it again"
    assert located("images/x.png", reason) == without_place("images/x.png", reason) == reason
    assert located("a/x.json", "x.json: no JSON") == "a/x.json: no JSON", "the same file without its folder"
    assert located("", "no JSON") == "no JSON"
