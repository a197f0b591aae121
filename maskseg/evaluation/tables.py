"""Figures of a set as text, beside the table of scores (`maskseg.evaluation.dsb.score_table`)."""

from __future__ import annotations

from typing import Any

from maskseg.evaluation.dsb import text_table
from maskseg.evaluation.error_types import ErrorType


def threshold_table(summary: dict[str, Any]) -> str:
    """AP, precision, recall and F1 at each IoU: means over the images, and pooled over all nuclei."""
    keys = {"ap": "AP", "precision": "precision", "recall": "recall", "f1": "F1"}
    rows = [["IoU", *(f"mean {name}" for name in keys.values()), *(f"pooled {name}" for name in keys.values())]]
    for name, at in summary["thresholds"].items():
        rows.append([name, *(f"{at[way][key]:.3f}" for way in ("mean", "pooled") for key in keys)])
    return text_table(rows)


def error_table(errors: dict[str, Any]) -> str:
    """What `maskseg.evaluation.results.errors_by_size` returns, one line an IoU and size."""
    sizes = {
        "small": f"small (up to {errors['small_up_to']} px)",
        "medium": f"medium (up to {errors['medium_up_to']} px)",
        "large": "large",
    }
    rows = [["errors", "IoU", "true", *(kind.name for kind in ErrorType)]]
    for iou, table in errors.items():
        for size, row in table.items() if isinstance(table, dict) else ():
            true = sum(count for name, count in row.items() if name != ErrorType.extra.name)
            rows.append([sizes[size], iou, str(true), *(str(row[kind.name]) for kind in ErrorType)])
    return text_table(rows)
