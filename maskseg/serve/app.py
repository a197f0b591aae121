"""The application: the page, the addresses that are of no single image, and the words for what goes wrong."""

from __future__ import annotations

import errno
import os
import tempfile
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, Response, StreamingResponse
from fastapi.staticfiles import StaticFiles
from starlette.concurrency import run_in_threadpool

import maskseg
from maskseg.core.errors import InputError
from maskseg.core.files import named_if_full
from maskseg.data.dataset import dataset_dicts, load_record
from maskseg.formats.overlay import overlay
from maskseg.serve import forms
from maskseg.serve.guard import TooLarge
from maskseg.serve.nuclei import read_masks
from maskseg.serve.pictures import Picture, webp
from maskseg.serve.retrain import HELD
from maskseg.serve.routes import router, server_of
from maskseg.serve.session import Stale
from maskseg.serve.state import Server
from maskseg.serve.workspace import NotFound

STATIC = Path(__file__).resolve().parent / "static"

_WORDS = {code: {"model": forms.Trouble} for code in (400, 401, 403, 404, 409, 413, 421, 422)}
_ABOUT = """The page of `maskseg serve` uses this interface, and so may a script: upload an image (PUT), ask for a
prediction, wait for its job to be done, and get labels, GeoJSON or the table. Every request needs the token of the
opened address, as the header `Authorization: Bearer TOKEN`."""


