"""What the API takes and gives, checked by pydantic; the descriptions are those of its documentation page."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from maskseg.serve.edits import MOST_KINDS, WIDEST

Number = Annotated[float, Field(ge=-1e7, le=1e7, allow_inf_nan=False)]
Point = tuple[Number, Number]
Id = Annotated[int, Field(ge=1, le=2**31 - 1)]
Ids = Annotated[list[Id], Field(max_length=100_000)]
Stroke = Annotated[list[Point], Field(min_length=1, max_length=20_000)]
Radius = Annotated[float, Field(gt=0, le=WIDEST, allow_inf_nan=False)]
Kind = Annotated[int, Field(ge=0, le=MOST_KINDS)]
Whole = Annotated[int, Field(ge=-(2**31), le=2**31 - 1)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Add(_Strict):
    """A nucleus with the free pixels inside a drawn line; points x, y in pixels of the image."""

    op: Literal["add"]
    ring: Annotated[list[Point], Field(min_length=3, max_length=20_000)]


class AddBox(_Strict):
    """The nucleus that fills a box, outlined by the network."""

    op: Literal["add-box"]
    box: tuple[Number, Number, Number, Number]


class AddPoint(_Strict):
    """The nucleus at a point, outlined by the network."""

    op: Literal["add-point"]
    point: Point


class Delete(_Strict):
    """The nuclei go."""

    op: Literal["delete"]
    ids: Ids


class Merge(_Strict):
    """The nuclei become one."""

    op: Literal["merge"]
    ids: Ids


class Split(_Strict):
    """Nuclei in two along a line: those named, or all that the line divides."""

    op: Literal["split"]
    line: Stroke
    ids: Ids = []


class Brush(_Strict):
    """Free pixels under a stroke, added to a nucleus, or one of their own."""

    op: Literal["brush"]
    points: Stroke
    radius: Radius
    id: Id | None = None


class Erase(_Strict):
    """Pixels under a stroke taken from the nuclei named, or from all."""

    op: Literal["erase"]
    points: Stroke
    radius: Radius
    ids: Ids = []


class Smooth(_Strict):
    """Outlines without corners and whiskers."""

    op: Literal["smooth"]
    ids: Ids


class Classify(_Strict):
    """The nuclei get a class by its number, 0 for none; see /api/classes."""

    op: Literal["classify"]
    ids: Ids
    kind: Kind


Edit = Annotated[
    Add | AddBox | AddPoint | Delete | Merge | Split | Brush | Erase | Smooth | Classify, Field(discriminator="op")
]


class EditRequest(_Strict):
    """One edit; `version` is that of the nuclei which the person saw."""

    edit: Edit
    version: Annotated[int, Field(ge=0, le=2**53)] | None = None


class ReviewRequest(_Strict):
    """A region x0, y0, x1, y1, or the whole image, that is reviewed or not."""

    box: tuple[Whole, Whole, Whole, Whole] | None = None
    on: bool = True


class PredictRequest(_Strict):
    """Images to predict, by their keys, with the model in use or another one that is known."""

    images: Annotated[list[str], Field(min_length=1, max_length=100_000)]
    model: str | None = None


class TrainRequest(_Strict):
    """A training on the reviewed images; without a number of iterations it follows from the number of nuclei."""

    iterations: Annotated[int, Field(ge=1, le=100_000)] | None = None


class DecisionRequest(_Strict):
    """Whether the trained model is kept, and predicts from then on, or thrown away."""

    keep: bool


class ModelRequest(_Strict):
    """The model that predicts from now on."""

    model: str


class ClassRequest(_Strict):
    """The name of a class."""

    name: Annotated[str, Field(min_length=1, max_length=200)]


class ClassRow(BaseModel):
    """A class: its number, name and colour (#rrggbb)."""

    kind: int
    name: str
    colour: str


class Row(BaseModel):
    """A nucleus: number, box x0, y0, x1, y1 (end exclusive), area in pixels, score, class, whether a person made it."""

    id: int
    x0: int
    y0: int
    x1: int
    y1: int
    area: int
    score: float
    kind: int
    by_hand: int


class Changed(BaseModel):
    """What an edit did. Where `all` is true too much has changed to be named here: ask for the nuclei anew."""

    version: int
    count: int
    undo: str = Field(description="what undo would take back; empty for nothing")
    redo: str
    all: bool = False
    rows: list[Row] = []
    rings: dict[str, list[list[tuple[float, float]]]] = Field({}, description="outlines by number; holes are rings too")
    gone: list[int] = []
    reviewed: list[tuple[int, int, int, int]] = []


class Columns(BaseModel):
    """The table of nuclei by column, and the version that it is of."""

    version: int
    id: list[int]
    x0: list[int]
    y0: list[int]
    x1: list[int]
    y1: list[int]
    area: list[int]
    score: list[float]
    kind: list[int]
    by_hand: list[int]


class ImageRow(BaseModel):
    """An image of the list; `doubt` is how unsure the model is of it, 0 to 1, until a person has corrected it."""

    key: str
    name: str
    path: str
    fault: str
    predicted: bool
    nuclei: int
    reviewed: bool
    doubt: float | None


class Details(BaseModel):
    """An image that is shown."""

    key: str
    name: str
    width: int
    height: int
    depth: int = Field(description="tile levels beyond the full size")
    version: int
    count: int
    undo: str
    redo: str
    reviewed: list[tuple[int, int, int, int]]
    notice: str = Field(description="what was wrong with the stored corrections; empty for nothing")


class JobRow(BaseModel):
    """A job; `done` is the share of it that is done, `words` what it does now or why it failed."""

    id: int
    kind: str
    given: dict[str, Any]
    state: Literal["waiting", "running", "done", "failed", "cancelled"]
    done: float
    words: str
    result: dict[str, Any]


class Status(BaseModel):
    """The whole page but for the image that is shown."""

    version: str
    model: str
    models: list[str]
    images: list[ImageRow]
    jobs: list[JobRow]
    upload_limit: int
    classes: list[ClassRow]


class Trouble(BaseModel):
    """Why a request failed, in words."""

    detail: str
