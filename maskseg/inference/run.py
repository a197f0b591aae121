"""Many images to files: nothing is lost to a bad image, and an interrupted run goes on where it was.

A thread reads the next images and another writes the last ones while the network runs, on a GPU on several images at
once. Files of one image are written first and its *part* last; a part is what the files of all images are assembled
from at the end, and says that its image is done.
"""

from __future__ import annotations

import copy
import json
import shutil
import time
from collections import defaultdict, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from maskseg import __version__
from maskseg.core.files import remove, remove_leftovers, write_whole
from maskseg.core.locks import alone_in
from maskseg.core.masks import CropMasks
from maskseg.formats.classes import NUCLEUS
from maskseg.formats.kaggle import SubmissionForm
from maskseg.formats.measures import NO_MEASURES, Measures
from maskseg.formats.registry import Format, default_formats, get, predicted, writers
from maskseg.formats.writer import ImageInfo, Joined, Writer, write_all
from maskseg.imaging.exposure import fixed_limits
from maskseg.imaging.reading import ImageFile, Loaded
from maskseg.imaging.slides import is_large, open_source
from maskseg.imaging.windows import ArraySource
from maskseg.inference.batching import groups
from maskseg.inference.faults import Source, file_name, outcome_of, reason_for, segmented, source_of
from maskseg.inference.predictor import Predictor, refuse_formats, refuse_options
from maskseg.inference.tile_grid import Tiles
from maskseg.inference.tiled_run import predict_large
from maskseg.inference.tiling import TiledPredictor
from maskseg.models import tasks

# Images that are held ahead of the network, and as many behind it.
_AHEAD = 2


def predict_files(
    predictor: Predictor,
    files: Sequence[ImageFile],
    out: Path,
    formats: Sequence[str] | None = None,
    tta: str | None = None,
    settings: dict[str, Any] | None = None,
    microns_per_pixel: float | None = None,
    tiles: Tiles | None = None,
    cluster: bool = False,
    measures: Measures | None = None,
) -> list[tuple[str, str]]:
    """Segment images and write the results to a folder.

    Files of each image and files of all images, as `maskseg.formats.registry` has them. An image that cannot be read
    is left out and reported; the same call again does only what is still to do.

    Parameters
    ----------
    predictor : Predictor
    files : sequence of ImageFile
    out : Path
    formats : sequence of str, optional
        Some of `maskseg.formats.registry.predicted`; those of `default_formats` where not given.
    tta : str, optional
        See `Predictor.segment`.
    settings : dict, optional
        What the results depend on (model, config); parts written under other settings are not used.
    microns_per_pixel : float, optional
        Side of a pixel of the full size in micrometres, in place of what the files say; where it is known, the table
        of nuclei has areas and lengths in micrometres too.
    tiles : Tiles, optional
        How images that are too large to be predicted in one piece are cut; see `maskseg.inference.tiling`.
    cluster : bool
        Share the work among the processes of a Ray cluster; see `maskseg.inference.ray_executor`.
    measures : Measures, optional
        What the table of nuclei has beyond the nucleus itself.

    Returns
    -------
    list of (image_id, reason)
        The images that were left out.

    Raises
    ------
    InputError
        The model cannot follow an argument; or a result cannot be written: the run ends, what is done stays done.
    """
    refuse_formats(predictor, formats or ())
    refuse_options(
        predictor,
        {"tta": tta, "microns-per-pixel": microns_per_pixel, "tile": tiles, "cluster": "ray" if cluster else None},
    )
    form = tasks.part(predictor.cfg, "submission")
    chosen = formats or predictor.formats or default_formats()
    run = Run(
        out,
        files,
        chosen,
        tta,
        microns_per_pixel,
        tiles or Tiles(),
        form,
        measures or NO_MEASURES,
        predictor.class_names,
    )
    # Said before hours of prediction and not after.
    for item in run.chosen:
        item.require(f"--formats {item.name}")
    with alone_in(out):
        return _predict(run, predictor, settings or {}, cluster)


def _predict(run: Run, predictor: Predictor, settings: dict[str, Any], cluster: bool) -> list[tuple[str, str]]:
    """The images of a run that were left out, each with the reason."""
    files = run.files
    run.prepare(settings)
    todo = [file for file in files if not run.is_done(file)]
    failed: dict[str, str] = {}
    if cluster:
        from maskseg.inference.ray_executor import outcomes_on_ray

        outcomes = outcomes_on_ray(run, predictor, todo)
    else:
        outcomes = run.outcomes(predictor, todo)
    with (
        tqdm(total=len(files), initial=len(files) - len(todo), desc="predict", unit="image", disable=None) as progress,
        closing(outcomes),
    ):
        for file, reason in outcomes:
            if reason:
                failed[file.id] = reason
            progress.update()
    run.assemble(failed)
    if not failed:
        shutil.rmtree(run.parts)
    return list(failed.items())


