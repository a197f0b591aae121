"""Images larger than memory: peak memory, tiled against whole, and the files that come out.

    python benchmarks/tiles.py monuseg_train.zip [--folder SCRATCH] [--side 16384] [--coarse]

The images of the zip (its ``tissue_images/*.tif``, 1000 x 1000 pixels) are laid side by side, over and over, and saved
as tiled BigTIFF. Four runs, the last three each in a process of its own:

- how much the network sees of images of several sizes, for each pixel;
- the first 2000 x 2000 pixels of it, predicted as a whole and in tiles: how far the two agree;
- 5000 x 4000 pixels in tiles, with labels, GeoJSON and overlay;
- side x side pixels in tiles with labels and GeoJSON; with ``--coarse`` dark spots stand for what the network finds,
  and the network is not run.

Memory is what the process held at most (VmHWM of Linux) above what it held once the model was loaded. The seams are
where one tile ends and the next begins: nuclei that were cut there would have outlines along them.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import maskseg  # noqa: F401  first: detectron2 may be the copy that it carries

# isort: split
import cv2
import numpy as np
import tifffile
import torch
from detectron2.structures import Boxes, Instances
from numpy.typing import NDArray

from maskseg.core.masks import CropMasks
from maskseg.core.overlaps import overlaps
from maskseg.formats.labels import read_labels
from maskseg.formats.registry import formats as all_formats
from maskseg.formats.registry import writers
from maskseg.formats.writer import ImageInfo, write_all
from maskseg.imaging.reading import ImageFile, read_image
from maskseg.imaging.slides import open_source
from maskseg.imaging.windows import ArraySource
from maskseg.inference.api import load_model
from maskseg.inference.mask_rcnn import MaskRCNNPredictor
from maskseg.inference.memory import keep_freed_memory
from maskseg.inference.soft_masks import STRIDE
from maskseg.inference.tile_grid import SIDE, Tiling, in_tiles
from maskseg.inference.tiling import TiledImage

TILE = 512


def tissue(archive: Path) -> list[NDArray[np.uint8]]:
    """The tissue images of the zip."""
    with zipfile.ZipFile(archive) as file:
        names = sorted(name for name in file.namelist() if "tissue_images/" in name and name.endswith(".tif"))
        return [read_image(file.read(name), name) for name in names]


def write_mosaic(path: Path, pieces: list[NDArray[np.uint8]], shape: tuple[int, int]) -> None:
    """A tiled BigTIFF of the pieces side by side, row by row, over and over."""
    side, (height, width) = len(pieces[0]), shape
    across = -(-width // side)

    def tiles() -> Iterator[NDArray[np.uint8]]:
        for top in range(0, height, TILE):
            for left in range(0, width, TILE):
                tile = np.zeros((TILE, TILE, 3), np.uint8)
                for y in range(top // side, (top + TILE - 1) // side + 1):
                    for x in range(left // side, (left + TILE - 1) // side + 1):
                        y0, y1 = max(top, y * side), min(top + TILE, (y + 1) * side)
                        x0, x1 = max(left, x * side), min(left + TILE, (x + 1) * side)
                        piece = pieces[(y * across + x) % len(pieces)]
                        tile[y0 - top : y1 - top, x0 - left : x1 - left] = piece[
                            y0 - y * side : y1 - y * side, x0 - x * side : x1 - x * side
                        ]
                yield tile

    tifffile.imwrite(
        path,
        tiles(),
        shape=(*shape, 3),
        dtype=np.uint8,
        tile=(TILE, TILE),
        bigtiff=True,
        photometric="rgb",
        compression="zlib",
    )


class DarkSpots(torch.nn.Module):
    """Stands for the network in the run that asks how much memory a huge image takes: dark regions as nuclei."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.roi_heads = model.roi_heads

    def inference(self, samples: list[dict[str, Any]], do_postprocess: bool) -> list[Instances]:
        """Dark connected regions, with the mask of each as it is."""
        grey = np.ascontiguousarray(samples[0]["image"][0].numpy())
        dark = (cv2.GaussianBlur(grey, (0, 0), 3) < 90).astype(np.uint8)
        _, labels, statistics, _ = cv2.connectedComponentsWithStats(dark, connectivity=4)
        boxes, scores, masks = [], [], []
        for label, (x, y, w, h, area) in enumerate(statistics[1:].tolist(), start=1):
            if 60 < area < 4000 and max(w, h) < 90:
                crop = (labels[y : y + h, x : x + w] == label).astype(np.float32)
                boxes.append((x, y, x + w, y + h))
                scores.append(0.8 + area / 1e5)
                masks.append(cv2.resize(crop, (28, 28), interpolation=cv2.INTER_AREA))
        found = Instances(grey.shape)
        found.pred_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4))
        found.scores = torch.tensor(scores, dtype=torch.float32)
        found.pred_masks = torch.from_numpy(np.array(masks, np.float32).reshape(-1, 1, 28, 28))
        return [found]


