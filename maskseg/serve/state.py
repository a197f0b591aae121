"""What all addresses of the server share."""

from __future__ import annotations

from contextlib import suppress
from threading import Lock, Thread
from typing import Any

from maskseg.core.errors import InputError
from maskseg.serve.child import Cancelled, Child
from maskseg.serve.events import Events
from maskseg.serve.jobs import Jobs
from maskseg.serve.workspace import Workspace


class Server:
    """The workspace with the jobs, the events, and the network that answers while a person draws.

    Parameters
    ----------
    workspace : Workspace
    upload_limit : int
        Bytes of an upload at most.
    """

    def __init__(self, workspace: Workspace, upload_limit: int) -> None:
        self.workspace, self.upload_limit = workspace, upload_limit
        self.events = Events()
        self.jobs = Jobs(workspace, self.events)
        # A process of its own: a prediction of minutes must not keep a person waiting who draws a box.
        self._asked = Child()
        self._warm, self._lock = False, Lock()
        Thread(target=self._read_ahead, daemon=True).start()

    def _read_ahead(self) -> None:
        """Read the corrections while the browser still starts."""
        for item in self.workspace.items:
            with suppress(InputError):
                self.workspace.known_session(item.key)

    def ask(self, task: dict[str, Any]) -> tuple[list[Any], list[str]]:
        """What the network outlines where a person points, and the names of its classes.

        See `maskseg.serve.worker.ask`.

        Raises
        ------
        InputError
            If it sees nothing there.
        """
        answers = list(self._asked.run({"do": "ask", "model": self.workspace.model, **task}))
        if not answers:
            raise InputError("the network gave no answer")
        return answers[-1]["mask"], answers[-1]["classes"]

    def warm_up(self) -> None:
        """Load the model that answers, once, so that the first box does not wait for it."""
        with self._lock:
            if self._warm:
                return
            self._warm = True
        # What is wrong the first box will say.
        with suppress(InputError, Cancelled):
            list(self._asked.run({"do": "ask", "model": self.workspace.model}))

    def close(self) -> None:
        """End the children and let go of the files."""
        self.events.close()
        self.jobs.close()
        self._asked.stop()
        self.workspace.close()
