"""50,000 nuclei on 16384 x 16384 pixels in a real browser; what it takes is printed, not judged: machines differ."""

import numpy as np
import pytest
import tifffile

from maskseg.core.masks import CropMasks
from maskseg.serve.workspace import Workspace

pytestmark = pytest.mark.slow

SIDE, ACROSS = 16384, 224
CELL = SIDE // ACROSS


def nucleus(random):
    """An ellipse, bool (h, w)."""
    a, b = random.uniform(14, 30, 2)
    y, x = np.mgrid[-b : b + 1, -a : a + 1]
    return (x / a) ** 2 + (y / b) ** 2 <= 1


@pytest.fixture(scope="module")
def slide(tmp_path_factory):
    """A workspace with a pyramid of tiles and its nuclei."""
    folder = tmp_path_factory.mktemp("large")
    random = np.random.default_rng(0)
    shapes = [nucleus(random) for _ in range(200)]
    boxes, bitmaps = [], []
    for k in range(50_000):
        bitmap = shapes[k % len(shapes)]
        height, width = bitmap.shape
        y, x = divmod(k, ACROSS)
        x0 = x * CELL + int(random.integers(0, max(1, CELL - width)))
        y0 = y * CELL + int(random.integers(0, max(1, CELL - height)))
        boxes.append((x0, y0, x0 + width, y0 + height))
        bitmaps.append(bitmap)
    masks = CropMasks((SIDE, SIDE), np.array(boxes), bitmaps, random.uniform(0.75, 1, len(boxes)))
    image = np.tile(random.integers(10, 40, (1024, 1024), np.uint8), (16, 16))
    for (x0, y0, x1, y1), bitmap in zip(boxes, bitmaps, strict=True):
        image[y0:y1, x0:x1][bitmap] += 120
    path = folder / "slide.tif"
    with tifffile.TiffWriter(path, bigtiff=True) as file:
        options = {"tile": (512, 512), "compression": "zlib", "compressionargs": {"level": 1}}
        file.write(image, subifds=4, **options)
        for level in range(1, 5):
            file.write(image[:: 2**level, :: 2**level], subfiletype=1, **options)
    workspace = Workspace(folder / "work", [str(path)])
    (item,) = workspace.items
    workspace.session(item.key).predicted(masks, "made up")
    workspace.close()
    return path, folder / "work", item.key


def frames(page, seconds=3):
    """Frames a second while the picture moves."""
    return page.page.evaluate(
        """seconds => new Promise(resolve => {
          const view = maskseg.map.getView(), [x, y] = view.getCenter(), step = view.getResolution() * 4;
          let count = 0;
          // As a hand does that drags.
          view.beginInteraction();
          const begin = performance.now();
          const next = () => {
            const past = performance.now() - begin;
            if (past > seconds * 1000) {
              view.endInteraction();
              return resolve(count / past * 1000);
            }
            count++;
            view.setCenter([x + step * Math.sin(past / 200) * 20, y + step * Math.cos(past / 200) * 20]);
            maskseg.map.renderSync();
            requestAnimationFrame(next);
          };
          requestAnimationFrame(next);
        })""",
        seconds,
    )


def edited(page, number):
    """Milliseconds from deleting a nucleus to the page without it, of a hand that has rested for a moment."""
    page.page.wait_for_timeout(700)
    return page.page.evaluate(
        """number => new Promise(resolve => {
          const begin = performance.now();
          maskseg.store.on("nuclei", () => resolve(performance.now() - begin));
          maskseg.store.select([number]);
          document.getElementById("delete").click();
        })""",
        number,
    )


def test_fifty_thousand_nuclei(slide, serve, page_of, capsys):
    path, folder, key = slide
    server = serve(path, folder=folder)
    page = page_of(server.opened)
    page.until("maskseg.store.rows.size === 50000")
    first = page.js(
        """new Promise(resolve => {
          maskseg.map.once("rendercomplete", () => resolve(performance.now()));
          maskseg.map.render();
        })"""
    )
    dense = frames(page)
    assert page.page.locator("#dense").is_visible()
    page.js("maskseg.map.getView().setResolution(4)")
    page.page.wait_for_timeout(500)
    page.until("!document.getElementById('view').classList.contains('dense')")
    page.page.wait_for_timeout(4000)
    outlined = frames(page)
    took = [edited(page, number) for number in range(25000, 25005)]
    assert len(page.rows) == 49_995
    for number in range(49_996, 50_001):
        page.key("Control+z")
        page.until_nuclei(number)
    server.kill()
    server.start()
    assert server.get(f"/api/images/{key}")["count"] == 50_000
    with capsys.disabled():
        print(
            f"\n50,000 nuclei on {SIDE} x {SIDE}: first view after {first / 1000:.2f} s; pan at {dense:.0f} frames a "
            f"second over the whole, {outlined:.0f} with outlines; an edit on the page "
            f"after {np.median(took):.0f} ms (the slowest of {len(took)}: {max(took):.0f})"
        )
