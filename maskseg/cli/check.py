"""``maskseg check``: what is wrong with a data set, and a repaired copy."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from maskseg.cli.say import say


def check(
    dataset: Annotated[Path, typer.Argument(metavar="DATASET", help="A converted data set.")],
    fix: Annotated[Path | None, typer.Option(metavar="DIR", help="Write a repaired copy there.")] = None,
    page: Annotated[Path | None, typer.Option(metavar="FILE.html", help="Write a page with pictures.")] = None,
    table: Annotated[Path | None, typer.Option(metavar="FILE.csv", help="Write all findings as a table.")] = None,
    ignore: Annotated[list[str] | None, typer.Option(metavar="KIND", help="Do not report; may be repeated.")] = None,
    min_area: Annotated[int, typer.Option(min=1, help="A nucleus of fewer pixels is a speck.")] = 10,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; one for each core where not given.")] = None,
) -> None:
    """Say what is wrong with a data set, image by image.

    Found are files that are missing or cannot be read, sizes that differ, repeated images, images that are blank,
    saturated or without nuclei, near duplicates across the parts of split.csv; nuclei in pieces, with holes, annotated
    twice, overlapping, too small, or covering the image; annotations of no image, and such as cannot be read.

    --fix leaves the data set as it is. The copy has changes.csv, a line for each change; what a person must decide
    stays as it is and is listed.

    Exit status: 0 nothing is wrong; 1 something is, with --fix in the copy; 2 bad input, or images are not in the copy.

    \b
    Examples:
      maskseg check data/mine
      maskseg check data/mine --page check.html --table findings.csv
      maskseg check data/mine --fix data/fixed --ignore no-nuclei
    """
    from maskseg.core.files import check_output
    from maskseg.core.threads import available_cores
    from maskseg.curate.check import FINDING_KINDS, Report, write_findings
    from maskseg.curate.check import check as find
    from maskseg.curate.repair import CHANGES, write_repaired
    from maskseg.data.split import SPLIT_FILE

    if table is not None:
        check_output(table, (".csv",), (dataset / SPLIT_FILE,))
    if page is not None:
        check_output(page, (".html",))
    workers = workers or available_cores()

    def echo_counts(where: Path, report: Report) -> None:
        nuclei = sum(map(len, report.data.annotations.values()))
        say(f"{where}: {len(report.data.images)} images, {nuclei} nuclei, {len(report.findings)} findings")
        for kind, count in report.counts.items():
            say(f"{count:7d}  {kind}: {FINDING_KINDS[kind].description}; remedy: {FINDING_KINDS[kind].remedy}")

    complete = find(dataset, min_area, workers)
    report = complete.without(ignore or ())
    echo_counts(dataset, report)
    if table is not None:
        write_findings(table, report.findings)
        say(f"{table}: findings")
    if page is not None:
        from maskseg.reports.check_page import check_page

        check_page(report).write(page)
        say(f"{page}: page")
    left_out = 0
    if fix is not None:
        repaired = write_repaired(complete, fix, min_area)
        left_out = repaired.left_out
        say(f"{fix / CHANGES}: {len(repaired.changes)} changes, {left_out} images left out")
        report = find(fix, min_area, workers).without(ignore or ())
        echo_counts(fix, report)
        for finding in report.findings:
            say(f"left as it is: {finding.image}: {finding.kind} {finding.other}".rstrip(), err=True)
    if left_out:
        raise typer.Exit(2)
    if report.findings:
        raise typer.Exit(1)
