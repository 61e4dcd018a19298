"""From volume nodes to a request to the worker process, and from its answer to nodes."""

from __future__ import annotations

import shutil
import tempfile
import time
import traceback
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

import slicer
from slicer.i18n import tr as _

from ..errors import UserError
from ..worker.client import MAIN, REPLACED, Client
from . import answers, asking
from .export import export_volume, file_name
from .observing import observe
from .process import SlicerProcess, later
from .saying import said

Callback = Callable[..., None] | None
_PAUSE = 0.01  # seconds between two looks at whether an earlier presentation is over
_shared: Session | None = None


def shared_session() -> Session:
    """The application's one session; made when it is first asked for."""
    global _shared
    if _shared is None:
        _shared = Session()
        slicer.app.connect("aboutToQuit()", _shared.close)
    return _shared


class Run:
    """A request on its way, from the worker to the nodes. After `cancel` none of its callbacks is called."""

    def __init__(self) -> None:
        self.request: Any = None
        self.refused = ""  # why it failed: a kind of `worker.server`
        self.presenting: Generator[None, None, Any] | None = None
        self.wanted = True

    def cancel(self) -> None:
        """Not wanted any more: the worker stops, and nodes that were being made go."""
        self.wanted = False
        if self.request is not None:
            self.request.cancel()
        if self.presenting is not None:
            self.presenting.close()


