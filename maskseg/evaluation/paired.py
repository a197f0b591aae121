"""Two predictions of the same images: what changed, and whether it may be chance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from maskseg.evaluation.bootstrap import mean_interval
from maskseg.evaluation.dsb import text_table


def paired(before: ArrayLike, after: ArrayLike) -> dict[str, Any]:
    """Compare two scores of each image.

    Parameters
    ----------
    before, after : float arrays (N,)
        Not empty.

    Returns
    -------
    dict
        `images`; `before`, `after`, `difference`, means over the images; `interval`, 95 % of the mean difference by
        paired bootstrap over the images; `better`, `worse`, `equal`, images; `p_sign` of the sign test and
        `p_wilcoxon` of Wilcoxon's signed-rank test, both two-sided, without the images that are equal.
    """
    before, after = np.asarray(before, np.float64), np.asarray(after, np.float64)
    change = after - before
    better, worse = int((change > 0).sum()), int((change < 0).sum())
    moved = change[change != 0]
    return {
        "images": len(change),
        "before": float(before.mean()),
        "after": float(after.mean()),
        "difference": float(change.mean()),
        "interval": list(mean_interval(change)),
        "better": better,
        "worse": worse,
        "equal": len(change) - better - worse,
        "p_sign": float(stats.binomtest(better, better + worse).pvalue) if len(moved) else 1.0,
        "p_wilcoxon": float(stats.wilcoxon(moved).pvalue) if len(moved) else 1.0,
    }


def paired_by_modality(before: ArrayLike, after: ArrayLike, modalities: Sequence[str] | None = None) -> dict[str, Any]:
    """`paired` of the set and, as `by_modality`, of each modality; an empty one counts as "unknown"."""
    before, after = np.asarray(before, np.float64), np.asarray(after, np.float64)
    changes = paired(before, after)
    if modalities is not None:
        names = np.array([modality or "unknown" for modality in modalities])
        changes["by_modality"] = {
            str(name): paired(before[names == name], after[names == name]) for name in np.unique(names)
        }
    return changes


def paired_table(comparison: dict[str, Any]) -> str:
    """Lay out what `paired_by_modality` returns as a text table, one line a modality and the set last."""
    header = ("mean IoU (DSB score)", "images", "A", "B", "B - A", "95 % interval", "better", "worse", "equal")
    rows = [[*header, "p sign", "p Wilcoxon"]]
    for name, part in [*comparison.get("by_modality", {}).items(), ("all", comparison)]:
        low, high = part["interval"]
        means = [f"{part['before']:.4f}", f"{part['after']:.4f}", f"{part['difference']:+.4f}"]
        counts = [str(part[key]) for key in ("better", "worse", "equal")]
        tests = [f"{part[key]:.2g}" for key in ("p_sign", "p_wilcoxon")]
        rows.append([name, str(part["images"]), *means, f"{low:+.4f} to {high:+.4f}", *counts, *tests])
    return text_table(rows)
