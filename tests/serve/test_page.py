"""The page in a real browser, as a person uses it: see, correct, survive a crash, learn, take the labels home."""

import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
import tifffile

from maskseg.serve.session import Session

pytestmark = pytest.mark.slow


def picture(page, folder, name):
    """A screenshot, kept where MASKSEG_PICTURES says, for people to look at."""
    folder = Path(os.environ.get("MASKSEG_PICTURES", folder))
    folder.mkdir(parents=True, exist_ok=True)
    page.page.screenshot(path=folder / f"{name}.png")
    assert len((folder / f"{name}.png").read_bytes()) > 20_000, "an empty page"


def session_of(server, key, shape):
    """What the disk has, read by nobody but the code that reads logs."""
    session = Session(server.folder / "images" / key, shape)
    session.close()
    return session


def test_the_whole_way(serve, page_of, sample_images, tmp_path):
    server = serve()
    page = page_of(server.opened)
    assert "token" not in page.page.url
    page.drop(sample_images[:2])
    page.until("maskseg.store.images.size === 2")
    page.until("maskseg.store.image && maskseg.store.rows.size > 3", seconds=300)
    page.until("[...maskseg.store.images.values()].every(row => row.predicted)", seconds=300)
    key = page.js("maskseg.store.image.key")
    shape = (page.js("maskseg.store.image.height"), page.js("maskseg.store.image.width"))
    found = page.rows
    assert len(found) == page.page.locator("#rows .row").count()

    # Zoom, by keys and by buttons: nothing needs a wheel.
    before = page.js("maskseg.map.getView().getResolution()")
    page.key("+")
    page.until("r => maskseg.map.getView().getResolution() < r * 0.9", before)
    page.page.click("#zoom button >> nth=1")
    page.key("f")

    # A row shows its nucleus; a nucleus shows its row.
    inside = [
        row for row in found.values() if min(row["x0"], row["y0"], shape[1] - row["x1"], shape[0] - row["y1"]) > 4
    ]
    # One that the network is sure of: of others it may draw another outline when it is asked again.
    inner = max((row for row in inside if row["score"] > 0.95), key=lambda row: row["area"])
    page.page.click(f'#rows .row[data-id="{inner["id"]}"]')
    assert page.selection == {inner["id"]}
    page.page.wait_for_timeout(400)
    page.key("Escape")
    assert page.selection == set()
    page.click((inner["x0"] + inner["x1"]) / 2, (inner["y0"] + inner["y1"]) / 2)
    page.until("id => document.querySelector(`#rows .row[aria-selected=true]`)?.dataset.id == id", inner["id"])

    split_and_merge(page, inner, len(found))
    add_by_box(page, inner, len(found), server, key, shape)

    undo_and_redo(page, len(found), server, key)
    picture(page, tmp_path, "corrected")
    learn(page, tmp_path)

    # The labels that are taken home are those on the disk, pixel by pixel.
    page.js("key => document.querySelector(`.image[data-key='${key}']`).click()", key)
    page.until("key => maskseg.store.image.key === key", key)
    page.page.click('[data-tab="nuclei"]')
    with page.page.expect_download() as download:
        page.page.select_option("#download", "labels")
    labels = tifffile.imread(io.BytesIO(Path(download.value.path()).read_bytes()))
    np.testing.assert_array_equal(labels, session_of(server, key, shape).nuclei.masks()[1].to_labels())
    assert len(np.unique(labels)) == len(page.rows) + 1


def split_and_merge(page, inner, count):
    page.show(inner)
    page.key("s")
    middle = (inner["y0"] + inner["y1"]) / 2
    page.drag((inner["x0"] - 4, middle), (inner["x1"] + 4, middle))
    page.until_nuclei(count + 1)
    halves = page.selection
    assert len(halves) == 2 and sum(page.rows[half]["area"] for half in halves) == inner["area"]
    page.key("m")
    page.until_nuclei(count)
    (whole,) = page.selection
    assert {**page.rows[whole], "score": 0, "by_hand": 0} == {**inner, "score": 0, "by_hand": 0}


