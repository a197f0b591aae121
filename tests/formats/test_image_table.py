import csv

import numpy as np

from maskseg.core.masks import CropMasks
from maskseg.formats.image_table import COLUMNS, failed_row, image_row, write_table


def test_a_row_for_each_image_also_for_those_that_failed(tmp_path):
    labels = np.zeros((6, 9), int)
    labels[0, 0:2], labels[2:4, 0:3], labels[5, 0:4] = 1, 2, 3
    path = tmp_path / "images.csv"
    write_table(
        path,
        [
            image_row("a", CropMasks.from_labels(labels, [0.5, 0.9, 0.7]), 0.25),
            image_row("b", CropMasks.empty((6, 9)), 0.1),
            failed_row("c", "c.png: is cut short, copy it again"),
        ],
    )
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    assert [row["image_id"] for row in rows] == ["a", "b", "c"]
    assert [row["nuclei"] for row in rows] == ["3", "0", ""]
    assert float(rows[0]["median_area"]) == 4
    assert abs(float(rows[0]["mean_score"]) - 0.7) < 1e-4
    assert (rows[0]["height"], rows[0]["width"]) == ("6", "9")
    assert (rows[1]["median_area"], rows[1]["mean_score"]) == ("", "")
    assert [row["status"] for row in rows] == ["ok", "ok", "c.png: is cut short, copy it again"]