class Session:
    """Requests about nodes of the scene. One worker process does the work; its files are in one temporary folder.

    ``consent(what, may_ask)`` decides where a model would run code of its own: ``what`` has "sentences" and "sha256",
    and only where ``may_ask`` is true may a person be asked. None: it is refused.
    """

    def __init__(self) -> None:
        self.consent: Callable[[dict[str, Any], bool], bool] | None = None
        self._client = Client(lambda client: SlicerProcess(client, self._folder), later)
        self._temporary: Path | None = None
        self._written: dict[str, tuple[object, Path]] = {}
        self._count = 0
        self._presenting: list[Run] = []

    @property
    def _folder(self) -> Path:
        if self._temporary is None or not self._temporary.is_dir():
            self._temporary = Path(tempfile.mkdtemp(prefix="LRPExplain-"))
            self._written = {}
        return self._temporary

    def describe(self, model: Path, on_done: Callable[[Any], None], on_failed: Callable[[str], None]) -> Run:
        """Ask what a model is; nobody is asked to trust it for that."""
        run = Run()
        done = _when_wanted(run, lambda event: on_done(event["facts"]))
        self._send(run, "describe", {"model": str(model)}, "describe", False, on_done=done, on_failed=on_failed)
        return run

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
        precision: str | None = None,
        update: Any = None,
        lane: str = MAIN,
        on_progress: Callback = None,
        on_prediction: Callback = None,
        on_done: Callback = None,
        on_failed: Callback = None,
    ) -> Run:
        """Ask why; see `LRPExplainLogic.explain`. ``update`` may also be a function, asked when the answer is there:
        the map may not have been there when the question was put.

        What can be seen to be wrong at once is raised as UserError, all else is told by ``on_failed(sentence)``.
        """
        nodes = list(volume_nodes)
        for n, node in enumerate(nodes):
            asking.check(node, labels=n > 0)
        observe(nodes[0].GetScene(), nodes[0].GetScene().EndCloseEvent, self.forget)
        self._count += 1
        try:
            files = [self._export(node) for node in nodes]
            contents = [asking.content(node) for node in nodes]
            place = asking.place(where, nodes[0], self._folder / f"asked-{self._count}.nrrd")
        except OSError as error:
            raise UserError(
                _("The volume cannot be handed over ({reason}): make room in the folder for temporary files.").format(
                    reason=error.strerror or error
                )
            ) from error
        message = {
            "model": str(model), "volumes": [str(file) for file in files], "target": target, "rather_than": rather_than,
            "where": place, "value": value, "start": start, "composite": composite, "rules": rules or None,
            "biases": biases, "device": device, "memory": memory, "precision": precision,
            "out": str(self._folder / f"answer-{self._count}"),
        }  # fmt: skip
        run = Run()

        def done(event: dict[str, Any]) -> None:
            folder = Path(event["folder"])
            self.present(run, _presenting(folder, nodes, update, lane == MAIN, contents), on_done, on_failed)

        self._send(
            run, "explain", message, lane, True,
            on_progress=on_progress, on_prediction=on_prediction, on_done=done, on_failed=on_failed,
        )  # fmt: skip
        return run

    def ask(
        self,
        verb: str,
        message: dict[str, Any],
        *,
        lane: str = MAIN,
        on_progress: Callback = None,
        on_done: Callback = None,
        on_failed: Callback = None,
    ) -> Run:
        """Ask for something else than an explanation (see `worker.checks`); ``on_done`` gets what the worker tells.

        ``lane``: of another one than the main one nobody is asked to trust the model.
        """
        run = Run()
        done = _when_wanted(run, on_done) if on_done is not None else None
        self._send(run, verb, message, lane, lane == MAIN, on_progress=on_progress, on_done=done, on_failed=on_failed)
        return run

    def show(
        self, run: Run, folders: Sequence[Path], nodes: Sequence[Any], on_done: Callback, on_failed: Callback
    ) -> None:
        """Present further explanations of the same volumes, as part of ``run``; ``on_done`` gets a list."""
        self.present(run, _presenting_all(folders, list(nodes)), on_done, on_failed)

    def place(self, name: str) -> Path:
        """A new place in the temporary folder."""
        self._count += 1
        return self._folder / f"{name}-{self._count}"

    def present(self, run: Run, steps: Generator[None, None, Any], on_done: Callback, on_failed: Callback) -> None:
        """Take steps of a presentation, as part of ``run``; ``on_done`` gets what they return."""
        run.presenting = steps
        self._presenting = [other for other in self._presenting if other.presenting is not None] + [run]
        self._step(run, on_done, on_failed)

    @property
    def presenting(self) -> bool:
        """Whether an answer is being presented."""
        return any(run.wanted and run.presenting is not None for run in self._presenting)

    def _waits(self, run: Run) -> bool:
        """Whether an earlier answer is still being presented: the next one may update the nodes that it makes."""
        earlier = self._presenting[: self._presenting.index(run)]
        return any(other.wanted and other.presenting is not None for other in earlier)

    def explain_and_wait(self, volume_nodes: Sequence[Any], model: Path, **options: Any) -> Any:
        """As `explain`, for scripts: back when the nodes are there. Raises UserError where it failed."""
        return _waited(self.explain, volume_nodes, model, **options)

    def wait(self, request: Callable[..., Run], *arguments: Any) -> Any:
        """Make one of the requests of `scene.checks` and wait for what its ``on_done`` gets. Errors as there."""
        return _waited(request, self, *arguments)

    def close(self) -> None:
        """No process, no temporary file and no half-made node is left; the session can be used again."""
        self._client.close()
        for run in self._presenting:
            if run.presenting is not None:
                run.cancel()
        self._presenting = []
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)
            self._temporary = None

    def forget(self, *_event: Any) -> None:
        """A scene was closed: the files of its volumes and of its maps go."""
        answers.forget()
        for _content, path in self._written.values():
            shutil.rmtree(path.parent, ignore_errors=True)
        self._written = {}

    def _send(
        self,
        run: Run,
        verb: str,
        message: dict[str, Any],
        lane: str,
        may_ask: bool,
        on_failed: Callback,
        **callbacks: Any,
    ) -> None:
        """Ask the worker; where trust is needed and given, ask again with it."""

        def failed(event: dict[str, Any]) -> None:
            trusted = (
                event["kind"] == "trust" and self.consent is not None and self.consent(event["what"], may_ask)
            )  # fmt: skip
            if trusted and run.wanted:
                self._send(
                    run, verb, message | {"trust": event["what"]["sha256"]}, lane, may_ask, on_failed, **callbacks
                )
                return
            run.refused = event["kind"]
            if run.request is None:  # it could not even be sent: the caller must have its `Run` first
                later(0, lambda: _tell(run, on_failed, said(event["sentence"])))
            else:
                _tell(run, on_failed, said(event["sentence"]))

        run.request = self._client.request(verb, message, lane=lane, on_failed=failed, **callbacks)

    def _step(self, run: Run, on_done: Callback, on_failed: Callback) -> None:
        """Present a part, and the rest when the application has served its user."""
        if not run.wanted:
            return
        if self._waits(run):
            later(_PAUSE, lambda: self._step(run, on_done, on_failed))
            return
        assert run.presenting is not None
        try:
            next(run.presenting)
        except StopIteration as end:
            run.presenting, result = None, end.value
        except Exception as error:  # whatever it is, the panel must say it and become usable again
            run.presenting = None
            if not isinstance(error, UserError):
                traceback.print_exc()
            if on_failed is not None:
                on_failed(str(error))
            return
        else:
            later(0, lambda: self._step(run, on_done, on_failed))
            return
        if on_done is not None:
            on_done(result)

    def _export(self, node: Any) -> Path:
        """The volume as a file, written once for each content of the node."""
        key = asking.content(node)
        known = self._written.get(node.GetID())
        if known is None or known[0] != key or not known[1].is_file():
            path = self.place("volume") / file_name(node)  # in a folder of its own: two may have one name
            path.parent.mkdir()
            try:
                export_volume(node, path)
            except UserError:
                shutil.rmtree(path.parent, ignore_errors=True)
                raise
            if known is not None:
                shutil.rmtree(known[1].parent, ignore_errors=True)
            self._written[node.GetID()] = (key, path)
        return self._written[node.GetID()][1]