def add_by_box(page, inner, count, server, key, shape):
    before = server.get(f"/api/images/{key}/download/labels")
    truth = tifffile.imread(io.BytesIO(before))[inner["y0"] : inner["y1"], inner["x0"] : inner["x1"]]
    page.key("Delete")
    page.until_nuclei(count - 1)
    page.key("b")
    page.drag((inner["x0"], inner["y0"]), (inner["x1"], inner["y1"]))
    page.until_nuclei(count, seconds=180)
    (added,) = page.selection
    session = session_of(server, key, shape)
    x0, y0, x1, y1 = session.nuclei[added].box
    now = np.zeros(shape, bool)
    now[y0:y1, x0:x1] = session.nuclei[added].bitmap
    then = np.zeros(shape, bool)
    label = np.bincount(truth[truth > 0]).argmax()
    then[inner["y0"] : inner["y1"], inner["x0"] : inner["x1"]] = truth == label
    assert (now & then).sum() / (now | then).sum() > 0.6


def undo_and_redo(page, count, server, key):
    """Both survive a reload and a kill."""
    page.key("Control+z")
    page.until_nuclei(count - 1)
    page.key("Control+Shift+z")
    page.until_nuclei(count)
    page.key("Control+z")
    page.until_nuclei(count - 1)
    seen = page.rows
    page.page.reload()
    page.until_nuclei(len(seen))
    assert page.rows == seen
    server.kill()
    page.page.wait_for_selector("#say.bad", timeout=30_000)
    server.start()
    page.page.goto(f"{server.opened}#{key}")
    page.until("key => maskseg.store.image?.key === key", key)
    page.until_nuclei(len(seen))
    assert page.rows == seen
    page.key("Control+Shift+z")
    page.until_nuclei(count)


def learn(page, tmp_path):
    for row in page.page.locator("#image-list .image").all():
        key = row.get_attribute("data-key")
        row.click()
        page.until("key => maskseg.store.image.key === key", key)
        page.page.wait_for_timeout(500)
        picture(page, tmp_path, f"page-{key}")
        page.page.click("#review")
        page.until("maskseg.store.image.reviewed.length === 1")
    page.page.click('[data-tab="learn"]')
    page.page.fill("#iterations", "20")
    page.until("!document.getElementById('start-learning').disabled")
    page.page.click("#start-learning")
    page.until("document.querySelector('.training[data-state=done], #learn .bad')", seconds=1800)
    assert page.page.locator("#learn .bad").count() == 0, page.page.locator("#learn .bad").inner_text()
    for which in ("before", "after"):
        assert 0 < float(page.page.inner_text(f"#score-{which}")) <= 1
    page.until("[...document.querySelectorAll('.pair img')].every(one => one.complete && one.naturalWidth)")
    picture(page, tmp_path, "learned")
    page.page.click("#keep")
    page.page.wait_for_selector("#decided")
    page.until("maskseg.store.model.endsWith('model')")


