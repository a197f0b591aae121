"""How well the nerve of each ultrasound frame is covered: Dice, with the frames without a nerve apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from maskseg.evaluation import dsb
from maskseg.evaluation.evaluator import NucleusEvaluator
from maskseg.projects.ultrasound.data import EMPTY, NERVE


class NerveEvaluator(NucleusEvaluator):
    """Mean Dice of the frames, the figure of the competition: 1 for nothing found where there is nothing.

    Since most frames are empty, a model that never finds anything has a Dice of their share; no model is worth
    anything below.
    """

    score = "dice"
    title = "mean Dice"

    def summary(self) -> dict[str, Any]:
        """`maskseg.evaluation.dsb.summarise`, and ``dice_all_empty``: that of a model that never finds a nerve."""
        summary = super().summary()
        empty = summary["by_modality"].get(EMPTY, {"images": 0})["images"]
        return {**summary, "dice_all_empty": empty / summary["images"]}

    def table(self, summary: Mapping[str, Any]) -> str:
        """Dice of the frames with a nerve, of those without, of all, and of a model that never finds one."""
        rows = [["frames", "Dice", "95 % interval", "images", "nerve found"]]
        names = {NERVE: "with a nerve", EMPTY: "without"}
        parts = [(names.get(name, name), part) for name, part in summary["by_modality"].items()]
        for name, part in [*parts, ("all", summary)]:
            low, high = part["interval"]["dice"]
            counts = [str(part["images"]), str(part["n_pred"])]
            rows.append([name, f"{part['dice']:.4f}", f"{low:.3f} - {high:.3f}", *counts])
        rows.append(["all, never a nerve", f"{summary['dice_all_empty']:.4f}", "", str(summary["images"]), "0"])
        return dsb.text_table(rows)