def memory(key: str) -> float:
    """A line of /proc/self/status in MB: VmRSS, now, or VmHWM, at most."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines())
    return int(status[key].split()[0]) / 1e3


def loaded(model: str, coarse: bool = False) -> tuple[MaskRCNNPredictor, float]:
    """The model, and the memory in MB that the process holds with it; VmHWM counts from here."""
    keep_freed_memory()  # as `maskseg predict` does
    predictor = load_model(model, ["TEST.DETECTIONS_PER_IMAGE", "-1"])
    if coarse:
        predictor.model = DarkSpots(predictor.model)
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    return predictor, memory("VmRSS")


def compare(model: str, path: Path, folder: Path, side: int) -> None:
    """The first pixels of the mosaic as a whole and in small tiles."""
    predictor, _ = loaded(model)
    image = open_source(ImageFile("mosaic", path))[0].read((0, 0, side, side))
    for tta in ("none", "flip"):
        whole = predictor.segment(image, tta)
        tiles = TiledImage(predictor, ArraySource(image), folder / f"parts_{tta}", tta, side=512)
        tiles.predict()
        pieces = [masks for masks, _ in tiles.settled()]
        tiled = CropMasks(
            image.shape[:2],
            np.concatenate([masks.boxes for masks in pieces]),
            [bitmap for masks in pieces for bitmap in masks.bitmaps],
            np.concatenate([masks.scores for masks in pieces]),
        )
        pairs = overlaps(whole, tiled)
        same = int((pairs.iou == 1).sum())
        near = int((pairs.iou > 0.9).sum())
        pixels = float(((whole.to_labels() > 0) == (tiled.to_labels() > 0)).mean())
        print(
            f"{side} x {side}, {'two views' if tta == 'flip' else 'one view'}: {len(whole)} nuclei as a whole, "
            f"{len(tiled)} in {len(tiles.tiling)} tiles; {same} the same to the pixel, {near} with IoU over 0.9; "
            f"{100 * pixels:.3f} % of the pixels agree",
            flush=True,
        )


def run(model: str, path: Path, folder: Path, formats: tuple[str, ...], coarse: bool, side: int) -> None:
    """One file in tiles; `side` is that of the images that it was put together from."""
    predictor, before = loaded(model, coarse)
    source, scale, _ = open_source(ImageFile(path.stem, path))
    begin, cpu = time.perf_counter(), time.process_time()
    image = TiledImage(predictor, source, folder / "parts")
    # What one process does, however many share the tiles: the limits of the whole image, the seams, the files.
    first, _ = spent(lambda: image.limits)
    at_most = image.predict()
    info = ImageInfo(path.stem, source.shape, path.name, source, at_most, scale=scale)
    opened = writers([all_formats()[name] for name in formats], info, folder)
    last, _ = spent(lambda: write_all([*opened.values()], image.settled()))
    parts = [part.stat().st_size for part in (folder / "parts").iterdir()]
    wall, cpu, peak = time.perf_counter() - begin, time.process_time() - cpu, memory("VmHWM") - before
    tiling = image.tiling
    lines = [
        np.unique([tiling.core(tile)[axis] * size // length for tile in range(len(tiling))])[1:]
        for axis, (size, length) in enumerate(zip(source.shape[::-1], tiling.shape[::-1], strict=True))
    ]
    labels = read_labels(folder / "labels" / f"{path.stem}.tif")
    features = json.loads((folder / "geojson" / f"{path.stem}.geojson").read_text(encoding="utf-8"))["features"]
    print(
        f"{source.shape[1]} x {source.shape[0]}{', dark spots for a network' if coarse else ''}: "
        f"{len(features)} features, {labels.max()} labels; "
        f"{peak:.0f} MB over the model's {before:.0f} MB; {cpu:.0f} cpu s, {wall:.0f} s; {along(labels, lines, side)}; "
        f"{len(tiling)} tiles, the network sees {tiling.seen:.2f} times the area; in one process whatever the number: "
        f"{first:.1f} cpu s for the limits, {last:.1f} for seams and files; {np.mean(parts) / 1e3:.0f} kB a tile",
        flush=True,
    )


def along(labels: NDArray[np.integer], lines: list[NDArray[np.int64]], side: int) -> str:
    """Pixels of outlines along a seam and along other lines: more where seams cut nuclei.

    Lines where one image of the mosaic ends are left out: it does cut nuclei.
    """
    on_seams, on_others = [], []
    for image, seams in zip((labels.T, labels), lines, strict=True):
        changes = np.array([np.count_nonzero(image[k] != image[k - 1]) for k in range(1, len(image))]) / image.shape[1]
        line = np.arange(1, len(image))
        is_seam, inside = np.isin(line, seams), line % side != 0
        on_seams.extend(changes[is_seam & inside] * 1000)
        on_others.extend(changes[~is_seam & inside] * 1000)
    chance = np.std(on_others) / np.sqrt(len(on_seams))
    return (
        f"{np.mean(on_seams):.1f} pixels of outlines along 1,000 pixels of the {len(on_seams)} seams, "
        f"{np.mean(on_others):.1f} +- {chance:.1f} along other lines"
    )


def spent(step: Callable[[], Any]) -> tuple[float, Any]:
    """Processor seconds of a step, and what it gives."""
    begin = time.process_time()
    result = step()
    return time.process_time() - begin, result


def areas() -> None:
    """What the network sees of images of several sizes, by the tiles of now and of before."""
    for height, width in ((2000, 2000), (4000, 5000), (8192, 8192), (16384, 16384), (80_000, 100_000)):
        canvas = -(-height // STRIDE) * STRIDE, -(-width // STRIDE) * STRIDE
        whole = not in_tiles((height, width))
        seen = [
            canvas[0] * canvas[1] / (height * width) if whole else Tiling((height, width), canvas, side).seen
            for side in (SIDE, 640)
        ]
        print(
            f"{width} x {height}: the network sees {seen[0]:.2f} times the area; {seen[1]:.2f} in tiles of 640 pixels"
        )


def apart(function: Any, *arguments: Any) -> None:
    """Call a function in a process of its own."""
    process = multiprocessing.get_context("spawn").Process(target=function, args=arguments)
    process.start()
    process.join()
    if process.exitcode:
        raise SystemExit(f"{function.__name__} ended with {process.exitcode}")


def main() -> None:
    """Make the mosaics, print a line for each run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tissue", type=Path)
    parser.add_argument("--model", default="nuclei")
    parser.add_argument("--folder", type=Path, help="Where files go; a temporary folder where not given.")
    parser.add_argument("--side", type=int, default=16384)
    parser.add_argument("--coarse", action="store_true", help="No network for the largest image.")
    parser.add_argument("--runs", default="areas,compare,middle,large", help="Some of these.")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        pieces = tissue(options.tissue)
        middle, large, side = folder / "middle.tif", folder / "large.tif", len(pieces[0])
        write_mosaic(middle, pieces, (4000, 5000))
        if "areas" in options.runs:
            areas()
        if "compare" in options.runs:
            apart(compare, options.model, middle, folder / "compare", 2000)
        if "middle" in options.runs:
            apart(run, options.model, middle, folder / "middle", ("labels", "geojson", "overlay"), False, side)
        if "large" in options.runs:
            write_mosaic(large, pieces, (options.side, options.side))
            apart(run, options.model, large, folder / "large", ("labels", "geojson"), options.coarse, side)


if __name__ == "__main__":
    main()
