import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from maskseg.core.errors import InputError
from maskseg.core.masks import CropMasks
from maskseg.core.rle import runs_to_crop
from maskseg.formats.kaggle import ONE_ROW, write_submission
from maskseg.formats.kaggle_reader import read_encoded, read_submission
from maskseg.formats.submission_check import check_submission

label_images = hnp.arrays(np.int32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.integers(0, 5))


def labels_of(runs, shape):
    crops = [runs_to_crop(*run, shape) for run in runs]
    return CropMasks(shape, np.array([box for box, _ in crops]), [bitmap for _, bitmap in crops]).to_labels()


@pytest.mark.slow
@given(st.lists(label_images, max_size=4))
def test_what_is_written_is_valid_and_comes_back(tmp_path_factory, images):
    path = tmp_path_factory.mktemp("rle") / "submission.csv"
    masks = {f"image {i}": CropMasks.from_labels(labels) for i, labels in enumerate(images)}
    sizes = {name: one.shape for name, one in masks.items()}
    write_submission(path, masks.items())
    assert check_submission(path, sizes) == []
    back = read_submission(path, sizes)
    assert list(back) == list(masks)
    for name, runs in back.items():
        assert (labels_of(runs, sizes[name]) == masks[name].to_labels()).all()


def test_the_format_is_kaggle_s(tmp_path):
    labels = np.zeros((4, 5), int)
    labels[1:3, 0:2] = 1
    labels[3, 4] = 2
    path = tmp_path / "s.csv"
    write_submission(path, [("a", CropMasks.from_labels(labels)), ("b", CropMasks.empty((4, 5)))])
    assert path.read_bytes() == b"ImageId,EncodedPixels\na,2 2 6 2\na,20 1\nb,\n"


def test_overlaps_go_to_the_higher_score(tmp_path):
    boxes = np.array([[0, 0, 2, 4], [1, 0, 3, 4], [1, 0, 2, 4]])
    masks = CropMasks((4, 5), boxes, [np.ones((4, 2)), np.ones((4, 2)), np.ones((4, 1))], [0.5, 0.9, 0.1])
    masks.bitmaps = [bitmap.astype(bool) for bitmap in masks.bitmaps]
    path = tmp_path / "s.csv"
    write_submission(path, [("a", masks)])
    assert path.read_text().splitlines()[1:] == ["a,1 4", "a,5 8"]
    assert check_submission(path, {"a": (4, 5)}) == []


def test_a_failure_half_way_leaves_the_former_file(tmp_path):
    path = tmp_path / "s.csv"
    path.write_text("former")

    def images():
        yield "a", CropMasks.empty((4, 5))
        yield "a", CropMasks.empty((4, 5))

    with pytest.raises(InputError, match="image a comes twice"):
        write_submission(path, images())
    assert path.read_text() == "former"
    assert list(tmp_path.iterdir()) == [path]


SIZES = {"a": (4, 5), "b": (4, 5)}
VALID = "ImageId,EncodedPixels\na,1 2 5 2\na,3 2 7 1\nb,\n"


def faults_of(tmp_path, text, sizes=SIZES):
    path = tmp_path / "s.csv"
    path.write_text(text, newline="")
    return [str(fault) for fault in check_submission(path, sizes)]


