"""Which classes a network is to tell apart."""

import pytest

from maskseg.core.errors import InputError
from maskseg.data.classes import UNKNOWN, assign_category_ids, chosen_classes, classes_of, rename_classes
from maskseg.formats.classes import ClassRule


def record(names, number=0, categories=()):
    return {"dataset": number, "categories": categories, "annotations": [{"class": name} for name in names]}


@pytest.mark.parametrize(
    ("records", "names"),
    [
        ([record([])], ("nucleus",)),
        ([record(["Tumor"])], ("Tumor",)),
        # Sets of one class each are all of nuclei.
        ([record(["nucleus"]), record(["cell"], 1)], ("nucleus",)),
        ([record(["b", "a"], categories=("a", "unused", "b"))], ("a", "b")),
        # Plain nuclei of another set, and those without a class, are of a class that is not known.
        ([record(["a", "b"]), record(["nucleus"], 1), record(["c"], 2)], ("a", "b", "c")),
        ([record(["a", "b", "unclassified"])], ("a", "b")),
        ([record(["a", "unclassified"])], ("a",)),
        ([record(["nucleus", "mitosis"])], ("nucleus", "mitosis")),
    ],
)
def test_classes_follow_from_the_data(records, names):
    assert classes_of(records) == names


def test_a_class_that_is_not_among_several_is_not_known():
    records = [record(["b", "a", "nucleus"])]
    assert assign_category_ids(records, ("a", "b")) == 1
    assert [item["category_id"] for item in records[0]["annotations"]] == [1, 0, UNKNOWN]
    assert assign_category_ids(records, ("whatever",)) == 0
    assert {item["category_id"] for item in records[0]["annotations"]} == {0}


def test_classes_are_renamed_in_records():
    records = [record(["a", "b", "c"], categories=("a", "b", "c"))]
    rename_classes(records, ClassRule.parse(None, ["ab=a,b"]))
    assert records[0]["categories"] == ("ab", "c")
    assert chosen_classes(records, ()) == ("ab", "c")
    with pytest.raises(InputError, match="no class 'typo'"):
        rename_classes(records, ClassRule.parse(None, ["x=typo"]))


@pytest.mark.parametrize(("names", "said"), [(("a", "a"), "each class once"), (("x", "y"), "there are a, b")])
def test_names_that_fit_nothing_are_refused(names, said):
    with pytest.raises(InputError, match=said):
        chosen_classes([record(["a", "b"])], names)