class _Read(NamedTuple):
    """What was read of a file, the seconds it took, what the file was then, and the model for pixels of that size."""

    image: NDArray[np.uint8]
    loaded: Loaded
    seconds: float
    source: Source
    predictor: Predictor


def _read(
    predictor: Predictor, tiles: Tiles, microns_per_pixel: float | None, measures: Measures, file: ImageFile
) -> _Read:
    # Before it is read: a file that is replaced from here on is another one, and is done again.
    begin, of = time.perf_counter(), source_of(file)
    if tiles.level or tiles.mpp:
        source, _, mpp = open_source(file, tiles.level, tiles.mpp, microns_per_pixel)
        box = (0, 0, *source.shape[::-1])
        loaded = Loaded(np.ascontiguousarray(source.read(box)), source.values(box), mpp, source)
    else:
        loaded = file.load()
        loaded = loaded._replace(mpp=microns_per_pixel or loaded.mpp)
    measures.pixels(file.name, loaded.mpp)  # refused before it is predicted
    fitted = predictor.at_pixel_size(loaded.mpp, file.name)
    return _Read(loaded.image, loaded, time.perf_counter() - begin, of, fitted)


def _ahead(
    read: Callable[[ImageFile], Any], files: Sequence[ImageFile]
) -> Generator[tuple[ImageFile, Future[Any]], None, None]:
    """Files with what is, or will be, read of them; a thread is a few files ahead."""
    reader = ThreadPoolExecutor(1)
    try:
        waiting: deque[tuple[ImageFile, Future[Any]]] = deque()
        for file in files:
            waiting.append((file, reader.submit(read, file)))
            if len(waiting) > _AHEAD:
                yield waiting.popleft()
        while waiting:
            yield waiting.popleft()
    finally:
        reader.shutdown(cancel_futures=True)


