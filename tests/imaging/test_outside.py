"""Images from elsewhere that name other files: none outside of their folder is read, and nobody is called."""

import json
import zipfile

import cv2
import numpy as np
import pytest
import tifffile

from maskseg.core.errors import InputError
from maskseg.imaging.finding import find_images
from tests.fixtures.watching import Outside, watched

VMS = "[Virtual Microscope Specimen]\nNoLayers=1\nNoJpegColumns=1\nNoJpegRows=1\nImageFile={name}\nMapFile={name}\n"
MIRAX = """[GENERAL]
SLIDE_VERSION=01.02
SLIDE_ID=x
IMAGENUMBER_X=1
IMAGENUMBER_Y=1
CameraImageDivisionsPerSide=1
[HIERARCHICAL]
HIER_COUNT=1
NONHIER_COUNT=1
INDEXFILE={name}
HIER_0_NAME=Slide zoom level
HIER_0_COUNT=1
HIER_0_VAL_0_SECTION=L0
NONHIER_0_NAME=VIMSLIDE_POSITION_BUFFER
NONHIER_0_COUNT=1
NONHIER_0_VAL_0=default
NONHIER_0_VAL_0_SECTION=X
[L0]
OVERLAP_X=0
OVERLAP_Y=0
MICROMETER_PER_PIXEL_X=0.2
MICROMETER_PER_PIXEL_Y=0.2
IMAGE_FORMAT=JPEG
IMAGE_FILL_COLOR_BGR=0
DIGITIZER_WIDTH=50
DIGITIZER_HEIGHT=40
IMAGE_CONCAT_FACTOR=0
[DATAFILE]
FILE_COUNT=1
FILE_0={name}
"""


@pytest.fixture
def outside(tmp_path):
    found = Outside(tmp_path / "outside")
    yield found
    found.close()


def vms(folder, names):
    for place, name in enumerate(names):
        # OpenSlide knows them by their content.
        for ending in ("vms", "vmu", "svs", "mrxs"):
            (folder / f"{place}.{ending}").write_text(VMS.format(name=name))


def mirax(folder, names):
    for place, name in enumerate(names):
        (folder / f"{place}.mrxs").write_bytes(b"\xff\xd8\xff\0")
        (folder / f"{place}").mkdir()
        (folder / f"{place}" / "Slidedat.ini").write_text(MIRAX.format(name=name))


def ome_tiff(folder, names):
    for place, name in enumerate(names):
        text = (
            '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0"><Pixels ID="Pixels:0" '
            'DimensionOrder="XYCZT" Type="uint8" SizeX="50" SizeY="40" SizeC="1" SizeZ="2" SizeT="1">'
            '<TiffData FirstZ="0" IFD="0" PlaneCount="1"/><TiffData FirstZ="1" IFD="0" PlaneCount="1">'
            f'<UUID FileName="{name}">urn:uuid:1</UUID></TiffData></Pixels></Image></OME>'
        )
        tifffile.imwrite(
            folder / f"{place}.ome.tif", np.zeros((40, 50), np.uint8), description=text.encode(), metadata=None
        )
        # A file that only says which ones have the pixels.
        only = text.replace("<TiffData", f'<BinaryOnly MetadataFile="{name}" UUID="urn:uuid:1"/><TiffData', 1)
        tifffile.imwrite(folder / f"{place}b.ome.tif", np.zeros((40, 50), np.uint8), description=only, metadata=None)


def zarr(folder, names):
    for place, name in enumerate(names):
        image = folder / f"{place}.zarr"
        image.mkdir()
        (image / ".zgroup").write_text('{"zarr_format": 2}')
        levels = {"version": "0.4", "axes": [{"name": "y"}, {"name": "x"}], "datasets": [{"path": name}]}
        (image / ".zattrs").write_text(json.dumps({"multiscales": [levels]}))


def zipped(folder, names):
    picture = cv2.imencode(".png", np.full((40, 50), 5, np.uint8))[1].tobytes()
    with zipfile.ZipFile(folder / "images.zip", "w") as archive:
        for name in names:
            archive.writestr(name, picture)
            entry = zipfile.ZipInfo(f"{name.strip('/.')}.link.png")
            entry.create_system, entry.external_attr = 3, 0o120777 << 16
            archive.writestr(entry, name)


def series(folder, names):
    """What ImageJ and MetaMorph say of files beside."""
    for place, name in enumerate(names):
        text = f"ImageJ=1.53\nimages=2\nslices=2\nfile={name}\n"
        tifffile.imwrite(folder / f"{place}.tif", np.zeros((40, 50), np.uint8), description=text, metadata=None)


@pytest.mark.slow
@pytest.mark.parametrize("write", [vms, mirax, ome_tiff, zarr, zipped, series], ids=lambda write: write.__name__)
def test_no_file_outside_is_read(tmp_path, outside, write):
    mine = tmp_path / "mine"
    mine.mkdir()
    names = []
    for ending in ("jpg", "tif", "png"):
        secret = outside.folder / f"secret.{ending}"
        paths = (f"../outside/{secret.name}", f"../../outside/{secret.name}", f"./x/../..//outside/{secret.name}")
        names += [*paths, str(secret), secret.as_uri(), f"/..{secret}"]
    names += [name for name in outside.names if isinstance(name, str) and "127.0.0.1" in name]
    write(mine, names)
    count = 0
    with watched() as touched:
        for file in find_images(list(mine.glob("*.zip")) or [mine]):
            count += 1
            try:
                pixels = file.load().values
            except InputError as error:
                assert len(str(error).splitlines()) == 1
            else:
                assert 201 not in pixels
    outside.check_touched(touched, mine, mine)
    assert count >= len(names) or write is zipped
