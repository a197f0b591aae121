import pytest

from maskseg.core.errors import InputError
from maskseg.core.limits import FLOOR, IMAGE, LABELS, MOST, PARTS, allowed, check_claim


def test_small_things_are_believed_and_large_ones_as_far_as_the_file_bears_them_out():
    check_claim(FLOOR, 1)
    stored = FLOOR // 16
    check_claim(IMAGE * stored, stored)
    with pytest.raises(InputError, match="claims to hold"):
        check_claim(FLOOR + 1, 1000)
    with pytest.raises(InputError, match=r"20000 x 20000 pixels, 1\.12 GB, in a file of 312 bytes.*MASKSEG_MAX_GB"):
        check_claim(1_200_000_000, 312, what="20000 x 20000 pixels")


def test_what_is_decoded_whole_has_an_end_and_what_is_read_in_parts_has_none():
    assert allowed(1 << 50) == allowed(1 << 50, LABELS) == MOST
    assert allowed(1 << 50, PARTS) > 1 << 50


def test_the_limit_can_be_raised_and_lowered(monkeypatch):
    monkeypatch.setenv("MASKSEG_MAX_GB", "0.5")
    check_claim(1 << 29, 1)
    with pytest.raises(InputError):
        check_claim((1 << 29) + 1, 1 << 29)
    for wrong in ("", "much", "nan", "-1", "inf"):
        monkeypatch.setenv("MASKSEG_MAX_GB", wrong)
        with pytest.raises(InputError, match="give a number of gigabytes"):
            check_claim(1, 1)
