"""``maskseg convert``: annotations of every kind to one COCO data set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from maskseg.cli.say import say
from maskseg.core.errors import without_place
from maskseg.formats.registry import Format, formats

if TYPE_CHECKING:
    from maskseg.convert.conversion import Summary
    from maskseg.formats.classes import ClassRule

app = typer.Typer(
    help="Convert annotations to a COCO data set: DIR/annotations.json and DIR/images/.", no_args_is_help=True
)


Out = Annotated[Path, typer.Option("-o", "--out", metavar="DIR", help="Where the data set goes.")]
Modality = Annotated[Path | None, typer.Option(help="Table image_id,modality or filename,foreground,background.")]
ClassNames = Annotated[
    str | None, typer.Option(metavar="A,B", help="Names of classes that have numbers alone, from 1.")
]
MergeClasses = Annotated[
    list[str] | None,
    typer.Option(metavar="NEW=OLD,OLD", help="Take classes for one, may be repeated; all: no classes."),
]
Reviewed = Annotated[
    bool,
    typer.Option("--reviewed", help='Only what annotations called "reviewed" lie around: the rest was not looked at.'),
]
Workers = Annotated[int | None, typer.Option(min=1, help="Processes; one for each core where not given.")]


@app.callback()
def _root() -> None:
    """Convert annotations to a COCO data set: DIR/annotations.json and DIR/images/."""


@app.command("folders")
def folders(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="Folder of image folders, or a zip file of one.")],
    out: Out,
    modality: Modality = None,
    workers: Workers = None,
) -> None:
    """DSB 2018 folders: ID/images/ID.png with one mask file a nucleus in ID/masks/.

    What is bad (damaged, empty or doubled masks, other sizes, missing images) is left out and listed.

    \b
    Examples:
      maskseg convert folders stage1_train.zip -o data/dsb2018
      maskseg convert folders datasets/sample/train -o data/sample --modality datasets/sample/modality.csv
    """
    _convert("folders", source, out, None, modality, workers)


@app.command("labels")
def labels(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="Folder of images and label images.")],
    out: Out,
    modality: Modality = None,
    workers: Workers = None,
    channel: Annotated[
        str | None, typer.Option(metavar="NAME|N", help="Channel of the images with the nuclei; that one is written.")
    ] = None,
    plane: Annotated[str | None, typer.Option(help="Plane of the images: z=max, z=mean, z=N; t=N; image=N.")] = None,
) -> None:
    """Label images: images/STEM.png with masks/STEM.tif, or Cellpose's STEM.tif with STEM_masks.tif beside it.

    A label image is TIFF, PNG or .npy; 0 is background, every other number one nucleus. Images without label image,
    other sizes and unreadable files are left out and listed.

    \b
    Examples:
      maskseg convert labels stardist_set/train -o data/mine
      maskseg convert labels cellpose_folder -o data/mine --workers 4
      maskseg convert labels stacks/ -o data/mine --channel DAPI --plane z=max
    """
    from maskseg.imaging.channels import Choice

    _convert("labels", source, out, None, modality, workers, choice=Choice.parse(channel, plane))


@app.command("coco")
def coco(
    source: Annotated[Path, typer.Argument(metavar="FILE|DIR", help="COCO JSON file, or a folder with one.")],
    out: Out,
    images: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of the images; beside the file where not given.")
    ] = None,
    category: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Category to take, may be repeated; all: every one.")
    ] = None,
    modality: Modality = None,
    class_names: ClassNames = None,
    merge_classes: MergeClasses = None,
    reviewed: Reviewed = False,
    workers: Workers = None,
) -> None:
    """COCO files of other programs: polygons or run lengths, any categories, ids and file paths.

    Categories are kept; --merge-classes takes some for one. Without --category it is the only one that has annotations,
    otherwise those whose names hold "nucle". Crowd regions, boxes without outline and outlines at fault are left out
    and listed.

    \b
    Examples:
      maskseg convert coco export.json -o data/mine --images photos/
      maskseg convert coco instances.json -o data/mine --images train2017/ --category neoplastic --category stromal
    """
    rule = _class_rule(class_names, merge_classes)
    options = {"categories": category or (), "distinct": True}
    _convert("coco", source, out, images, modality, workers, rule=rule, reviewed=reviewed, **options)


@app.command("mosaics")
def mosaics(
    dataset: Annotated[str, typer.Argument(metavar="DATASET[:PART]", help="A converted data set, or a part of it.")],
    out: Out,
    table: Annotated[
        Path | None, typer.Option(help="Which images are tiles of one field; found from the images where not given.")
    ] = None,
    workers: Workers = None,
) -> None:
    """Rebuild mosaics from tiles of one field, and join the nuclei that the seams cut.

    Without a table, tiles of equal size are laid together where the pixels on both sides of a seam fit. A mosaic with
    gaps is built as its largest full rectangles. DIR/mosaics.csv says which tile lies where; it can be corrected and
    given as --table. A table has the columns img_id, mosaic_idx and mosaic_position (up_left, up_right, down_left,
    down_right), or row and column instead of the last.

    \b
    Examples:
      maskseg convert mosaics data/dsb2018:train -o data/mosaics
      maskseg convert mosaics data/dsb2018:train -o data/mosaics --table mosaics.csv
    """
    from maskseg.convert.mosaics import rebuild_mosaics
    from maskseg.data.dataset import folder_and_part
    from maskseg.data.split import SPLIT_FILE

    folder, part = folder_and_part(dataset)
    if not part and (Path(folder) / SPLIT_FILE).is_file():
        say(f"tiles of all parts of {dataset} are used; for training give {dataset}:train", err=True)
    print_summary(out, rebuild_mosaics(dataset, out, table, _processes(workers)))


@app.command("xml")
def xml(
    tissue: Annotated[Path, typer.Argument(metavar="TISSUE_DIR", help="Folder or zip file of tissue images.")],
    annotation: Annotated[
        Path, typer.Argument(metavar="ANNOTATION_DIR", help="Folder or zip file of XML files with the same names.")
    ],
    out: Out,
    pieces: Annotated[int, typer.Option(min=1, help="Each image is cut into PIECES x PIECES.")] = 2,
    offset: Annotated[
        tuple[float, float],
        typer.Option(metavar="X Y", help="Added to the vertices, so that pixel centres lie at whole numbers."),
    ] = (-1, -1),
    layer: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Layer to take, may be repeated; all: every one.")
    ] = None,
    merge_classes: MergeClasses = None,
    workers: Workers = None,
) -> None:
    """Tissue images with outlines drawn in Aperio ImageScope: TISSUE_DIR/ID.tif and ANNOTATION_DIR/ID.xml.

    Layers are classes. Where regions overlap, the smaller one has the pixel; regions with NegativeROA are holes; nuclei
    on a cut are in both pieces; parts of fewer than 10 pixels are dropped. DIR/regions.csv says what became of each
    region. The offset of -1 -1 is that of vertices counted from 1, as in MoNuSeg; -0.5 -0.5 is that of pixel corners at
    whole numbers.

    \b
    Examples:
      maskseg convert xml tissue_images annotations -o data/tissue
      maskseg convert xml monuseg.zip monuseg.zip -o data/tissue
    """
    from maskseg.convert.tissue import convert_tissue, fates

    rule = _class_rule(None, merge_classes)
    summary = convert_tissue(tissue, annotation, out, pieces, offset, layer or (), _processes(workers), rule=rule)
    say(f"regions: {fates(summary)}; one by one in {out}/regions.csv")
    print_summary(out, summary)


@app.command("ultrasound")
def ultrasound(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="Folder or zip file of the frames and their masks.")],
    out: Out,
    workers: Workers = None,
) -> None:
    """Ultrasound nerve segmentation: S_N.tif, frame N of subject S, with S_N_mask.tif beside it.

    DIR/split.csv puts a fifth of the frames into part dev: whole subjects, or of one subject frames of which near
    duplicates stay together. DIR/contradictions.csv lists near duplicates of which one is empty and the other is
    not, or whose masks hardly overlap. Test images, N.tif, are passed over.

    \b
    Examples:
      maskseg convert ultrasound ultrasound-nerve-segmentation.zip -o data/ultrasound
      maskseg convert ultrasound train/ -o data/ultrasound
    """
    from maskseg.projects.ultrasound.data import CONTRADICTIONS, convert_ultrasound

    summary, contradictions = convert_ultrasound(source, out, _processes(workers))
    say(f"near duplicates that contradict each other: {len(contradictions)}; listed in {out}/{CONTRADICTIONS}")
    print_summary(out, summary)


@app.command("auto")
def auto(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="Folder, file or zip file of annotations.")],
    out: Out,
    images: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder or zip of the images; beside SRC where not given.")
    ] = None,
    modality: Modality = None,
    class_names: ClassNames = None,
    merge_classes: MergeClasses = None,
    reviewed: Reviewed = False,
    workers: Workers = None,
) -> None:
    """Annotations of any format that is read: looks which one it is, says so, and converts them.

    \b
    Examples:
      maskseg convert auto export.zip -o data/mine
      maskseg convert auto annotations/ -o data/mine --images photos/
    """
    from maskseg.formats.registry import recognise

    form = recognise(source)
    say(f"{source}: {form.about} ({form.layout}); the same as maskseg convert {form.name}")
    options: dict[str, Any] = {"distinct": True, "categories": ()} if form.name == "coco" else {}
    rule = _class_rule(class_names, merge_classes)
    _convert(form.name, source, out, images, modality, workers, rule=rule, reviewed=reviewed, **options)


def _convert(
    form: str, source: Path, out: Path, images: Path | None, modality: Path | None, workers: int | None, **options: Any
) -> None:
    from maskseg.convert.annotated import convert_annotations
    from maskseg.data.split import read_modalities

    modalities = read_modalities(modality) if modality else None
    print_summary(out, convert_annotations(source, out, form, images, modalities, _processes(workers), **options))


def _add_command(form: Format) -> None:
    """A command for a format that has none of its own."""

    def command(
        source: Annotated[Path, typer.Argument(metavar="SRC", help="Folder, file or zip file of the annotations.")],
        out: Out,
        images: Annotated[
            Path | None, typer.Option(metavar="DIR", help="Folder or zip of the images; beside SRC where not given.")
        ] = None,
        modality: Modality = None,
        class_names: ClassNames = None,
        merge_classes: MergeClasses = None,
        reviewed: Reviewed = False,
        workers: Workers = None,
    ) -> None:
        rule = _class_rule(class_names, merge_classes)
        _convert(form.name, source, out, images, modality, workers, rule=rule, reviewed=reviewed)

    # A help text begins with a capital letter.
    command.__doc__ = (
        f"{form.about[:1].upper()}{form.about[1:]}: {form.layout or form.name}.\n\n\b\nExamples:\n"
        f"  maskseg convert {form.name} annotations/ -o data/mine --images photos/\n"
        f"  maskseg convert {form.name} annotations/ -o data/corrected --images photos/ --reviewed\n"
    )
    app.command(form.name)(command)


def _class_rule(class_names: str | None, merge_classes: list[str] | None) -> ClassRule:
    from maskseg.formats.classes import ClassRule

    return ClassRule.parse(class_names, merge_classes)


def _processes(workers: int | None) -> int:
    from maskseg.core.threads import available_cores

    return workers or available_cores()


def print_summary(out: Path, summary: Summary) -> None:
    """Print what was left out, a line each, and what was done; status 2 if anything was left out."""
    for fault in summary.left_out:
        say(f"left out {fault.file}: {fault.kind}: {without_place(fault.file, fault.reason)}", err=True)
    for note, images in summary.notes.items():
        say(f"note: {note}" + (f" ({images} images)" if images else ""), err=True)
    say(f"{out}: {summary}")
    if summary.left_out:
        raise typer.Exit(2)


for _form in formats().values():
    if _form.reader is not None and _form.name not in {command.name for command in app.registered_commands}:
        _add_command(_form)
