"""Start the server and open its page."""

from __future__ import annotations

import secrets
import socket
import sys
import threading
import webbrowser
from collections.abc import Sequence
from pathlib import Path

import uvicorn

import maskseg
from maskseg.core.errors import InputError
from maskseg.imaging.channels import Choice
from maskseg.models.library import added
from maskseg.serve.app import create_app
from maskseg.serve.guard import Guard, own_names
from maskseg.serve.state import Server
from maskseg.serve.workspace import Workspace


def run(
    images: Sequence[str],
    out: Path,
    model: str,
    host: str,
    port: int,
    browser: bool,
    upload_limit: int,
    choice: Choice | None = None,
) -> None:
    """Serve until Ctrl-C.

    Parameters
    ----------
    images : sequence of str
        What `maskseg.imaging.reading.find_images` takes.
    out : Path
        Folder of the workspace.
    model : str
        See `maskseg.models.zoo.find_model`.
    host, port
        To listen on; port 0 takes any that is free.
    browser : bool
        Open the page.
    upload_limit : int
        Bytes.
    choice : Choice, optional
        Channel and plane of images that have several.

    Raises
    ------
    InputError
        If the images, the model, the folder or the address are not to be had.
    """
    _check_model(model)
    listening = _listen(host, port)
    port = listening.getsockname()[1]
    workspace = Workspace(out, images, model, choice)
    server = Server(workspace, upload_limit)
    token = secrets.token_urlsafe(24)
    app = Guard(create_app(server), token, port, own_names(host), upload_limit)
    shown = socket.getfqdn() if host in ("0.0.0.0", "::") else f"[{host}]" if ":" in host else host
    address = f"http://{shown}:{port}/?token={token}"
    for line in workspace.left_out:
        print(f"left out {line}", file=sys.stderr)
    print(f"maskseg serve: {address}\nCorrections are kept in {out}; Ctrl-C ends.", flush=True)
    if host not in ("127.0.0.1", "localhost", "::1"):
        print("Whoever has this address and reaches this machine sees and changes everything here.", flush=True)
    if browser:
        threading.Timer(0.5, webbrowser.open, [address]).start()
    config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=2, ws="none")
    uvicorn.Server(config).run(sockets=[listening])
    print("ended; the same command goes on from here", file=sys.stderr)


def _check_model(model: str) -> None:
    """Only whether there is one: loading it takes seconds, in which the page is open already."""
    # As in `maskseg.models.zoo.bundled`, which imports the network.
    bundled = [path.stem for path in sorted((Path(maskseg.__file__).parent / "weights").glob("*.safetensors"))]
    if model not in bundled and model not in (kept := added()) and not Path(model).exists():
        names = ", ".join([*bundled, *kept]) or "none"
        raise InputError(f"{model}: no such model; give a training folder, a weight file or a bundled name ({names})")


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        raise InputError(f"--host {host} --port {port}: cannot be listened on ({error}); choose others") from error
