"""How long a training is and what happens when in it: scaled as a whole, in one place."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from detectron2.config import CfgNode

# Of the training: the part that the learning rate rises in, where nothing else is asked for.
WARMUP = 0.1
# A longer warm-up than this is taken for one of another, longer schedule.
LONGEST_WARMUP = 0.5


def scale_schedule(cfg: CfgNode, iterations: int) -> None:
    """Make the training so many iterations long, its steps, warm-up and validations in proportion.

    SOLVER.CHECKPOINT_PERIOD stays: it says how much a power cut may cost.

    Parameters
    ----------
    cfg : CfgNode
        Changed in place.
    iterations : int
        At least 1.
    """
    solver = cfg.SOLVER
    scale = iterations / solver.MAX_ITER
    solver.STEPS = tuple(max(1, round(step * scale)) for step in solver.STEPS)
    solver.WARMUP_ITERS = round(solver.WARMUP_ITERS * scale)
    if cfg.TEST.EVAL_PERIOD > 0:
        cfg.TEST.EVAL_PERIOD = max(1, round(cfg.TEST.EVAL_PERIOD * scale))
    solver.MAX_ITER = iterations


def epochs_to_iterations(cfg: CfgNode, epochs: float, images: int) -> int:
    """Iterations of so many passes over the images, each pass as long as DATALOADER.EPOCH_SHARE says in the mean."""
    draws = epochs * images * sum(cfg.DATALOADER.EPOCH_SHARE) / 2
    return max(1, round(draws / cfg.SOLVER.IMS_PER_BATCH))


def fit_schedule(cfg: CfgNode, images: int) -> list[str]:
    """Give a training on a number of images the length that SOLVER.EPOCHS asks for, and a warm-up that fits into it.

    Doing it twice changes nothing more.

    Parameters
    ----------
    cfg : CfgNode
        Changed in place.
    images : int
        That are trained on.

    Returns
    -------
    list of str
        What was changed, a line each.
    """
    solver, said = cfg.SOLVER, []
    if solver.EPOCHS:
        iterations = epochs_to_iterations(cfg, solver.EPOCHS, images)
        if iterations != solver.MAX_ITER:
            scale_schedule(cfg, iterations)
            said.append(f"{solver.EPOCHS} epochs of {images} images are {iterations} iterations")
    if solver.WARMUP_ITERS > LONGEST_WARMUP * solver.MAX_ITER:
        shorter = int(WARMUP * solver.MAX_ITER)
        said.append(
            f"SOLVER.WARMUP_ITERS {solver.WARMUP_ITERS} is most of a training of SOLVER.MAX_ITER {solver.MAX_ITER} "
            f"iterations, which would learn next to nothing; the learning rate rises over the first {shorter} instead"
        )
        solver.WARMUP_ITERS = shorter
    return said
