"""Names of files that somebody else wrote: whatever they are, no file outside is read or written, and nobody is called.

Every field of every format that names an image gets every name of `tests.fixtures.watching.Outside`, among good ones.
"""

import csv
import io
import json
import shutil
import zipfile
from xml.sax.saxutils import quoteattr

import cv2
import numpy as np
import pytest

from maskseg.core.masks import CropMasks
from maskseg.formats.coco import to_annotations
from tests.fixtures.watching import Outside, watched

SHAPE = (40, 50)
SQUARE = [[4, 4], [20, 4], [20, 20], [4, 20]]
FLAT = [x for point in SQUARE for x in point]


@pytest.fixture
def outside(tmp_path):
    found = Outside(tmp_path / "outside")
    yield found
    found.close()


def write_images(folder):
    folder.mkdir(parents=True)
    for number, name in enumerate(("good", "other")):
        cv2.imwrite(str(folder / f"{name}.png"), np.full(SHAPE, 50 + number, np.uint8))


# ---- a source of each format, of which the images have these names ----


def coco(folder, names):
    images = [{"id": place, "file_name": name, "height": 40, "width": 50} for place, name in enumerate(names)]
    for image in images[: len(images) // 2]:
        image |= {"coco_url": image["file_name"], "flickr_url": image["file_name"], "path": image["file_name"]}
    items = [{"id": place, "image_id": place, "category_id": 1, "segmentation": [FLAT]} for place in range(len(names))]
    content = {"images": images, "annotations": items, "categories": [{"id": 1, "name": "nucleus"}]}
    (folder / "some.json").write_text(json.dumps(content))


def labelme(folder, names):
    for place, name in enumerate(names):
        shape = {"label": "x", "points": SQUARE, "shape_type": "polygon"}
        content = {"imagePath": name, "imageHeight": 40, "imageWidth": 50, "shapes": [shape], "version": "5.0"}
        (folder / f"{place:02}.json").write_text(json.dumps(content))


def via(folder, names):
    shape = {"name": "polygon", "all_points_x": [4, 20, 20], "all_points_y": [4, 4, 20]}
    region = {"shape_attributes": shape, "region_attributes": {}}
    records = {str(place): {"filename": name, "size": 1, "regions": [region]} for place, name in enumerate(names)}
    settings = {"core": {"default_filepath": names[0], "filepath": {"0": names[1]}}}
    (folder / "via.json").write_text(json.dumps({"_via_settings": settings, "_via_img_metadata": records}))


def via_csv(folder, names):
    columns = ("filename", "file_size", "file_attributes", "region_count", "region_id", "region_shape_attributes")
    shape = json.dumps({"name": "rect", "x": 4, "y": 4, "width": 9, "height": 9})
    write_csv(folder / "via.csv", columns, [(name, 1, "{}", 1, 0, shape) for name in names])


def labelstudio(folder, names):
    value = {"points": [[4, 5], [9, 5], [9, 20]], "polygonlabels": ["x"]}
    result = [{"original_width": 50, "original_height": 40, "value": value, "type": "polygonlabels"}]
    tasks = [
        {"annotations": [{"result": result}], "file_upload": name, "data": {key: name}}
        for name in names
        for key in ("image", "img")
    ]
    tasks += [
        {"annotations": [{"result": result}], "data": {"image": f"/data/local-files/?d={name}"}} for name in names
    ]
    (folder / "tasks.json").write_text(json.dumps(tasks))


def cvat(folder, names):
    def image(place, name):
        name = quoteattr(plain(name))
        polygon = '<polygon label="x" points="4,4;20,4;20,20"/>'
        return f'<image id="{place}" name={name} width="50" height="40">{polygon}</image>'

    images = "".join(image(place, name) for place, name in enumerate(names))
    source = f"<meta><task><source>{plain(names[0])}</source></task></meta>"
    (folder / "annotations.xml").write_text(f"<annotations>{source}{images}</annotations>", encoding="utf-8")


def rle(folder, names):
    write_csv(folder / "masks.csv", ("ImageId", "EncodedPixels"), [(name, "3 4 50 4") for name in names])


def yolo(folder, names):
    (folder / "labels").mkdir()
    for name in ("good", "other"):
        (folder / "labels" / f"{name}.txt").write_text("0 .1 .1 .4 .1 .4 .4\n")
    paths = "\n".join(f"  - {json.dumps(name)}" for name in names)
    (folder / "data.yaml").write_text(f"path: {json.dumps(names[0])}\ntrain:\n{paths}\nval: {names[1]!r}\nnames: [x]\n")
    (folder / "train.txt").write_text("\n".join(plain(name) for name in names), encoding="utf-8")


def cellpose(folder, names):
    for name in ("good", "other"):
        cv2.imwrite(str(folder / f"{name}.png"), np.full(SHAPE, 50, np.uint8))
    labels = np.zeros(SHAPE, np.uint16)
    labels[4:9, 4:9] = 1
    for place, name in enumerate(names):
        saved = np.array({"masks": labels, "outlines": labels, "filename": plain(name)}, object)
        np.save(folder / f"{'good' if place == 0 else place}_seg.npy", saved, allow_pickle=True)


def zipped(folder, names):
    """Labelme files and images by these names in a zip file."""
    picture = cv2.imencode(".png", np.full(SHAPE, 50, np.uint8))[1].tobytes()
    shape = {"label": "x", "points": SQUARE, "shape_type": "polygon"}
    with zipfile.ZipFile(folder / "set.zip", "w") as archive:
        for name in dict.fromkeys(map(plain, names)):
            if name and len(name) < 5000 and "\0" not in name:
                archive.writestr(name, picture)
                content = {"imagePath": name, "imageHeight": 40, "imageWidth": 50, "shapes": [shape]}
                archive.writestr(f"{name}.json", json.dumps(content))
    return folder / "set.zip"


def zipped_masks(folder, names):
    """Images and label images by these names in a zip file."""
    picture = cv2.imencode(".png", np.full(SHAPE, 50, np.uint8))[1].tobytes()
    with zipfile.ZipFile(folder / "set.zip", "w") as archive:
        for name in dict.fromkeys(map(plain, names)):
            if name and len(name) < 5000 and "\0" not in name:
                archive.writestr(f"images/{name}", picture)
                archive.writestr(f"masks/{name}", picture)
                archive.writestr(name, picture)
    return folder / "set.zip"


def plain(name):
    """A value as text that UTF-8 and XML can have."""
    text = name if isinstance(name, str) else str(name)[:99]
    return "".join(letter for letter in text if letter >= " " and not "\ud800" <= letter <= "\udfff")


def write_csv(path, columns, rows):
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(columns)
    writer.writerows([plain(row[0]), *row[1:]] for row in rows)
    path.write_text(text.getvalue(), encoding="utf-8")


SOURCES = (coco, labelme, via, via_csv, labelstudio, cvat, rle, yolo, cellpose, zipped, zipped_masks)
# In this process, which is watched.
ALONE = ("--workers", 1)
COMMANDS = {
    "convert": lambda source, images, out: ("convert", "auto", source, "-o", out, "--images", images, *ALONE),
    "convert beside": lambda source, _, out: ("convert", "auto", source, "-o", out, *ALONE),
    "export": lambda source, images, out: ("export", source, "-o", out, "--to", "labels", "--images", images, *ALONE),
    "export all": lambda source, images, out: (
        "export", source, "-o", out, "--to", "folders", "--images", images, *ALONE
    ),
    "evaluate": lambda source, images, out: (
        "evaluate", "--truth", source, "--pred", source, "--images", images, "-o", out
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("write", SOURCES, ids=lambda write: write.__name__)
def test_of_annotations(maskseg, tmp_path, outside, write, monkeypatch):
    mine, out = tmp_path / "mine", tmp_path / "out"
    write_images(mine / "images")
    (mine / "source").mkdir()
    source = write(mine / "source", ["good.png", *outside.names]) or mine / "source"
    before = contents(mine)
    monkeypatch.chdir(mine)
    done = set()
    for name, words in COMMANDS.items():
        (out / name).mkdir(parents=True)
        with watched() as touched:
            status, said, err = maskseg(*words(source, mine / "images", out / name))
        outside.check_touched(touched, mine, out)
        assert status in (0, 1, 2), err
        assert "Traceback" not in err and "\x1b" not in said + err and "fault of maskseg" not in err, err
        assert "No such option" not in err
        done |= {path.stem for path in (out / name).rglob("*.*")}
    # What is good is not lost to the others.
    assert "good" in done or write is zipped_masks
    assert contents(mine) == before


def contents(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


# ---- a data set of one's own that somebody else made ----

OWN = {
    "check": lambda data, out: ("check", data, "--page", out / "page.html", "--table", out / "t.csv", *ALONE),
    "check --fix": lambda data, out: ("check", data, "--fix", out / "fixed", *ALONE),
    "split": lambda data, _: ("split", data),
    "pack": lambda data, out: ("pack", data, "-o", out / "packed", *ALONE),
    "report": lambda data, out: ("report", "data", data, "-o", out / "page.html"),
    "export": lambda data, out: ("export", data, "-o", out / "folders", "--to", "folders", *ALONE),
    "evaluate": lambda data, out: ("evaluate", "--truth", data, "--pred", data, "-o", out / "scores"),
    "run": lambda data, out: ("report", "run", "--truth", data, "--pred", data, "-o", out / "run.html"),
}


def own_data(folder, names, **fields):
    write_images(folder / "images")
    labels = np.zeros(SHAPE, np.int32)
    labels[4:20, 4:20] = 1
    annotations = to_annotations(CropMasks.from_labels(labels))
    images, items = [], []
    for number, name in enumerate(names):
        given = {key: value[number] for key, value in fields.items()}
        images.append({"id": number, "file_name": name, "height": 40, "width": 50, **given})
        items += [{**one, "id": number, "image_id": number, "category_id": 1} for one in annotations]
    content = {"images": images, "annotations": items, "categories": [{"id": 1, "name": "nucleus"}]}
    (folder / "annotations.json").write_text(json.dumps(content))


def run_all(maskseg, outside, mine, out):
    for name, words in OWN.items():
        (out / name).mkdir(parents=True)
        with watched() as touched:
            status, said, err = maskseg(*words(mine / "data", out / name))
        # A split is written into the data set.
        outside.check_touched(touched, mine, mine / "data" if name == "split" else out)
        assert status in (0, 1, 2), err
        assert "Traceback" not in err and "\x1b" not in said + err and "No such option" not in err, err
        written = [path for path in out.rglob("*") if path.suffix in (".html", ".csv", ".json", ".txt")]
        assert not [path for path in written if b"\x1b" in path.read_bytes()]


# One of each kind that leads elsewhere, and of each that is no name.
@pytest.mark.slow
@pytest.mark.parametrize("place", [0, 2, 5, 6, 8, 10, 13, 19, 22, 23, 24, 31, 34, 40, 41, 44, 46])
def test_of_a_data_set(maskseg, tmp_path, outside, place):
    mine, out = tmp_path / "mine", tmp_path / "out"
    own_data(mine / "data", ["good.png", outside.names[place]])
    run_all(maskseg, outside, mine, out)


@pytest.mark.slow
def test_of_modalities_groups_and_parts(maskseg, tmp_path, outside):
    """Which might name files and folders of what is written."""
    mine, out = tmp_path / "mine", tmp_path / "out"
    texts = [name for name in outside.names if isinstance(name, str) and "\ud800" not in name]
    names = [f"{number}.png" for number in range(len(texts))]
    own_data(mine / "data", names, modality=texts, group=texts, microns_per_pixel=texts)
    for name in names:
        shutil.copy(mine / "data" / "images" / "good.png", mine / "data" / "images" / name)
    run_all(maskseg, outside, mine, out)
    rows = [{"image_id": text, "part": text, "modality": text, "group": text, "mosaic": text} for text in texts]
    write_csv(mine / "data" / "split.csv", list(rows[0]), [list(row.values()) for row in rows])
    shutil.rmtree(out)
    run_all(maskseg, outside, mine, out)