@dataclass(frozen=True)
class Run:
    """What is done with images, and the files of a run: written, found again and assembled.

    Attributes are the arguments of `predict_files` of the same names, the form of the submission, and what the classes
    are called.
    """

    out: Path
    files: Sequence[ImageFile]
    formats: Sequence[str]
    tta: str | None
    microns_per_pixel: float | None
    tiles: Tiles
    form: SubmissionForm
    measures: Measures = NO_MEASURES
    class_names: tuple[str, ...] = (NUCLEUS,)

    @property
    def chosen(self) -> list[Format]:
        """The formats, that of submissions in the form of the task."""
        own = self.form.format()
        return [own if name == own.name else get(name, "--formats", predicted()) for name in self.formats]

    @property
    def parts(self) -> Path:
        """What is removed once the run is whole."""
        return self.out / ".parts"

    def part(self, image_id: str) -> Path:
        """One part file an image until the run is whole."""
        return self.parts / f"{image_id}.json"

    @property
    def stamp(self) -> Path:
        """The settings that the parts were made under."""
        return self.parts / "settings"

    def prepare(self, settings: dict[str, Any]) -> None:
        """Remove parts that were made under other settings, and what a run that was killed was just writing."""
        known = {
            "formats": sorted(self.formats),
            "tta": self.tta,
            "microns_per_pixel": self.microns_per_pixel,
            "tiles": asdict(self.tiles),
            "measures": asdict(self.measures),
            # Parts of another version may have another form.
            "version": __version__,
            **settings,
        }
        text = json.dumps(known, sort_keys=True)
        if self.parts.is_symlink() or not self.stamp.is_file() or self.stamp.read_bytes() != text.encode():
            remove(self.parts)
            with write_whole(self.stamp, "w", encoding="utf-8") as file:
                file.write(text)
        self.tidy()

    def tidy(self) -> None:
        """Remove what a process that was killed was just writing."""
        remove_leftovers(self.parts, {self.part(file.id).name for file in self.files})
        names: dict[Path, set[str]] = defaultdict(set)
        for item in self.chosen:
            of_images = (path for file in self.files for path in item.image_paths(self.out, file.id))
            for path in chain(item.joined_paths(self.out), of_images):
                names[path.parent].add(path.name)
        for folder, some in names.items():
            remove_leftovers(folder, some)

    def is_done(self, file: ImageFile) -> bool:
        """Whether there is a part, made from the file as it is now."""
        try:
            if json.loads(self.part(file.id).read_text(encoding="utf-8"))["source"] != source_of(file):
                return False
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return False
        # Results that were deleted since are made again.
        return all(path.exists() for item in self.chosen for path in item.image_paths(self.out, file.id))

    def goes_in_tiles(self, predictor: Predictor, file: ImageFile) -> bool:
        """Whether a file is read and predicted in tiles; one whose size is asked for is, if only to say it has none."""
        tiles = self.tiles
        asked = bool(tiles.level or tiles.mpp)
        return isinstance(predictor, TiledPredictor) and (asked or is_large(file, tiles.large))

    def outcomes(
        self, predictor: Predictor, files: Sequence[ImageFile]
    ) -> Generator[tuple[ImageFile, str | None], None, None]:
        """Each file, those in tiles last, and why it is left out if it is; close it where the loop may end early."""
        cfg, tiles = predictor.cfg, self.tiles
        batch_size = cfg.TEST.IMS_PER_BATCH or (8 if cfg.MODEL.DEVICE.startswith("cuda") else 1)
        large: list[ImageFile] = []
        small: list[ImageFile] = []
        in_tiles = copy.copy(predictor) if isinstance(predictor, TiledPredictor) else None
        if in_tiles:
            # What is read as a whole may have to be cut still, once it is magnified.
            predictor, in_tiles.tiles = in_tiles, tiles
        for file in files:
            (large if self.goes_in_tiles(predictor, file) else small).append(file)
        read = partial(_read, predictor, self.tiles, self.microns_per_pixel, self.measures)
        written: deque[tuple[ImageFile, Future[None]]] = deque()
        # What was segmented is written, also where the loop is interrupted: the end of `writing` waits for it.
        with ThreadPoolExecutor(1) as writing, closing(_ahead(read, small)) as images:
            for group in groups(images, batch_size, lambda read: (read.image.shape, read.loaded.mpp)):
                for file, outcome in self._outcomes(group):
                    if isinstance(outcome, Exception):
                        yield file, reason_for(file, outcome)
                        continue
                    written.append((file, writing.submit(self.write, file, *outcome)))
                    if len(written) > _AHEAD:
                        yield outcome_of(*written.popleft())
            while written:
                yield outcome_of(*written.popleft())
            for file in large:
                reason = None
                try:
                    assert in_tiles, "without tiles nothing is large"
                    predict_large(self, in_tiles, file)
                except Exception as error:
                    reason = reason_for(file, error)
                yield file, reason

    def _outcomes(
        self, group: Sequence[tuple[ImageFile, Future[Any]]]
    ) -> Iterator[tuple[ImageFile, tuple[Loaded, CropMasks, float, Source] | Exception]]:
        """Each file of a group, with its image, nuclei, seconds and source, or with what was raised."""
        if isinstance(error := group[0][1].exception(), Exception):
            yield group[0][0], error
            return
        read: list[_Read] = [reading.result() for _, reading in group]
        predictor, begin = read[0].predictor, time.perf_counter()
        # Fixed limits are those of the values in the file.
        fixed = bool(fixed_limits(predictor.cfg.INPUT.NORMALIZE))
        seen = [one.loaded.values if fixed and one.loaded.values.dtype != bool else one.image for one in read]
        results = segmented(predictor, seen, self.tta)
        share = (time.perf_counter() - begin) / len(group)
        for (file, _), one, masks in zip(group, read, results, strict=True):
            yield file, masks if isinstance(masks, Exception) else (one.loaded, masks, one.seconds + share, one.source)

    def write(self, file: ImageFile, loaded: Loaded, masks: CropMasks, seconds: float, source: Source) -> None:
        """The files of an image, and then its part."""
        info = ImageInfo(
            file.id,
            masks.shape,
            file_name(file),
            ArraySource(loaded.image, file.name, loaded.values, loaded.every),
            microns_per_pixel=loaded.mpp,
            seconds=lambda: seconds,
            expand=self.measures.pixels(file.name, loaded.mpp),
            texture=self.measures.texture,
            class_names=self.class_names,
        )
        opened = self.writers(info)
        self.finish(file, source, opened, write_all([*opened.values()], [(masks, masks.shape[0])]))

    def writers(self, image: ImageInfo) -> dict[str, Writer]:
        """Writers of the files of an image, and of what the files of all images will have of it."""
        return writers(self.chosen, image, self.out)

    def finish(self, file: ImageFile, source: Source, opened: Iterable[str], records: Sequence[Any]) -> None:
        """Write the part of an image: what the files of all images will have of it."""
        kept = {key: record for key, record in zip(opened, records, strict=True) if record is not None}
        with write_whole(self.part(file.id), "w", encoding="utf-8") as handle:
            # Not `json.dump`, which encodes in Python, a value at a time.
            handle.write(json.dumps({"source": source, "records": kept}))

    def assemble(self, failed: dict[str, str]) -> None:
        """The files of all images, from their parts; `failed` has the reason for each image that has none."""

        def images(key: str) -> Iterator[Joined]:
            for file in self.files:
                if file.id in failed:
                    yield Joined(file.id, file_name(file), reason=failed[file.id])
                else:
                    part = json.loads(self.part(file.id).read_text(encoding="utf-8"))
                    yield Joined(file.id, file_name(file), part["records"][key])

        for item in self.chosen:
            if item.joined:
                item.imported("join")(item.joined_paths(self.out), images(item.key))
