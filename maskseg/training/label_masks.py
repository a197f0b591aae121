"""Ground-truth masks of one training image as a label map."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from detectron2.structures import Boxes
from torch import Tensor


class LabelMasks:
    """N instance masks as one integer label map and N ids.

    Has the protocol of Detectron2's ``BitMasks`` that Mask R-CNN uses, and gives the same mask targets; but a
    sample with 369 nuclei is one map, not 369. Where instances overlap there are several maps, each instance wholly
    in one of them, so that none loses a pixel.

    Parameters
    ----------
    labels : integer tensor (L, H, W)
        0 is background; L is 1 where no instances overlap. Shared, not copied, by every selection.
    ids : int64 tensor (N,)
        Label of each instance.
    ignored : bool tensor (H, W), optional
        Where nobody has looked for instances (`maskseg.models.unreviewed`); shared as well.
    """

    def __init__(self, labels: Tensor, ids: Tensor, ignored: Tensor | None = None) -> None:
        self.labels = labels
        self.ids = ids
        self.ignored = ignored

    def to(self, *args: object, **kwargs: object) -> LabelMasks:
        """Moved to a device."""
        device = torch.empty(0).to(*args, **kwargs).device  # type: ignore[call-overload]
        ignored = None if self.ignored is None else self.ignored.to(device)
        return LabelMasks(self.labels.to(device), self.ids.to(device), ignored)

    @property
    def device(self) -> torch.device:
        """Where the label map is."""
        return self.labels.device

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width."""
        return self.labels.shape[1], self.labels.shape[2]

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, item: int | slice | Tensor) -> LabelMasks:
        ids = self.ids[item]
        return LabelMasks(self.labels, ids.reshape(-1), self.ignored)

    def __iter__(self) -> Iterator[Tensor]:
        """Bool masks (H, W), one by one."""
        for value in self.ids:
            yield (self.labels == value).any(dim=0)

    def __repr__(self) -> str:
        return f"LabelMasks({len(self)} instances, {self.image_size[0]} x {self.image_size[1]})"

    def nonempty(self) -> Tensor:
        """Bool tensor (N,): whether any pixel has the label."""
        return torch.isin(self.ids, torch.unique(self.labels).to(self.ids.dtype))

    def get_bounding_boxes(self) -> Boxes:
        """Boxes (N, 4) around the pixels, end exclusive as Detectron2 has it; zero for an empty mask."""
        layers, rows, columns = torch.nonzero(self.labels, as_tuple=True)
        size = int(max(self.labels.max(), self.ids.max() if len(self) else 0)) + 1
        value = self.labels[layers, rows, columns].long()
        far = float(max(self.image_size)) + 1
        boxes = torch.zeros(size, 4, device=self.device)
        for column, place, end in ((0, columns, 0), (1, rows, 0), (2, columns, 1), (3, rows, 1)):
            start = torch.full((size,), 0.0 if end else far, device=self.device)
            start.scatter_reduce_(0, value, (place + end).float(), "amax" if end else "amin")
            boxes[:, column] = start
        boxes[boxes[:, 0] == far] = 0
        return Boxes(boxes[self.ids])

    def crop_and_resize(self, boxes: Tensor, mask_size: int) -> Tensor:
        """Mask targets: instance i inside box i, at mask_size x mask_size.

        The arithmetic of ROIAlign on the bitmask (aligned, adaptive sampling: ceil(side / mask_size) bilinear
        samples a cell in each direction, zero more than one pixel outside), read from the label map directly.

        Parameters
        ----------
        boxes : float tensor (N, 4)
            One for each instance, in pixels.
        mask_size : int

        Returns
        -------
        bool tensor (N, mask_size, mask_size)
        """
        device = boxes.device
        labels, ids = self.labels.to(device), self.ids.to(device)
        targets = torch.zeros(len(boxes), mask_size, mask_size, dtype=torch.bool, device=device)
        if len(boxes) == 0:
            return targets
        boxes = boxes.detach().float()
        samples = torch.ceil((boxes[:, 2:] - boxes[:, :2]) / mask_size).clamp(min=1).long()
        # Boxes that need the same number of samples go together; for nuclei these are one to three groups.
        for across, down in torch.unique(samples, dim=0).tolist():
            group = ((samples[:, 0] == across) & (samples[:, 1] == down)).nonzero().squeeze(1)
            box, value = boxes[group], ids[group]
            x_cells, x_weights = _sample_places(box[:, 0], box[:, 2], mask_size, across, self.image_size[1])
            y_cells, y_weights = _sample_places(box[:, 1], box[:, 3], mask_size, down, self.image_size[0])
            total = torch.zeros(len(group), mask_size * down, mask_size * across, device=device)
            for yi in range(2):
                for xi in range(2):
                    weights = y_weights[yi][:, :, None] * x_weights[xi][:, None, :]
                    for layer in labels:
                        hit = layer[y_cells[yi][:, :, None], x_cells[xi][:, None, :]] == value[:, None, None]
                        total += hit * weights
            mean = total.reshape(len(group), mask_size, down, mask_size, across).mean(dim=(2, 4))
            targets[group] = mean >= 0.5
        return targets

    @staticmethod
    def cat(masks: list[LabelMasks]) -> LabelMasks:
        """Joined instances of images of one size: the label map that they share, or their maps together."""
        if len({item.image_size for item in masks}) != 1:
            raise ValueError("masks can only be joined if they are of images of one size")
        ids = torch.cat([item.ids for item in masks])
        maps = list({id(item.labels): item.labels for item in masks}.values())
        if len(maps) == 1:
            return LabelMasks(maps[0], ids)
        step = int(max(torch.cat([labels.flatten() for labels in maps]).max(), ids.max() if len(ids) else 0))
        moved = [torch.where(labels > 0, labels + step * which, 0) for which, labels in enumerate(maps)]
        which = [next(i for i, labels in enumerate(maps) if labels is item.labels) for item in masks]
        return LabelMasks(
            torch.cat(moved), torch.cat([item.ids + step * i for item, i in zip(masks, which, strict=True)])
        )


def _sample_places(
    low: Tensor, high: Tensor, cells: int, samples: int, size: int
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Neighbour pixels and bilinear weights (N, cells * samples) of ROIAlign's sample points along one axis."""
    step = (high - low) / (cells * samples)
    place = low[:, None] - 0.5 + (torch.arange(cells * samples, device=low.device) + 0.5) * step[:, None]
    inside = ((place >= -1) & (place <= size)).float()
    place = place.clamp(min=0)
    first = place.floor().long().clamp(max=size - 1)
    second = (first + 1).clamp(max=size - 1)
    part = torch.where(first >= size - 1, torch.zeros_like(place), place - first)
    return (first, second), ((1 - part) * inside, part * inside)
