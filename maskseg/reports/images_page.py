"""The page of ``maskseg report data`` about images that have no annotations."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

from maskseg.core.errors import InputError
from maskseg.curate.image_statistics import ImageStatistics, small_view
from maskseg.imaging.intensity import stretch
from maskseg.imaging.reading import ImageFile, to_rgb8
from maskseg.reports.charts import histogram
from maskseg.reports.page import Item, Page

# Rows of the table of image sizes, pictures of a modality.
_SIZES, _PICTURES = 20, 6
# An image is called saturated if more of its pixels have the greatest value of their type.
_SATURATED = 1e-3


def images_page(name: str, files: Sequence[ImageFile], looks: Sequence[ImageStatistics | InputError]) -> Page:
    """The page about images, and what `maskseg.curate.image_statistics.measure_images` found of them.

    Raises
    ------
    InputError
        If none of them can be read: that of the first one.
    """
    read = [(file, look) for file, look in zip(files, looks, strict=True) if isinstance(look, ImageStatistics)]
    failed = [(file, look) for file, look in zip(files, looks, strict=True) if isinstance(look, InputError)]
    if not read:
        raise failed[0][1]
    page = Page("Report on images", f"{name}: {len(files)} images, without annotations")
    _images(page, [look for _, look in read])
    _brightness(page, [look for _, look in read])
    if failed:
        page.section("Not read")
        page.table(["image", "what is wrong"], [[file.id, str(error)] for file, error in failed])
    page.section("Sample pictures")
    page.text("Of each modality images from the dimmest to the brightest, by even ranks. Contrast is stretched.")
    for modality in _by_frequency([look.modality for _, look in read]):
        page.gallery(_samples([pair for pair in read if pair[1].modality == modality]), modality)
    return page


def _by_frequency(names: Sequence[str]) -> list[str]:
    return sorted(set(names), key=lambda name: (-names.count(name), name))


def _images(page: Page, looks: Sequence[ImageStatistics]) -> None:
    page.section("Images")
    modalities = Counter(look.modality for look in looks)
    page.table(
        ["modality", "images"],
        [[name, modalities[name]] for name in _by_frequency([look.modality for look in looks])],
        caption="Judged by the colours.",
    )
    sizes = Counter((look.shape[1], look.shape[0]) for look in looks)
    page.table(
        ["width", "height", "images"],
        [[*size, count] for size, count in sizes.most_common(_SIZES)],
        caption=f"Sizes in pixels: {len(sizes)} of them" + (f", the {_SIZES} commonest" if len(sizes) > _SIZES else ""),
    )
    pixels = Counter(None if look.mpp is None else float(f"{look.mpp:.3g}") for look in looks)
    page.table(
        ["micrometres a pixel", "images"],
        [["not said" if size is None else f"{size:g}", count] for size, count in pixels.most_common(_SIZES)],
        caption="Size of a pixel, as the files say it.",
    )


def _kind(look: ImageStatistics) -> str:
    return f"{look.container} {look.kind}"


def _brightness(page: Page, looks: Sequence[ImageStatistics]) -> None:
    page.section("Brightness")
    page.text(
        "Limits are the values that become black and white before a network sees the image: from what stands out of "
        f"its background. Saturated are images with more than {100 * _SATURATED:g} % of their pixels at the greatest "
        "value of the type: what was brighter is lost."
    )
    kinds = defaultdict(list)
    for look in looks:
        kinds[_kind(look)].append(look)
    rows = []
    for kind in _by_frequency([_kind(look) for look in looks]):
        some = kinds[kind]
        low, middle, high = np.median([(look.low, look.middle, look.high) for look in some], axis=0)
        saturated = sum(look.saturated > _SATURATED for look in some)
        rows.append([kind, len(some), float(low), float(middle), float(high), saturated])
    page.table(["files", "images", "lower limit", "median", "upper limit", "saturated"], rows, "Median of the images.")
    medians = {kind: np.array([look.middle for look in some]) for kind, some in kinds.items()}
    page.figure(histogram(medians, "median value", "images"), "Median value of an image, as it is in the file.")
    ranges = {kind: np.array([look.high - look.low for look in some]) for kind, some in kinds.items()}
    page.figure(histogram(ranges, "upper - lower limit", "images"), "Contrast: how far apart the limits are.")


def _samples(pairs: Sequence[tuple[ImageFile, ImageStatistics]]) -> Iterator[Item]:
    ranked = sorted(pairs, key=lambda pair: pair[1].high)
    for place in np.linspace(0, len(ranked) - 1, min(_PICTURES, len(ranked))).round().astype(int):
        file, look = ranked[place]
        caption = f"{look.shape[1]} x {look.shape[0]}, {_kind(look)}, {look.low:.4g} to {look.high:.4g}"
        yield Item(None, stretch(to_rgb8(small_view(file))), file.id, caption)
