"""A whole format: a text file an image, with its height and width and a line of run lengths for each nucleus."""

from functools import partial

from maskseg.core.files import write_whole
from maskseg.core.masks import CropMasks
from maskseg.core.rle import kaggle_to_runs, runs_to_crop, runs_to_kaggle
from maskseg.formats.reader import Item, Nuclei
from maskseg.formats.registry import Format
from maskseg.formats.writer import WholeWriter


class ToyWriter(WholeWriter):
    def write(self, masks):
        with write_whole(self.path, "w") as file:
            file.write("\n".join(["{} {}".format(*masks.shape), *(runs_to_kaggle(*run) for run in masks.runs())]))


def read(source):
    return [Item(path.stem, partial(load, path), str(path)) for path in sorted(source.glob("*.toy"))]


def load(path, shape):
    size, *lines = path.read_text().splitlines()
    shape = tuple(map(int, size.split()))
    crops = [runs_to_crop(*kaggle_to_runs(line, shape), shape) for line in lines]
    return Nuclei(CropMasks(shape, [box for box, _ in crops], [bitmap for _, bitmap in crops]))


FORMAT = Format("toy", "run lengths as text", ("toy/{id}.toy",), writer=ToyWriter, reader=read, recognises=read)
