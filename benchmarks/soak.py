"""Memory of `maskseg serve` while somebody corrects image after image for hours.

    python benchmarks/soak.py [--minutes 180] [--edits 2] [-o benchmarks/soak.png]

The images of datasets/sample/heldout are predicted. Then a person who never tires goes from one to the next: looks at
tiles, table and outlines, draws, erases, splits, merges, deletes, takes back, marks as reviewed, opens and closes the
page, downloads every form, and now and then has an image predicted anew. So many edits a second; a person makes one in
some seconds. What the server and the processes that it starts hold, and how many files it has open, is looked at a
hundred times.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

SAMPLE = Path(__file__).resolve().parent.parent / "datasets" / "sample" / "heldout"
Looked = tuple[float, int, float, int]  # minutes, edits, megabytes, open files


class Served:
    """A server of its own."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, "-m", "maskseg.cli.main", "serve", str(SAMPLE), "-o", str(folder), "--no-browser"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        address = urlsplit(self.process.stdout.readline().split()[2])
        self.token = address.query.removeprefix("token=")
        self.connection = http.client.HTTPConnection(address.netloc, timeout=600)

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """The answer, JSON where it is; None where the person asked for what cannot be."""
        head = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        self.connection.request(method, path, None if body is None else json.dumps(body), head)
        answer = self.connection.getresponse()
        content = answer.read()
        if answer.status >= 500:
            raise SystemExit(f"{method} {path}: {answer.status} {content[:200]!r}")
        if answer.status >= 400:
            return None
        return json.loads(content) if answer.getheader("content-type") == "application/json" else content

    def predict(self, keys: list[str]) -> None:
        """Have images predicted, and wait for it."""
        job = self.ask("POST", "/api/predictions", {"images": keys})
        while job["state"] in ("waiting", "running"):
            time.sleep(0.2)
            job = self.ask("GET", f"/api/jobs/{job['id']}")

    def held(self) -> tuple[float, int]:
        """Resident megabytes of the server and of what it started, and the files that it has open."""
        total, todo = 0, [self.process.pid]
        while todo:
            process = Path(f"/proc/{todo.pop()}")
            # One that it started may have ended.
            with contextlib.suppress(OSError):
                total += int((process / "statm").read_text().split()[1])
                for task in (process / "task").iterdir():
                    todo += map(int, (task / "children").read_text().split())
        return total * os.sysconf("SC_PAGE_SIZE") / 1e6, len([*Path(f"/proc/{self.process.pid}/fd").iterdir()])


def looks(server: Served, key: str) -> list[dict[str, int]]:
    """What the page asks for when it shows an image; its nuclei."""
    at = f"/api/images/{quote(key)}"
    for part in ("", "/thumbnail", "/density", "/tiles/0/0/0", "/tiles/0/1/0", "/outlines?x0=0&y0=0&x1=9999&y1=9999"):
        server.ask("GET", at + part)
    columns = server.ask("GET", at + "/nuclei")
    return [
        dict(zip(("id", "x0", "y0", "x1", "y1"), row, strict=True))
        for row in zip(*(columns[name] for name in ("id", "x0", "y0", "x1", "y1")), strict=True)
    ]


def edits(server: Served, key: str, nuclei: list[dict[str, int]], chance: random.Random) -> None:
    """One edit, mostly of a nucleus that is there."""
    at = f"/api/images/{quote(key)}"
    if not nuclei or chance.random() < 0.15:
        x, y = chance.randint(0, 200), chance.randint(0, 200)
        ring = [[x, y], [x + 14, y + 1], [x + 15, y + 15], [x + 1, y + 12]]
        server.ask("POST", at + "/edits", {"edit": {"op": "add", "ring": ring}})
        return
    one, other = chance.choice(nuclei), chance.choice(nuclei)
    middle = [(one["x0"] + one["x1"]) / 2, (one["y0"] + one["y1"]) / 2]
    line = [[one["x0"] - 2, middle[1]], [one["x1"] + 2, middle[1]]]
    choices = [
        ("edits", {"edit": {"op": "brush", "points": [middle], "radius": 3, "id": one["id"]}}),
        ("edits", {"edit": {"op": "erase", "points": line, "radius": 1}}),
        ("edits", {"edit": {"op": "split", "line": line, "ids": [one["id"]]}}),
        ("edits", {"edit": {"op": "merge", "ids": [one["id"], other["id"]]}}),
        ("edits", {"edit": {"op": "smooth", "ids": [one["id"]]}}),
        ("edits", {"edit": {"op": "classify", "ids": [one["id"]], "kind": chance.randint(0, 3)}}),
        ("edits", {"edit": {"op": "delete", "ids": [one["id"]]}}),
        ("undo", {}),
        ("redo", {}),
        ("review", {"box": [0, 0, 100, 100], "on": chance.random() < 0.5}),
    ]
    place, body = chance.choice(choices)
    server.ask("POST", f"{at}/{place}", body)


def opens_page(server: Served) -> None:
    """Open the stream of events, as a page does, and close it."""
    other = http.client.HTTPConnection(server.connection.host, server.connection.port, timeout=60)
    other.request("GET", "/api/events", headers={"Authorization": f"Bearer {server.token}"})
    other.getresponse()
    other.close()


def person(server: Served, minutes: float, rate: float) -> list[Looked]:
    """Correct for so long, so many edits a second; what was seen."""
    chance = random.Random(0)
    keys = [row["key"] for row in server.ask("GET", "/api/state")["images"]]
    server.predict(keys)
    start, count, seen = time.monotonic(), 0, list[Looked]()
    while (passed := (time.monotonic() - start) / 60) < minutes:
        key = chance.choice(keys)
        opens_page(server)
        for _ in range(20):
            edits(server, key, looks(server, key), chance)
            count += 1
            time.sleep(max(0.0, start + count / rate - time.monotonic()))
        server.ask(
            "GET",
            f"/api/images/{quote(key)}/download/{chance.choice(['labels', 'geojson', 'rois', 'table', 'overlay'])}",
        )
        if chance.random() < 0.05:
            server.predict([key])
        if passed >= len(seen) * minutes / 100:
            seen.append((passed, count, *server.held()))
    return seen


def plot(seen: list[Looked], file: Path) -> None:
    """Memory and open files against the minutes."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    _, (left, right) = plt.subplots(1, 2, figsize=(10, 3), constrained_layout=True)
    for axes, column, name in ((left, 2, "resident memory, MB"), (right, 3, "open files")):
        axes.plot([one[0] for one in seen], [one[column] for one in seen])
        axes.set(xlabel="minutes", ylabel=name, ylim=(0, None))
    plt.savefig(file, dpi=80)


def main() -> None:
    """Print what was seen at every tenth of the time."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=180)
    parser.add_argument("--edits", type=float, default=2, help="a second, at most")
    parser.add_argument("-o", type=Path, help="a plot")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        server = Served(Path(folder) / "work")
        try:
            seen = person(server, options.minutes, options.edits)
        finally:
            server.process.terminate()
            server.process.wait()
    for minutes, count, megabytes, files in seen[:: max(1, len(seen) // 10)] + seen[-1:]:
        print(f"{minutes:6.1f} min  {count:6d} edits  {megabytes:8.1f} MB  {files} files")
    if options.o:
        plot(seen, options.o)


if __name__ == "__main__":
    main()
