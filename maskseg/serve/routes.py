"""The addresses of an image: what is shown of it, what is done to it, what can be downloaded."""

from __future__ import annotations

import base64
import tempfile
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Query, Request
from fastapi.responses import FileResponse, Response
from numpy.typing import NDArray
from starlette.background import BackgroundTask

from maskseg.core.errors import InputError
from maskseg.core.masks import CropMasks
from maskseg.serve import downloads, forms
from maskseg.serve.classes import numbers_of
from maskseg.serve.edits import inside
from maskseg.serve.nuclei import from_json
from maskseg.serve.pictures import webp
from maskseg.serve.session import Change, Session
from maskseg.serve.shown import density, packed, rings_of
from maskseg.serve.shown import inside as begin_inside
from maskseg.serve.state import Server

router = APIRouter(prefix="/api/images/{key}", tags=["images"])

# Nuclei that an answer names one by one.
_NAMED = 500
# Of the part of the image that the network is shown around a box or a point: sides of the box, and pixels at most.
_AROUND, _MOST_AROUND = 1.0, 2048
_WEBP: dict[int | str, dict[str, Any]] = {200: {"content": {"image/webp": {}}}}
Place = Annotated[float, Query(ge=-1e7, le=1e7, allow_inf_nan=False)]


def server_of(request: Request) -> Server:
    """The server that an address belongs to."""
    return request.app.state.server


@router.get("", response_model=forms.Details)
def details(key: str, request: Request) -> dict[str, Any]:
    """An image: its size, and where its corrections stand."""
    workspace = server_of(request).workspace
    picture, session = workspace.picture(key), workspace.session(key)
    session.belongs_to(picture.shape)
    with session.lock:
        return {
            "key": key,
            "name": workspace.item(key).file.id,
            "width": picture.shape[1],
            "height": picture.shape[0],
            "depth": picture.depth,
            "version": session.version,
            "count": len(session.nuclei),
            "undo": session.undoable,
            "redo": session.redoable,
            "reviewed": session.reviewed,
            "notice": session.notice,
        }


@router.get("/tiles/{z}/{x}/{y}", response_class=Response, responses=_WEBP)
def tile(key: str, z: int, x: int, y: int, request: Request) -> Response:
    """A tile of 256 pixels as WebP; at level z one pixel of it is 2 to the power of z pixels of the image."""
    data = server_of(request).workspace.picture(key).tile(z, x, y)
    return Response(data, media_type="image/webp", headers={"cache-control": "private, max-age=3600"})


@router.get("/thumbnail", response_class=Response, responses=_WEBP)
def thumbnail(key: str, request: Request) -> Response:
    """The image in at most 256 pixels, as WebP."""
    return Response(server_of(request).workspace.picture(key).thumbnail(), media_type="image/webp")


@router.get("/density", response_class=Response, responses=_WEBP)
def density_picture(key: str, request: Request, hide: Annotated[list[forms.Kind] | None, Query()] = None) -> Response:
    """How many nuclei are where, as WebP with opacity; `hide` names classes that do not count."""
    session = server_of(request).workspace.session(key)
    with session.lock:
        picture = density(session.nuclei, set(hide or ()))
    return Response(webp(picture), media_type="image/webp", headers={"cache-control": "no-store"})


@router.get("/nuclei", response_model=forms.Columns)
def nuclei(key: str, request: Request) -> Any:
    """The table of nuclei, by column."""
    session = server_of(request).workspace.session(key)
    with session.lock:
        columns = {"version": session.version, **session.nuclei.columns()}
    # As it is: checking every number of a slide again would take longer than all the rest.
    import json

    return Response(json.dumps(columns, separators=(",", ":")), media_type="application/json")


@router.get("/outlines", response_class=Response, responses={200: {"content": {"application/octet-stream": {}}}})
def outlines(
    key: str,
    request: Request,
    x0: Place,
    y0: Place,
    x1: Place,
    y1: Place,
    step: Annotated[float, Query(gt=0, le=1e6)] = 1.0,
) -> Response:
    """Outlines of the nuclei whose box begins in x0, y0, x1, y1: little-endian, 32 bits a number.

    The version; for each nucleus its number and count of rings (int32), for each ring its count of points (int32) and
    the points x, y (float32). `step` is how many pixels of the image one of the screen shows.
    """
    session = server_of(request).workspace.session(key)
    with session.lock:
        visible = begin_inside(session.nuclei, (int(x0), int(y0), int(x1), int(y1)))
        data = np.array([session.version], "<i4").tobytes() + packed(session.nuclei, visible, step)
    return Response(data, media_type="application/octet-stream", headers={"cache-control": "no-store"})


@router.post("/edits", response_model=forms.Changed)
def edit(key: str, body: forms.EditRequest, request: Request) -> dict[str, Any]:
    """Change nuclei; the answer says which, and how they are now."""
    server = server_of(request)
    session, given = server.workspace.session(key), body.edit.model_dump()
    name = given.pop("op")
    if name in ("add-box", "add-point"):
        masks, classes = _asked(server, key, session, given)
        change = session.add_mask(masks, {"by": name, **given}, classes)
    else:
        change = session.edit(name, given, body.version, _class_given(server, given))
    return _told(server, key, session, change)


@router.post("/undo", response_model=forms.Changed)
def undo(key: str, request: Request) -> dict[str, Any]:
    """Take the last change back."""
    session = server_of(request).workspace.session(key)
    return _told(server_of(request), key, session, session.undo())