@pytest.mark.parametrize("text", [VALID, VALID.replace("\n", "\r\n"), "\ufeff" + VALID, VALID.rstrip("\n")])
def test_a_valid_file_has_no_fault(tmp_path, text):
    path = tmp_path / "s.csv"
    path.write_text(text, newline="", encoding="utf-8")
    assert check_submission(path, SIZES) == []


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("a,3 2 7 1", "a,2 2", "line 3: image a: overlaps line 2"),
        ("a,3 2 7 1", "a,4 3", "line 3: image a: overlaps line 2"),  # runs over both a gap and a run
        ("a,3 2 7 1", "a,20 2", "line 3: image a: a run is out of range"),
        ("a,3 2 7 1", "a,0 2", "line 3: image a: a run is out of range"),
        ("a,3 2 7 1", "a,7 1 3 2", "line 3: image a: runs are not sorted"),
        ("a,3 2 7 1", "a,7 3 8 1", "line 3: image a: runs of one mask overlap"),
        ("a,3 2 7 1", "a,3 2 7", "line 3: image a: run lengths come in pairs"),
        ("a,3 2 7 1", "a,3 two", "line 3: image a: run lengths are not whole numbers"),
        ("a,3 2 7 1", "a,3 0", "line 3: image a: a run of length 0"),
        ("a,3 2 7 1", "c,3 2 7 1", "line 3: image c is unknown"),
        ("a,3 2 7 1", "a,1 2 5 2", "line 3: image a: the same row as line 2"),
        ("a,3 2 7 1", "a,1 1 2 1 5 2", "line 3: image a: the same row as line 2"),  # the same pixels
        ("a,3 2 7 1", "a,", "line 3: image a: an empty row beside rows with nuclei"),
        ("a,3 2 7 1", "a,3,2", "line 3: 3 columns where the header has 2"),
        ("a,3 2 7 1", "b,", "line 4: image b: the same row as line 3"),
        ("b,\n", "", "image b is missing: without masks it needs a row `b,`"),
        (
            "ImageId",
            "image_id",
            "line 1: the header is 'image_id,EncodedPixels' and must be ImageId,EncodedPixels",
        ),
    ],
)
def test_each_fault_is_named_with_its_line(tmp_path, old, new, fault):
    assert old in VALID
    (found,) = faults_of(tmp_path, VALID.replace(old, new))
    assert found.startswith(fault)


def test_columns_beside_kaggle_s_are_a_fault_and_hide_none(tmp_path):
    text = "ImageId,EncodedPixels,Height\na,1 2,4\na,2 2,4\n"
    faults = faults_of(tmp_path, text, {"a": (4, 5)})
    assert [fault.split(":")[0] for fault in faults] == ["line 1", "line 3"]


def test_all_faults_of_a_file_are_found_in_order(tmp_path):
    text = "ImageId,EncodedPixels\nb,9 2\na,1 5\nx,1 1\nb,1 2\na,5 1\na,90 1\nb,10 4\n"
    assert [fault.split(":")[0] for fault in faults_of(tmp_path, text)] == [
        "line 4",
        "line 6",
        "line 7",
        "line 8",
    ]


def test_an_empty_file_is_a_fault(tmp_path):
    assert faults_of(tmp_path, "")[0].startswith("line 1: the header is ''")


@pytest.mark.slow
@given(st.lists(hnp.arrays(bool, (6, 7)), min_size=2, max_size=5))
def test_every_row_that_overlaps_another_is_named(tmp_path_factory, stack):
    path = tmp_path_factory.mktemp("rle") / "s.csv"
    rows = ["ImageId,EncodedPixels"]
    kept = []
    for mask in stack:
        text = " ".join(f"{pixel + 1} 1" for pixel in np.flatnonzero(mask.ravel(order="F")))
        if text and f"a,{text}" not in rows:
            rows.append(f"a,{text}")
            kept.append(mask)
    path.write_text("\n".join(rows) + "\n")
    named = set()
    for fault in check_submission(path, {"a": (6, 7)} if kept else {}):
        late = fault.line
        early = int(str(fault).rpartition("line ")[2])
        assert (kept[late - 2] & kept[early - 2]).any()
        named |= {late, early}
    overlapping = {
        i + 2 for i, one in enumerate(kept) if any((one & two).any() for j, two in enumerate(kept) if i != j)
    }
    assert named == overlapping


def test_sizes_come_from_the_file_where_it_has_them(tmp_path):
    path = tmp_path / "truth.csv"
    path.write_text("ImageId,EncodedPixels,Height,Width,Usage\na,1 2,4,5,Public\na,4 1,4,5,Public\nb,,6,7.0,Private\n")
    found = read_encoded(path)
    assert {name: image.shape for name, image in found.items()} == {"a": (4, 5), "b": (6, 7)}
    assert [len(image.masks()) for image in found.values()] == [2, 0]
    assert found["a"].masks().to_labels().ravel(order="F")[:5].tolist() == [1, 1, 0, 2, 0]
    with pytest.raises(InputError, match=r"line 2.*4 x 5 pixels.*has 5 x 4"):
        found["a"].masks((5, 4))


