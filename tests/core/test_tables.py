import csv

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskseg.core.tables import plain, write_csv
from maskseg.core.text import printable


def written(tmp_path, *rows, columns=("a", "b"), **options):
    write_csv(tmp_path / "t.csv", columns, rows, **options)
    with (tmp_path / "t.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))[1:]


@pytest.mark.parametrize(
    "name", ["=1+1", "+cmd|' /C calc'!A0", "-x", "@SUM(A1)", " =1", "\t=1", "\r=1", "'=1", "\uff1d1"]
)
def test_a_name_that_looks_like_a_formula_stays_a_text_and_comes_back(name, tmp_path):
    ((first, _),) = written(tmp_path, (name, 1))
    assert first.startswith("'")
    assert plain(first) == printable(name) or name.startswith(("\t", "\r"))
    assert written(tmp_path, (name.strip(), 1), exact=True)[0][0] == name.strip()


@pytest.mark.parametrize("number", ["-1.5", "+3", "-1e-05", "-inf", -2, -0.25])
def test_numbers_stay_numbers(number, tmp_path):
    assert written(tmp_path, (number, None)) == [[str(number), ""]]


@given(st.text())
def test_a_text_never_begins_a_formula_nor_holds_control_characters(name):
    from maskseg.core.tables import _safe

    cell = _safe(name)
    assert cell.isascii() or cell.encode("utf-8")
    assert not any(ord(character) < 32 or ord(character) == 127 for character in cell)
    if cell[:1] in ("=", "+", "-", "@"):
        float(cell)


def test_mappings_have_empty_cells_for_what_they_lack(tmp_path):
    assert written(tmp_path, {"b": "x\ny", "c": 3}, {"a": "\udcff"}) == [["", "x\\ny"], ["\\udcff", ""]]
