"""The panel and its worker process: never waiting, cancelled at once, killed at any moment, gone in the end."""

from __future__ import annotations

import json
import random
import sys
import time
import weakref
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import slicer
from helpers.slowness import slowness

from host.hands import Person, workers
from host.host import Host
from host.stalls import held


def resampled(volume: Any, size: int) -> Any:
    """The volume on ``size`` voxels in each direction, in the same place."""
    voxels = slicer.util.arrayFromVolume(volume)
    index = np.ix_(*[np.linspace(0, n - 1, size).round().astype(int) for n in voxels.shape])
    node = slicer.util.addVolumeFromArray(voxels[index].astype(np.float32), name=f"{volume.GetName()} {size}")
    node.SetSpacing([s * n / size for s, n in zip(volume.GetSpacing(), voxels.shape[::-1], strict=True)])
    node.SetOrigin(volume.GetOrigin())
    return node


def test_the_event_loop_is_never_held_longer_than_100_ms_at_128_voxels(person: Person) -> None:
    volume, lesion = person.load_sample()
    large = resampled(volume, 128)
    for node in (volume, lesion):
        slicer.mrmlScene.RemoveNode(node)
    person.host.choose(person.volume_selector(), large.GetName())
    person.host.wait(lambda: person.ui.explainButton.enabled, 30)

    def explain() -> None:
        person.click(person.ui.explainButton)
        person.wait_for_the_end(300)
        person.host.wait(lambda: person.ui.hotSpotsTable.rowCount > 0, 60)

    assert not held(explain, 100)
    assert not person.said()


def test_a_closed_scene_leaves_no_files_of_its_volumes_and_maps(
    with_small_model: Person, temporary: Path, tmp_path: Path
) -> None:
    person = with_small_model
    person.explain()
    person.open(person.ui.trustCollapsibleButton)
    person.click(person.ui.complexityButton)
    person.host.wait(lambda: not person.widget.panel.trust.running, 60)
    session = next(temporary.glob("LRPExplain-*"))
    before = {entry.name.rpartition("-")[0] for entry in session.iterdir()}
    assert {"volume", "answer"} <= before, before
    slicer.mrmlScene.Clear(0)
    person.host.process()
    assert [entry.name for entry in session.iterdir() if entry.name.startswith(("volume-", "answer-"))] == []
    slicer.util.addVolumeFromArray(np.random.default_rng(1).random((16, 16, 16)).astype(np.float32), name="next")
    person.choose_model(tmp_path / "small.ts")
    person.explain()  # the same worker goes on


def test_cancel_returns_within_a_second_and_leaves_nothing(person: Person) -> None:
    person.load_sample()
    nodes, limit = slicer.mrmlScene.GetNumberOfNodes(), 1.0 * slowness()
    for wait in (0.0, 0.5, 2.0):
        person.begin()
        end = time.monotonic() + wait
        person.host.wait(lambda end=end: time.monotonic() > end)
        before = time.monotonic()
        person.click(person.ui.cancelButton)
        person.host.wait(lambda: person.ui.explainButton.enabled, limit)
        assert time.monotonic() - before < limit
    person.host.process()
    assert slicer.mrmlScene.GetNumberOfNodes() == nodes
    person.explain()


def test_the_worker_may_be_killed_at_ten_random_moments(person: Person) -> None:
    person.load_sample()
    person.explain()  # how long a run takes with a warm worker
    began = time.monotonic()
    person.explain()
    length = time.monotonic() - began
    chance = random.Random(0)
    for _ in range(10):
        person.begin()
        end = time.monotonic() + chance.uniform(0, length)
        person.host.wait(lambda end=end: time.monotonic() > end)
        killed = workers()
        for each in killed:
            each.kill()
        person.wait_for_the_end()
        said = person.said()
        assert "Traceback" not in said
    person.explain()
    assert person.host.errors == []


def test_a_worker_that_does_not_hear_is_ended_behind_slicers_launcher_and_takes_no_answer_along(
    with_small_model: Person, temporary: Path
) -> None:
    person = with_small_model
    person.explain()
    answers = {path for path in temporary.rglob("answer-*") if path.is_dir()}
    assert answers
    launcher, worker = workers()
    worker.suspend()  # as one that is held up in the driver of a graphics card
    person.begin()
    person.click(person.ui.cancelButton)
    person.host.wait(lambda: launcher not in workers(), 10)
    assert worker.is_running()
    worker.resume()
    person.host.wait(lambda: not worker.is_running(), 10)
    assert all(path.is_dir() for path in answers)
    person.explain()


