"""What the server tells every open page: server-sent events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

# Events that wait for a page that does not read; it then misses some and asks for the state anew.
_WAITING = 1000
# Seconds of silence after which a sign of life is sent, so that a page that is gone is noticed.
_SILENCE = 15.0


class Events:
    """Events from any thread to all pages."""

    def __init__(self) -> None:
        self._pages: dict[asyncio.Queue[str], asyncio.AbstractEventLoop] = {}

    def send(self, kind: str, data: dict[str, Any]) -> None:
        """Tell all pages."""
        text = f"event: {kind}\ndata: {json.dumps(data)}\n\n"
        for queue, loop in list(self._pages.items()):
            # A loop that has ended has no page any more.
            if not loop.is_closed():
                loop.call_soon_threadsafe(_put, queue, text)

    async def stream(self) -> AsyncIterator[str]:
        """Events for one page, as long as it listens."""
        queue: asyncio.Queue[str] = asyncio.Queue(_WAITING)
        self._pages[queue] = asyncio.get_running_loop()
        try:
            yield "retry: 1000\n\n"
            while True:
                try:
                    yield await asyncio.wait_for(queue.get(), _SILENCE)
                except TimeoutError:
                    yield ": still here\n\n"
        finally:
            del self._pages[queue]

    def close(self) -> None:
        """End all streams."""
        self.send("end", {})


def _put(queue: asyncio.Queue[str], text: str) -> None:
    if not queue.full():
        queue.put_nowait(text)