def test_what_cannot_be_read_is_named_with_its_line(tmp_path):
    path = tmp_path / "s.csv"
    for text, sizes, says in [
        (VALID, {"a": (4, 5)}, "line 4: image b: its size is not known"),
        (VALID, {"a": (2, 2), "b": (4, 5)}, "line 2: image a: a run is out of range"),
        ("Id,Pixels\n", SIZES, "line 1: the header is 'Id,Pixels'"),
        ("ImageId,EncodedPixels,Height,Width\na,1 1,x,5\n", SIZES, "line 2: Height and Width"),
        (
            "ImageId,EncodedPixels,Height,Width\na,1 1,4,5\na,2 1,5,5\n",
            {},
            "line 3: image a has another Height",
        ),
    ]:
        path.write_text(text)
        with pytest.raises(InputError, match=says) as error:
            read_submission(path, sizes)
        assert str(error.value).startswith(str(path))
    path.write_bytes(b"\x89PNG\xff\xfe\x00")
    with pytest.raises(InputError, match="is not text"):
        read_submission(path, SIZES)
    with pytest.raises(InputError, match="cannot be read"):
        read_submission(tmp_path / "none.csv", SIZES)


def test_a_mask_longer_than_csv_s_own_limit_is_read(tmp_path):
    shape = (2, 60_000)
    labels = np.zeros(shape, np.int32)
    labels[0] = 1
    path = tmp_path / "s.csv"
    write_submission(path, [("slide", CropMasks.from_labels(labels))])
    assert path.stat().st_size > 2 * 131_072
    assert (labels_of(read_submission(path, {"slide": shape})["slide"], shape) == labels).all()


def test_one_row_an_image_holds_all_of_its_masks_by_columns_from_one(tmp_path):
    labels = np.zeros((4, 5), int)
    labels[1:3, 0:2] = 1
    labels[3, 1] = 2  # touches the other in its column: one run
    labels[0:2, 4] = 3
    path = tmp_path / "s.csv"
    images = [("10", CropMasks.from_labels(labels)), ("2", CropMasks.empty((4, 5)))]
    write_submission(path, images, ONE_ROW)
    assert path.read_bytes() == b"img,pixels\n10,2 2 6 3 17 2\n2,\n"
    assert check_submission(path, {"10": (4, 5), "2": (4, 5)}) == []


@pytest.mark.slow
@given(label_images)
def test_one_row_decoded_by_hand_is_the_mask(tmp_path_factory, labels):
    path = tmp_path_factory.mktemp("rle") / "submission.csv"
    write_submission(path, [("1", CropMasks.from_labels(labels))], ONE_ROW)
    numbers = [int(text) for text in path.read_text().splitlines()[1].partition(",")[2].split()]
    pixels = np.zeros(labels.size, bool)
    for start, length in zip(numbers[::2], numbers[1::2], strict=True):
        pixels[start - 1 : start - 1 + length] = True
    decoded = pixels.reshape(labels.shape[::-1]).T
    assert (decoded == (labels > 0)).all()
    (back,) = read_encoded(path).values()
    assert (back.masks(labels.shape).to_labels() > 0).tolist() == (labels > 0).tolist()


@pytest.mark.parametrize(
    ("rows", "fault"),
    [
        ("1,1 2\n1,5 2\n2,\n", "line 3: image 1: a second row, the first is line 2"),
        ("1,\n1,5 2\n2,\n", "line 3: image 1: a second row, the first is line 2"),
        ("1,x\n1,5 2\n2,\n", "line 3: image 1: a second row, the first is line 2"),
        ("1,5 2 1 2\n2,\n", "line 2: image 1: runs are not sorted by their start"),
        ("1,1 3 3 2\n2,\n", "line 2: image 1: runs of one mask overlap"),
        ("1,20 2\n2,\n", "line 2: image 1: a run is out of range"),
        ("1,\n", "image 2 is missing: without masks it needs a row `2,`"),
        ("1,\n2,\n3,1 1\n", "line 4: image 3 is unknown"),
    ],
)
def test_every_fault_of_one_row_an_image_is_named(tmp_path, rows, fault):
    path = tmp_path / "s.csv"
    path.write_text("img,pixels\n" + rows)
    assert any(str(one).startswith(fault) for one in check_submission(path, {"1": (4, 5), "2": (4, 5)}))