def test_nothing_is_left_of_the_worker_after_slicer_is_closed(temporary: Path) -> None:
    with Host() as host:
        person = Person(host, host.open())
        person.load_sample()
        person.explain()
        assert host.errors == []
    end = time.monotonic() + 5
    while (workers() or list(temporary.iterdir())) and time.monotonic() < end:
        time.sleep(0.05)
    assert workers() == []
    assert list(temporary.iterdir()) == []


def test_the_crosshair_explains_the_voxel_below_it_and_newer_places_go_first(person: Person) -> None:
    volume, _ = person.load_sample()
    person.explain()
    person.click(person.ui.crosshairCheckBox)
    crosshair = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLCrosshairNode")
    bounds = [0.0] * 6
    volume.GetRASBounds(bounds)
    middle = np.array([(bounds[0] + bounds[1]) / 2, (bounds[2] + bounds[3]) / 2, (bounds[4] + bounds[5]) / 2])
    for shift in range(6):
        crosshair.SetCrosshairRAS(middle[0] + shift, middle[1], middle[2])
        person.host.process()
    assert person.said() == "Explaining at the crosshair …"

    def maps() -> list[Any]:
        nodes = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
        return [node for node in nodes if node.GetAttribute("LRPExplain.Role") == "relevance"]

    before = maps()
    person.host.wait(lambda: not person.said(), 60)
    (live,) = [node for node in maps() if node not in before]  # one map for all places
    asked = json.loads(live.GetAttribute("LRPExplain.Facts"))["target"]["region"]["points_ras"][0]
    np.testing.assert_allclose(asked, crosshair.GetCrosshairRAS())
    person.host.choose(person.ui.relevanceSelector, before[0].GetName())
    person.host.choose(person.ui.relevanceSelector, live.GetName())
    assert person.ui.predictionTable.item(0, 0).text() == "lesion"
    person.click(person.ui.crosshairCheckBox)


def test_answers_are_presented_one_after_another(person: Person) -> None:
    from LRPExplainLib.scene.session import Run

    session, steps, done = person.widget.panel.logic.session, [], []

    def presenting(name: str) -> Generator[None, None, str]:
        for step in range(3):
            steps.append(f"{name}{step}")
            yield
        return name

    for name in ("a", "b", "c"):
        run = Run()
        session.present(run, presenting(name), done.append, done.append)
        if name == "b":
            run.cancel()
    person.host.wait(lambda: len(done) == 2, 10)
    assert done == ["a", "c"]
    assert steps == ["a0", "a1", "a2", "c0", "c1", "c2"]


def test_reload_ends_the_worker_and_brings_a_panel_that_works(with_small_model: Person, tmp_path: Path) -> None:
    person = with_small_model
    person.explain()
    before = workers()
    assert before

    def ours() -> dict[str, Any]:
        return {
            name: each for name, each in sys.modules.items() if name.split(".")[0] in ("LRPExplain", "LRPExplainLib")
        }

    modules = ours()
    try:
        person.widget.onReload()
        assert not {worker.pid for worker in workers()} & {worker.pid for worker in before}
        assert slicer.modules.LRPExplainWidget.panel.entered  # Slicer does not say so
        again = Person(person.host, slicer.modules.LRPExplainWidget)
        again.host.process()
        again.choose_model(tmp_path / "small.ts")
        again.explain()
    finally:
        slicer.modules.LRPExplainWidget.cleanup()
        for name in ours():
            del sys.modules[name]
        sys.modules.update(modules)  # other tests have imported from these


def test_what_was_called_after_a_while_is_let_go(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """PythonQt keeps all that it called after a while (seen in Slicer 5.13): each answer's images stayed in memory."""
    import qt
    from LRPExplainLib.scene.process import later

    kept: list[Any] = []
    single_shot = qt.QTimer.singleShot
    monkeypatch.setattr(qt.QTimer, "singleShot", lambda ms, act: (kept.append(act), single_shot(ms, act)))

    class Answer:
        pass

    answer, called = Answer(), []
    known = weakref.ref(answer)
    later(0, lambda answer=answer: called.append(1))
    del answer
    host.wait(lambda: called, 5)
    assert kept
    assert known() is None