def _waited(request: Callable[..., Run], *arguments: Any, **options: Any) -> Any:
    ends: dict[str, Any] = {}
    run = request(
        *arguments,
        **options,
        on_done=lambda content: ends.update(content=content),
        on_failed=lambda sentence: ends.update(sentence=sentence),
    )
    while not ends and run.wanted:
        slicer.app.processEvents()
        time.sleep(0.005)
    if "content" not in ends:
        raise UserError(ends.get("sentence", said(REPLACED)))
    return ends["content"]


def _tell(run: Run, callback: Callback, sentence: str) -> None:
    if callback is not None and run.wanted:
        callback(sentence)


def _when_wanted(run: Run, function: Callable[[Any], None]) -> Callable[[Any], None]:
    return lambda content: function(content) if run.wanted else None


def _presenting(
    folder: Path, nodes: list[Any], update: Any, keep: bool, contents: Sequence[object] = ()
) -> Generator[None, None, Any]:
    """Read the answer's folder and show it, in steps; ``keep``: checks can be made on it as long as Slicer runs.

    ``contents``: what the volumes held when they were handed over (see `asking.content`), where that must not have
    changed meanwhile.
    """
    from ..explanation import Explanation
    from .presenting import present_in_steps

    kept = False
    try:
        _require(nodes, contents)
        explanation = yield from Explanation.load_in_steps(folder)
        yield
        _require(nodes, contents)
        presented = yield from present_in_steps(explanation, nodes, update=update() if callable(update) else update)
        answers.keep(presented.relevance[0], folder if keep else None)
        kept = keep
        return presented
    finally:
        if not kept:
            shutil.rmtree(folder, ignore_errors=True)


def _presenting_all(folders: Sequence[Path], nodes: list[Any]) -> Generator[None, None, list[Any]]:
    shown = []
    for folder in folders:
        shown.append((yield from _presenting(folder, nodes, None, True)))
    return shown


def _require(nodes: list[Any], contents: Sequence[object]) -> None:
    if any(node.GetScene() is None for node in nodes):
        raise UserError(_("The volume was removed while it was being explained: choose another one."))
    for node, content in zip(nodes, contents, strict=False):
        if node.GetImageData() is None or asking.content(node) != content:
            raise UserError(
                _("The volume '{name}' was changed while it was being explained: explain it again.").format(
                    name=node.GetName()
                )
            )
