"""Finding out whether pictures can be drawn, and saying so when they cannot."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hand_built import build
from LRPExplainLib.errors import UserError
from LRPExplainLib.scene import present, render, renderer


@pytest.fixture(autouse=True)
def forget_the_answer() -> Iterator[None]:
    renderer.missing_renderer.cache_clear()
    yield
    renderer.missing_renderer.cache_clear()


def test_a_probe_that_crashes_gives_one_sentence_with_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renderer, "_PROBE", "import os; os.abort()")
    message = renderer.missing_renderer()
    assert message is not None
    assert "no OpenGL renderer" in message
    assert "install" in message


def test_a_probe_that_draws_means_nothing_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renderer, "_PROBE", "raise SystemExit(0)")
    assert renderer.missing_renderer() is None


def test_render_without_a_renderer_says_so_and_makes_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renderer, "_PROBE", "raise SystemExit(1)")
    with pytest.raises(UserError, match="no OpenGL renderer"):
        render(present(build(tmp_path)), tmp_path / "views")
    assert not (tmp_path / "views").exists()
