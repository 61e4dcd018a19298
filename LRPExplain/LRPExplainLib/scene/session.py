"""From volume nodes to a request to the worker process, and from its answer to nodes."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import slicer
from slicer.i18n import tr as _

from ..errors import UserError
from ..worker.client import Client, Request
from . import asking
from .export import export_volume
from .process import SlicerProcess, later

_shared: Session | None = None


def shared_session() -> Session:
    """The application's one session; made when it is first asked for."""
    global _shared
    if _shared is None:
        _shared = Session()
        slicer.app.connect("aboutToQuit()", _shared.close)
    return _shared


class Session:
    """Requests about nodes of the scene. One worker process does the work; its files are in one temporary folder.

    ``consent(what)`` is asked where a model would run code of its own: ``what`` has "sentences" and "sha256".
    """

    def __init__(self, consent: Callable[[dict[str, Any]], bool] | None = None) -> None:
        self.consent = consent
        self._client = Client(lambda client: SlicerProcess(client, self._folder), later)
        self._temporary: Path | None = None
        self._written: dict[str, tuple[object, Path]] = {}
        self._count = 0

    @property
    def _folder(self) -> Path:
        if self._temporary is None or not self._temporary.is_dir():
            self._temporary = Path(tempfile.mkdtemp(prefix="LRPExplain-"))
            self._written = {}
        return self._temporary

    def describe(self, model: Path, on_done: Callable[[Any], None], on_failed: Callable[[str], None]) -> Request:
        """Ask what a model is."""
        return self._client.request(
            "describe",
            {"model": str(model)},
            lane="describe",
            on_done=lambda event: on_done(event["facts"]),
            on_failed=lambda event: on_failed(event["sentence"]),
        )

    def explain(
        self,
        volume_nodes: Sequence[Any],
        model: Path,
        *,
        target: str | int | None = None,
        rather_than: str | int | None = None,
        where: Any = None,
        value: str = "logit",
        start: str = "value",
        composite: str | None = None,
        rules: dict[str, str] | None = None,
        biases: str | None = None,
        device: str = "auto",
        memory: float | None = None,
        update: Any = None,
        lane: str = "main",
        on_progress: Callable[[str, float, float | None], None] | None = None,
        on_prediction: Callable[[Any], None] | None = None,
        on_done: Callable[[Any], None] | None = None,
        on_failed: Callable[[str], None] | None = None,
    ) -> Request:
        """Ask why. What is wrong is raised as UserError where it can be seen at once, and else told by ``on_failed``."""
        nodes = list(volume_nodes)
        for node in nodes:
            asking.check(node)
        files = [self._export(node) for node in nodes]
        self._count += 1
        out = self._folder / f"explanation-{self._count}"
        message = {
            "model": str(model), "volumes": [str(file) for file in files], "target": target, "rather_than": rather_than,
            "where": asking.place(where, nodes[0], self._folder / f"asked-{self._count}.nrrd"), "value": value,
            "start": start, "composite": composite, "rules": rules or None, "biases": biases, "device": device,
            "memory": memory, "out": str(out),
        }  # fmt: skip

        def done(event: dict[str, Any]) -> None:
            try:
                shown = self._present(Path(event["folder"]), nodes, update)
            except UserError as error:
                _tell(on_failed, str(error))
            else:
                _tell(on_done, shown)

        def failed(event: dict[str, Any]) -> None:
            if event["kind"] == "trust" and self.consent is not None and self.consent(event["what"]):
                self._client.request("explain", message | {"trust": True}, lane=lane, **callbacks)
            else:
                _tell(on_failed, event["sentence"])

        callbacks = {"on_progress": on_progress, "on_prediction": on_prediction, "on_done": done, "on_failed": failed}
        return self._client.request("explain", message, lane=lane, **callbacks)

    def explain_and_wait(self, volume_nodes: Sequence[Any], model: Path, **options: Any) -> Any:
        """As `explain`, for scripts: back when the nodes are there. Raises UserError where it failed."""
        ends: dict[str, Any] = {}
        self.explain(
            volume_nodes,
            model,
            **options,
            on_done=lambda nodes: ends.update(nodes=nodes),
            on_failed=lambda sentence: ends.update(sentence=sentence),
        )
        while not ends:
            slicer.app.processEvents()
            time.sleep(0.005)
        if "sentence" in ends:
            raise UserError(ends["sentence"])
        return ends["nodes"]

    def close(self) -> None:
        """No process and no temporary file is left; the session can be used again."""
        self._client.close()
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)
            self._temporary = None

    def _export(self, node: Any) -> Path:
        """The volume as a file, written once for each content of the node."""
        key = asking.content(node)
        known = self._written.get(node.GetID())
        if known is None or known[0] != key or not known[1].is_file():
            path = self._folder / f"{node.GetID()}-{len(self._written)}-{time.monotonic_ns()}.nrrd"
            try:
                export_volume(node, path)
            except UserError:
                path.unlink(missing_ok=True)
                raise
            if known is not None:
                known[1].unlink(missing_ok=True)
            self._written[node.GetID()] = (key, path)
        return self._written[node.GetID()][1]

    def _present(self, folder: Path, nodes: list[Any], update: Any) -> Any:
        from ..explanation import Explanation
        from .presenting import present

        if any(node.GetScene() is None for node in nodes):
            raise UserError(_("The volume was removed while it was being explained: choose another one."))
        try:
            return present(Explanation.load(folder), nodes, update=update)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _tell(callback: Callable[[Any], None] | None, content: Any) -> None:
    if callback is not None:
        callback(content)