def create_app(server: Server) -> FastAPI:
    """The application of a server; `maskseg.serve.guard.Guard` goes before it."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await run_in_threadpool(server.close)

    app = FastAPI(
        title="maskseg serve",
        version=maskseg.__version__,
        description=_ABOUT,
        docs_url=None,
        redoc_url=None,
        openapi_url="/api/openapi.json",
        responses=_WORDS,  # type: ignore[arg-type]
        lifespan=lifespan,
    )
    app.state.server = server
    for kind in (InputError, TooLarge, RequestValidationError):
        app.add_exception_handler(kind, _in_words)
    app.include_router(router)
    _add_routes(app)
    if STATIC.is_dir():
        app.mount("/", StaticFiles(directory=STATIC, html=True))
    else:
        app.add_api_route("/", lambda: Response(_NO_PAGE, media_type="text/plain"), include_in_schema=False)
    return app


_NO_PAGE = "This installation has no page. In a clone of the repository run: make web && pip install '.[serve]'\n"


async def _in_words(request: Request, error: Exception) -> Response:
    """What went wrong, in one line for the person."""
    status = 422
    if isinstance(error, TooLarge):
        status, text = 413, "more than the server takes; open large images with: maskseg serve PATH"
    elif isinstance(error, RequestValidationError):
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"] if part != "body")
        text = f"{place}: {first['msg']}" if place else str(first["msg"])
    else:
        text = str(error)
        cause = error.__cause__
        if isinstance(error, NotFound):
            status = 404
        elif isinstance(error, Stale):
            status = 409
        elif isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
            status = 507
    return JSONResponse({"detail": text}, status)


def _add_routes(app: FastAPI) -> None:
    @app.get("/api/state", response_model=forms.Status, tags=["page"])
    def state(request: Request) -> dict[str, Any]:
        """All images and jobs, and the models."""
        server = server_of(request)
        return {
            "version": maskseg.__version__,
            "model": server.workspace.model,
            "models": server.workspace.models,
            "images": [server.workspace.describe(item.key) for item in server.workspace.items],
            "jobs": [job.as_json() for job in server.jobs.all()],
            "upload_limit": server.upload_limit,
            "classes": server.workspace.classes.rows(),
        }

    @app.get("/api/row/{key}", response_model=forms.ImageRow, tags=["page"])
    def row(key: str, request: Request) -> dict[str, Any]:
        """One row of the list of images."""
        return server_of(request).workspace.describe(key)

    @app.get("/api/events", tags=["page"], response_class=StreamingResponse)
    async def events(request: Request) -> StreamingResponse:
        """Server-sent events: `job` (its row), `edited` (key and version of an image), `images` (a key), `classes`."""
        server = server_of(request)
        # A page is open: a person may soon draw a box.
        threading.Thread(target=server.warm_up, daemon=True).start()
        stream = server.events.stream()
        return StreamingResponse(stream, media_type="text/event-stream", headers={"cache-control": "no-store"})

    @app.put(
        "/api/upload/{name:path}",
        response_model=forms.ImageRow,
        tags=["images"],
        openapi_extra={"requestBody": {"content": {"application/octet-stream": {"schema": {"type": "string"}}}}},
    )
    async def upload(name: str, request: Request) -> dict[str, Any]:
        """Upload an image: the file is the body, `name` its name, with folders if there are any."""
        return await _upload(server_of(request), name, request)

    _add_class_routes(app)
    _add_job_routes(app)


async def _upload(server: Server, name: str, request: Request) -> dict[str, Any]:
    workspace = server.workspace
    # Told before gigabytes are sent.
    workspace.place_for(name)
    with named_if_full(workspace.uploads):
        workspace.uploads.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=".upload-", dir=workspace.uploads)
    try:
        with os.fdopen(handle, "wb") as file, named_if_full(workspace.uploads / name):
            async for part in request.stream():
                await run_in_threadpool(file.write, part)
        row = await run_in_threadpool(_take, server, name, Path(temporary))
    finally:
        Path(temporary).unlink(missing_ok=True)
    return row


def _take(server: Server, name: str, temporary: Path) -> dict[str, Any]:
    """Give an uploaded file its place, if it is an image."""
    workspace = server.workspace
    with workspace.lock:
        path = workspace.place_for(name)
        with named_if_full(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.rename(path)
    try:
        # Read now: a file that is no image is refused with the reason, and not kept.
        files = workspace.files_of(path)
        for file in files:
            Picture(file)
    except InputError as error:
        path.unlink(missing_ok=True)
        raise InputError(str(error).replace(str(path), name)) from error
    items = [workspace.add(file) for file in files]
    for item in items:
        server.events.send("images", {"key": item.key})
    return workspace.describe(items[0].key)


def _add_class_routes(app: FastAPI) -> None:
    def told(server: Server) -> list[dict[str, Any]]:
        rows = server.workspace.classes.rows()
        server.events.send("classes", {"classes": rows})
        return rows

    @app.get("/api/classes", response_model=list[forms.ClassRow], tags=["classes"])
    def classes(request: Request) -> list[dict[str, Any]]:
        """The classes of nuclei, the same for all images; last, as 0, what a nucleus without a class is called."""
        return server_of(request).workspace.classes.rows()

    @app.post("/api/classes", response_model=list[forms.ClassRow], tags=["classes"])
    def add_class(body: forms.ClassRequest, request: Request) -> list[dict[str, Any]]:
        """Add a class, unless there is one of that name."""
        server = server_of(request)
        server.workspace.classes.number(body.name)
        return told(server)

    @app.put("/api/classes/{kind}", response_model=list[forms.ClassRow], tags=["classes"])
    def rename_class(kind: forms.Kind, body: forms.ClassRequest, request: Request) -> list[dict[str, Any]]:
        """Call a class otherwise, in all images."""
        server = server_of(request)
        server.workspace.classes.rename(kind, body.name)
        return told(server)

    @app.delete("/api/classes/{kind}", response_model=list[forms.ClassRow], tags=["classes"])
    def remove_class(kind: forms.Kind, request: Request) -> list[dict[str, Any]]:
        """Remove a class that no nucleus has."""
        server = server_of(request)
        server.workspace.classes.remove(kind, server.workspace.of_class(kind))
        return told(server)


def _add_job_routes(app: FastAPI) -> None:
    @app.post("/api/predictions", response_model=forms.JobRow, status_code=202, tags=["jobs"])
    def predict(body: forms.PredictRequest, request: Request) -> dict[str, Any]:
        """Have images predicted: a job, whose state `/api/jobs/ID` tells."""
        return server_of(request).jobs.predict(body.images, body.model).as_json()

    @app.post("/api/trainings", response_model=forms.JobRow, status_code=202, tags=["jobs"])
    def train(body: forms.TrainRequest, request: Request) -> dict[str, Any]:
        """Have the model learn from the reviewed images."""
        return server_of(request).jobs.train(body.iterations).as_json()

    @app.get("/api/jobs", response_model=list[forms.JobRow], tags=["jobs"])
    def jobs(request: Request) -> list[dict[str, Any]]:
        """All jobs of this server."""
        return [job.as_json() for job in server_of(request).jobs.all()]

    @app.get("/api/jobs/{number}", response_model=forms.JobRow, tags=["jobs"])
    def job(number: int, request: Request) -> dict[str, Any]:
        """One job."""
        return server_of(request).jobs.job(number).as_json()

    @app.delete("/api/jobs/{number}", response_model=forms.JobRow, tags=["jobs"])
    def cancel(number: int, request: Request) -> dict[str, Any]:
        """Cancel a job that waits or runs."""
        return server_of(request).jobs.cancel(number).as_json()

    @app.post("/api/jobs/{number}/decision", response_model=forms.JobRow, tags=["jobs"])
    def decide(number: int, body: forms.DecisionRequest, request: Request) -> dict[str, Any]:
        """Keep the model of a training that is done, or throw it away."""
        return server_of(request).jobs.decide(number, body.keep).as_json()

    @app.get("/api/jobs/{number}/compared/{name}/{which}", tags=["jobs"], response_class=Response)
    def compared(number: int, name: str, which: Literal["before", "after"], request: Request) -> Response:
        """A held-back region with the corrections red and the model's nuclei blue, before or after the training."""
        return Response(_compared(server_of(request), number, name, which), media_type="image/webp")

    @app.post("/api/model", response_model=forms.Status, tags=["page"])
    def use(body: forms.ModelRequest, request: Request) -> dict[str, Any]:
        """Choose the model that predicts."""
        server = server_of(request)
        if body.model not in server.workspace.models:
            raise NotFound("there is no such model; keep one after a training, or start with --model")
        server.workspace.use(body.model)
        state = next(route for route in app.routes if getattr(route, "path", "") == "/api/state")
        return state.endpoint(request)  # type: ignore[attr-defined]

    @app.get("/api/docs", include_in_schema=False)
    def documentation() -> FileResponse:
        return FileResponse(STATIC / "api.html")


def _compared(server: Server, number: int, name: str, which: str) -> bytes:
    job = server.jobs.job(number)
    folder = Path(job.result.get("folder", "/nowhere"))
    if name not in job.result.get("images", []) or not folder.is_dir():
        raise NotFound("there is no such comparison")
    record = next(r for r in dataset_dicts(f"{folder / 'data'}:{HELD}") if r["image_id"] == name)
    image, truth = load_record(record)
    predicted = read_masks(folder / "found" / f"{0 if which == 'before' else 1}-{name}.npz")
    return webp(overlay(image, truth, predicted))
