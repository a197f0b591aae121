"""A server in a process of its own, and a real browser."""

import json
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

# As Debian's package is run where there is no screen, no GPU and no network.
FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


class Served:
    """`maskseg serve` as a user starts it."""

    def __init__(self, folder, *arguments):
        self.folder, self.arguments = Path(folder), arguments
        self.process = None
        self.start()

    def start(self):
        command = [sys.executable, "-m", "maskseg.cli.main", "serve", *map(str, self.arguments)]
        self.process = subprocess.Popen(
            [*command, "-o", str(self.folder), "--no-browser"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        line = self.process.stdout.readline()
        assert line, self.process.stderr.read()
        self.opened = line.split()[2]
        self.address, self.token = re.fullmatch(r"(http://[^/]+)/\?token=(\S+)", self.opened).groups()

    def kill(self):
        """As a crash or a power cut does."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(30)

    def ask(self, method, path, body=None, headers=None):
        """Status and body of an answer; JSON where it is."""
        data = body if isinstance(body, bytes | type(None)) else json.dumps(body).encode()
        given = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json", **(headers or {})}
        given = {name: value for name, value in given.items() if value is not None}
        request = urllib.request.Request(self.address + path, data=data, method=method, headers=given)
        try:
            with urllib.request.urlopen(request, timeout=600) as answer:
                status, content, kind = answer.status, answer.read(), answer.headers["content-type"]
        except urllib.error.HTTPError as error:
            status, content, kind = error.code, error.read(), error.headers["content-type"]
        return status, json.loads(content) if kind == "application/json" else content

    def get(self, path):
        status, content = self.ask("GET", path)
        assert status == 200, content
        return content

    def wait_for(self, job, seconds=600):
        """The job, once it has ended."""
        until = time.monotonic() + seconds
        while job["state"] in ("waiting", "running"):
            assert time.monotonic() < until, job
            time.sleep(0.3)
            job = self.get(f"/api/jobs/{job['id']}")
        return job


@pytest.fixture(scope="session")
def served():
    """`Served`, for servers that outlast a test."""
    return Served


@pytest.fixture
def serve(tmp_path):
    """Start servers, which end with the test."""
    running = []

    def start(*arguments, folder=tmp_path / "work"):
        running.append(Served(folder, *arguments))
        return running[-1]

    yield start
    for one in running:
        one.stop()


@pytest.fixture(scope="session")
def sample_images(repository):
    """Images of the sample, by their modality's look: some bright nuclei on black, and purple tissue."""
    folder = repository / "datasets" / "sample" / "heldout"
    return sorted(path for path in folder.glob("*/images/*.png"))


@pytest.fixture(scope="session")
def class_model(tmp_path_factory):
    """The bundled model with two classes, of which it takes every nucleus for the second one, stroma."""
    import torch
    from detectron2.modeling import build_model

    from maskseg.models.checkpoint import Checkpointer, write_checkpoint
    from maskseg.models.config import set_classes
    from maskseg.models.zoo import find_model

    found = find_model("nuclei")
    cfg = found.cfg.clone()
    cfg.defrost()
    set_classes(cfg, ("tumor", "stroma"))
    model = build_model(cfg)
    Checkpointer(model).load(str(found.weights))
    with torch.no_grad():
        model.roi_heads.box_predictor.cls_score.bias[1] += 2
    folder = tmp_path_factory.mktemp("classes") / "model"
    folder.mkdir()
    (folder / "config.yaml").write_text(cfg.dump())
    write_checkpoint(folder / "model_final.pth", {"model": model.state_dict()})
    return folder


@pytest.fixture(scope="session")
def chromium():
    """A browser without a window."""
    playwright = pytest.importorskip("playwright.sync_api")
    executable = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if executable is None:
        pytest.skip("no Chromium here; install Debian's package chromium")
    from maskseg.serve.app import STATIC

    if not (STATIC / "index.html").is_file():
        pytest.skip("the page is not built here; run: make web")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=executable, headless=True, args=FLAGS)
        yield browser
        browser.close()


class Page:
    """The page as a person has it before them."""

    def __init__(self, browser, opened, width=1280, height=720, theme="light"):
        self.context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=theme, accept_downloads=True
        )
        self.page = self.context.new_page()
        self.faults = []
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.goto(opened)
        self.page.wait_for_selector("#image-list")

    def js(self, code, given=None):
        return self.page.evaluate(code, given)

    @property
    def rows(self):
        """The nuclei that the page knows, by number."""
        return {row["id"]: row for row in self.js("[...maskseg.store.rows.values()]")}

    @property
    def selection(self):
        return set(self.js("[...maskseg.store.selection]"))

    def until(self, code, given=None, seconds=60):
        # Not Playwright's own waiting, which needs eval in the page; the page forbids it.
        end = time.monotonic() + seconds
        while not self.js(code, given):
            assert time.monotonic() < end, f"still not: {code}; the page says {self.page.inner_text('#say')!r}"
            self.page.wait_for_timeout(50)

    def until_nuclei(self, count, seconds=60):
        self.until("n => maskseg.store.rows.size === n", count, seconds)

    def at(self, x, y):
        """Place on the screen of a point of the image."""
        return self.js(
            """([x, y]) => {
              const place = maskseg.map.getPixelFromCoordinate([x, -y]);
              const box = maskseg.map.getTargetElement().getBoundingClientRect();
              return [place[0] + box.left, place[1] + box.top];
            }""",
            [x, y],
        )

    def drag(self, *points):
        """Press the button at the first point of the image, draw, release at the last."""
        places = [self.at(*point) for point in points]
        mouse = self.page.mouse
        mouse.move(*places[0])
        mouse.down()
        for place in places[1:]:
            mouse.move(*place, steps=12)
        mouse.up()

    def click(self, x, y, **kwargs):
        self.page.mouse.click(*self.at(x, y), **kwargs)

    def key(self, name):
        self.page.keyboard.press(name)

    def show(self, row, times=6):
        """Move the picture so that a nucleus fills a part of it, and wait until it is still."""
        self.js(
            """([x0, y0, x1, y1, times]) => {
              const view = maskseg.map.getView();
              view.setCenter([(x0 + x1) / 2, -(y0 + y1) / 2]);
              view.setResolution(Math.max(x1 - x0, y1 - y0) * times / 600);
            }""",
            [row["x0"], row["y0"], row["x1"], row["y1"], times],
        )
        self.page.wait_for_timeout(300)

    def drop(self, paths):
        """Files dragged onto the page."""
        files = [{"name": path.name, "bytes": list(path.read_bytes())} for path in paths]
        self.js(
            """files => {
              const data = new DataTransfer();
              for (const one of files) data.items.add(new File([new Uint8Array(one.bytes)], one.name));
              for (const kind of ["dragenter", "dragover", "drop"]) {
                document.body.dispatchEvent(new DragEvent(kind, { dataTransfer: data, bubbles: true }));
              }
            }""",
            files,
        )


@pytest.fixture
def page_of(chromium):
    """Open pages, which are closed with the test; none may have had an error."""
    pages = []

    def open_page(opened, **kwargs):
        pages.append(Page(chromium, opened, **kwargs))
        return pages[-1]

    yield open_page
    for one in pages:
        one.context.close()
        assert not one.faults