@pytest.fixture
def corrected(serve, sample_images):
    """A server with an image and some rectangles for nuclei, made without the network."""
    server = serve(sample_images[1])
    key = server.get("/api/state")["images"][0]["key"]
    for k in range(6):
        x, y = 20 + 40 * (k % 3), 20 + 60 * (k // 3)
        ring = [[x, y], [x + 24, y], [x + 24, y + 30], [x, y + 30]]
        assert server.ask("POST", f"/api/images/{key}/edits", {"edit": {"op": "add", "ring": ring}})[0] == 200
    return server, key


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", [(1280, 720), (1920, 1080)])
def test_everything_is_in_sight(corrected, page_of, tmp_path, theme, size):
    server, _ = corrected
    page = page_of(server.opened, width=size[0], height=size[1], theme=theme)
    page.until_nuclei(6)
    page.page.wait_for_timeout(500)
    assert page.js("document.documentElement.scrollWidth <= innerWidth && document.body.scrollHeight <= innerHeight")
    cut = page.js(
        """[...document.querySelectorAll('button, select, input, h1, h2')].filter(one => {
          const box = one.getBoundingClientRect();
          return one.checkVisibility() && box.width && !one.closest('#image-list')
            && (box.right > innerWidth + 1 || box.bottom > innerHeight + 1 || one.scrollWidth > one.clientWidth + 2);
        }).map(one => one.id || one.textContent)"""
    )
    assert cut == []
    back = page.js("getComputedStyle(document.getElementById('panel')).backgroundColor")
    assert (sum(map(int, back[4:-1].split(","))) > 384) == (theme == "light")
    for tab in ("nuclei", "display", "learn"):
        page.page.click(f'[data-tab="{tab}"]')
        picture(page, tmp_path, f"{tab}-{size[0]}-{theme}")
    page.key("?")
    assert page.page.locator("#help").is_visible()
    picture(page, tmp_path, f"keys-{size[0]}-{theme}")


def test_every_tool_draws_what_it_says(corrected, page_of):
    server, key = corrected
    page = page_of(server.opened)
    page.until_nuclei(6)
    page.key("d")
    page.drag((150, 150), (180, 150), (180, 180), (150, 180))
    page.until_nuclei(7)
    (drawn,) = page.selection
    assert abs(page.rows[drawn]["area"] - 900) < 120
    page.key("p")
    page.drag((185, 165), (200, 165))
    page.until("a => [...maskseg.store.rows.values()].some(r => r.id === a[0] && r.area > a[1] + 50)", [drawn, 900])
    assert len(page.rows) == 7
    page.key("e")
    page.drag((172, 140), (172, 200))
    page.until_nuclei(8)
    page.key("Escape")
    page.key("o")
    page.page.wait_for_selector("#say.bad")
    page.page.click("#say")
    page.key("v")
    page.click(30, 30)
    page.page.keyboard.down("Shift")
    page.click(70, 30)
    page.page.keyboard.up("Shift")
    assert len(page.selection) == 2
    page.key("3")
    page.until("[...maskseg.store.rows.values()].filter(r => r.kind === 3).length === 2")
    page.key("g")
    page.drag((5, 5), (120, 120))
    page.until("maskseg.store.image.reviewed.length === 1")
    for _ in range(20):
        page.key("Control+z")
    page.until("maskseg.store.image.undo === ''")
    assert page.rows == {}
    assert server.get(f"/api/images/{key}")["count"] == 0


def hide_and_show_a_class(page):
    """What is hidden is not in the table, not in the picture, not selected with the others."""
    page.page.uncheck("#classes .class[data-kind='1'] input[type=checkbox]")
    page.until("document.querySelectorAll('#rows .row').length === 4")
    assert "4 of 6" in page.page.inner_text("#count")
    page.key("a")
    assert page.selection == {3, 4, 5, 6}
    page.key("Escape")
    page.click(30, 30)
    assert page.selection == set()
    page.page.check("#classes .class[data-kind='1'] input[type=checkbox]")
    page.page.click("#classes .class[data-kind='1'] .count")
    assert page.selection == {1, 2}


def test_classes_are_named_shown_and_hidden(corrected, page_of, tmp_path):
    server, _ = corrected
    page = page_of(server.opened)
    page.until_nuclei(6)
    # A class for what is selected, from the bar.
    page.js("maskseg.store.select([1, 2])")
    page.page.select_option("#kind", "new")
    page.until("document.activeElement.id === 'new-class'")
    page.page.keyboard.type("tumor")
    page.key("Enter")
    page.until("[...maskseg.store.rows.values()].filter(r => r.kind === 1).length === 2")
    # Another by the panel, given by its key.
    page.page.fill("#new-class", "stroma")
    page.page.click("#add-class")
    page.until("maskseg.store.classes.size === 3")
    assert [row["kind"] for row in page.rows.values()] == [1, 1, 0, 0, 0, 0]
    page.js("maskseg.store.select([3]); document.activeElement.blur()")
    page.key("2")
    page.until("maskseg.store.rows.get(3).kind === 2")
    page.until("document.querySelector('.row[data-id=\"3\"]').innerText.includes('stroma')")
    # The nuclei have the colours that QuPath has for these classes.
    assert page.js("[...maskseg.store.classes.values()].map(one => one.colour)")[:2] == ["#c80000", "#96c896"]
    picture(page, tmp_path, "classes")

    hide_and_show_a_class(page)

    # Renamed, here and in another window, and after a kill.
    other = page_of(server.opened)
    other.until_nuclei(6)
    name = page.page.locator("#classes .class[data-kind='1'] input[type=text]")
    name.fill("cancer")
    name.press("Enter")
    for one in (page, other):
        one.until("maskseg.store.nameOf(1) === 'cancer'")
        one.until("document.querySelector('.row[data-id=\"1\"]').innerText.includes('cancer')")
    name = page.page.locator("#classes .class[data-kind='1'] input[type=text]")
    name.fill("stroma")
    name.press("Enter")
    page.page.wait_for_selector("#say.bad")
    assert "another class" in page.page.inner_text("#say")
    page.until("document.querySelector('#classes .class[data-kind=\"1\"] input[type=text]').value === 'cancer'")
    server.kill()
    server.start()
    page.page.goto(server.opened)
    page.until_nuclei(6)
    assert [row["name"] for row in server.get("/api/classes")] == ["cancer", "stroma", "unclassified"]

    with page.page.expect_download() as download:
        page.page.select_option("#download", "geojson")
    features = json.loads(Path(download.value.path()).read_text())["features"]
    names = [one["properties"]["classification"]["name"] for one in features]
    assert names == ["cancer", "cancer", "stroma", "unclassified", "unclassified", "unclassified"]


def test_what_a_model_calls_its_classes_reaches_the_page(serve, page_of, sample_images, class_model, tmp_path):
    server = serve(sample_images[1], "--model", class_model)
    page = page_of(server.opened)
    page.page.click("#predict")
    page.until("maskseg.store.rows.size > 3", seconds=300)
    page.until("maskseg.store.classes.size === 3")
    kinds = [row["kind"] for row in page.rows.values()]
    assert set(kinds) == {2}
    page.page.wait_for_timeout(500)
    picture(page, tmp_path, "classes-of-a-model")
    named = {row["kind"]: row["name"] for row in server.get("/api/classes")}
    assert named == {1: "tumor", 2: "stroma", 0: "unclassified"}
    inside = [row for row in page.rows.values() if min(row["x0"], row["y0"]) > 4]
    one = max(inside, key=lambda row: row["area"])
    page.js("id => maskseg.store.select([id])", one["id"])
    page.show(one)
    page.key("Delete")
    page.until("id => !maskseg.store.rows.has(id)", one["id"])
    page.key("b")
    page.drag((one["x0"], one["y0"]), (one["x1"], one["y1"]))
    page.until("n => maskseg.store.rows.size === n", len(kinds), seconds=180)
    (added,) = page.selection
    assert page.rows[added]["kind"] == 2, "the network also says which class it is"


def test_the_histogram_selects(corrected, page_of):
    server, key = corrected
    ring = [[200, 10], [240, 10], [240, 90], [200, 90]]
    server.ask("POST", f"/api/images/{key}/edits", {"edit": {"op": "add", "ring": ring}})
    page = page_of(server.opened)
    page.until_nuclei(7)
    box = page.page.locator("#histogram").bounding_box()
    page.page.mouse.move(box["x"] + box["width"] - 2, box["y"] + 20)
    page.page.mouse.down()
    page.page.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + 20, steps=5)
    page.page.mouse.up()
    assert {page.rows[number]["area"] for number in page.selection} == {3200}


def test_two_windows_on_one_image(corrected, page_of):
    server, _ = corrected
    one, other = page_of(server.opened), page_of(server.opened)
    one.until_nuclei(6)
    other.until_nuclei(6)
    one.click(30, 30)
    one.key("Delete")
    one.until_nuclei(5)
    other.until_nuclei(5)
    # What the other window has not seen yet it may not change.
    other.js("maskseg.store.take = async () => {}; maskseg.store.reload = async () => {}")
    first = min(one.rows)
    other.js("id => maskseg.store.select([id])", first)
    one.js("id => maskseg.store.select([id])", first)
    one.key("5")
    one.until("id => maskseg.store.rows.get(id).kind === 5", first)
    other.key("Delete")
    other.page.wait_for_selector("#say.bad")
    assert "another window" in other.page.inner_text("#say")
    assert first in {row["id"] for row in one.rows.values()}


def test_what_is_no_image_is_said(serve, page_of, tmp_path):
    page = page_of(serve().opened)
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    for name in ("notes.txt", "broken.png"):
        page.drop([tmp_path / name])
        page.page.wait_for_selector("#say.bad")
        assert name in page.page.inner_text("#say")
        page.page.click("#say")
    assert page.js("maskseg.store.images.size") == 0