@router.post("/redo", response_model=forms.Changed)
def redo(key: str, request: Request) -> dict[str, Any]:
    """Do again what was taken back last."""
    session = server_of(request).workspace.session(key)
    return _told(server_of(request), key, session, session.redo())


@router.post("/review", response_model=forms.Changed)
def review(key: str, body: forms.ReviewRequest, request: Request) -> dict[str, Any]:
    """Mark the image, or a region of it, as reviewed: every nucleus in it is right, and a model may learn from it."""
    session = server_of(request).workspace.session(key)
    return _told(server_of(request), key, session, session.review(body.box, body.on))


@router.get("/download/{form}", response_class=FileResponse)
def download(
    key: str, form: Literal["labels", "geojson", "rois", "table", "overlay"], request: Request
) -> FileResponse:
    """The nuclei as a label image (TIFF), GeoJSON (QuPath), ROI zip (ImageJ), table (CSV) or picture (PNG)."""
    workspace = server_of(request).workspace
    ending, kind = downloads.FORMS[form]
    folder = tempfile.TemporaryDirectory(prefix=".download-", dir=workspace.folder)
    path = Path(folder.name) / f"nuclei{ending[ending.rindex('.') :]}"
    try:
        downloads.write(form, path, workspace.session(key), workspace.picture(key), workspace.classes)
    except BaseException:
        folder.cleanup()
        raise
    name = f"{workspace.item(key).file.id}{ending}"
    return FileResponse(path, media_type=kind, filename=name, background=BackgroundTask(folder.cleanup))


# ---- inside ----


def _class_given(server: Server, given: dict[str, Any]) -> dict[int, str]:
    """Number and name of the class that an edit gives; a number that has no name yet gets one."""
    kind, classes = given.get("kind") or 0, server.workspace.classes
    if kind and classes.learn({kind: f"class {kind}"}):
        server.events.send("classes", {"classes": classes.rows()})
    return {kind: classes.names[kind]} if kind else {}


def _asked(server: Server, key: str, session: Session, given: dict[str, Any]) -> tuple[CropMasks, dict[int, str]]:
    """The nucleus that the network outlines where a person points, and number and name of its class if it knows any."""
    height, width = session.nuclei.shape
    if "box" in given:
        (ax, ay, bx, by) = given["box"]
        x0, x1, y0, y1 = min(ax, bx), max(ax, bx), min(ay, by), max(ay, by)
        x0, y0, x1, y1 = max(x0, 0.0), max(y0, 0.0), min(x1, float(width)), min(y1, float(height))
        if x1 - x0 < 3 or y1 - y0 < 3:
            raise InputError("drag a box of 3 pixels or more around a nucleus of the image")
        margin = max(x1 - x0, y1 - y0) * _AROUND + 16
    else:
        x0, y0 = x1, y1 = given["point"]
        if not (0 <= x0 < width and 0 <= y0 < height):
            raise InputError("click on a nucleus of the image")
        if session.nuclei.at(int(x0), int(y0)) is not None:
            raise InputError("a nucleus is there already")
        size = session.typical()
        margin = 3 * size
    if x1 - x0 + 2 * margin > _MOST_AROUND or y1 - y0 + 2 * margin > _MOST_AROUND:
        raise InputError(f"a box of up to {_MOST_AROUND // 3} pixels, please: it is to hold one nucleus")
    around = inside((int(x0 - margin), int(y0 - margin), int(x1 + margin) + 1, int(y1 + margin) + 1), (height, width))
    picture = server.workspace.picture(key)
    task: dict[str, Any] = {"pixels": _sent(picture.region(around))}
    if (values := picture.values(around)).dtype != np.uint8:
        task["values"] = _sent(values)
    if "box" in given:
        task["box"] = [x0 - around[0], y0 - around[1], x1 - around[0], y1 - around[1]]
    else:
        task |= {"point": [x0 - around[0], y0 - around[1]], "size": size}
    answer, names = server.ask(task)
    nucleus = from_json(answer)
    assert nucleus is not None
    numbers = list(numbers_of(names, server.workspace.classes).items())
    kind, name = numbers[nucleus.kind] if numbers else (0, "")
    a, b, c, d = nucleus.box
    place = np.array([[a + around[0], b + around[1], c + around[0], d + around[1]]], np.int32)
    masks = CropMasks((height, width), place, [nucleus.bitmap], np.array([nucleus.score], np.float32), np.array([kind]))
    return masks, {kind: name} if kind else {}


def _sent(array: NDArray[Any]) -> dict[str, Any]:
    data = base64.b64encode(np.ascontiguousarray(array).tobytes()).decode("ascii")
    return {"shape": array.shape, "dtype": array.dtype.str, "data": data}


def _told(server: Server, key: str, session: Session, change: Change) -> dict[str, Any]:
    """The answer to a change, which all other pages are told of too."""
    with session.lock:
        nuclei = session.nuclei
        answer: dict[str, Any] = {
            "version": session.version,
            "count": len(nuclei),
            "undo": session.undoable,
            "redo": session.redoable,
            "all": len(change.numbers) > _NAMED,
            "reviewed": session.reviewed,
        }
        if not answer["all"]:
            there = [number for number in change.numbers if number in nuclei]
            answer["gone"] = [number for number in change.numbers if number not in nuclei]
            answer["rings"] = {str(n): [ring.tolist() for ring in rings_of(nuclei[n], 1)] for n in there}
            answer["rows"] = nuclei.rows(there)
    if change.numbers or change.name == "review":
        server.events.send("edited", {"key": key, "version": answer["version"]})
        server.events.send("images", {"key": key})
    return answer
