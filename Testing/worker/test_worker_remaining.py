"""The time left, against clocks whose speed is known."""

import pytest
from LRPExplainLib.worker.remaining import Stopwatch

STAGES = {"reading": 0.0, "preparing": 0.05, "capturing": 0.1, "predicting": 0.2, "propagating": 0.4, "returning": 0.95}


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def run(watch: Stopwatch, clock: Clock, lengths: dict[str, float], steps: int = 20) -> list[tuple[float, float | None]]:
    """A request whose stages take so many seconds each, at an even pace: (time really left, time said to be left)."""
    edges = [*STAGES.values(), 1.0]
    ends = dict(zip(STAGES, edges[1:], strict=True))
    said, left = [], sum(lengths.values())
    watch.start()
    for stage, length in lengths.items():
        for step in range(steps):
            share = STAGES[stage] + (ends[stage] - STAGES[stage]) * step / steps
            said.append((left, watch.left(stage, share)))
            clock.now += length / steps
            left -= length / steps
    watch.finish()
    return said


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def watch(clock: Clock) -> Stopwatch:
    return Stopwatch(STAGES, clock)


def test_a_further_question_is_judged_by_its_own_speed_and_not_by_the_share_it_begins_at(
    watch: Stopwatch, clock: Clock
) -> None:
    said = run(watch, clock, {"propagating": 55.0, "returning": 5.0})
    told = [(real, left) for real, left in said if left is not None]
    assert len(told) > 30
    assert all(left == pytest.approx(real) for real, left in told)


def test_nothing_is_said_before_the_speed_is_known(watch: Stopwatch, clock: Clock) -> None:
    said = run(watch, clock, {"reading": 30.0, "capturing": 30.0, "propagating": 0.4})
    assert all(left is None for _, left in said)


def test_the_second_request_knows_how_the_stages_compare(watch: Stopwatch, clock: Clock) -> None:
    lengths = {"reading": 1.0, "predicting": 2.0, "propagating": 30.0, "returning": 1.0}
    run(watch, clock, lengths)
    faster = {stage: length / 2 for stage, length in lengths.items()}
    told = [(real, left) for real, left in run(watch, clock, faster) if left is not None]
    assert all(left == pytest.approx(real) for real, left in told)
    assert max(left for _, left in told if left) > 15.0  # said while it predicted


def test_a_further_question_does_not_change_how_the_stages_compare(watch: Stopwatch, clock: Clock) -> None:
    lengths = {"predicting": 4.0, "propagating": 8.0, "returning": 2.0}
    run(watch, clock, lengths)
    run(watch, clock, {"propagating": 1.0, "returning": 9.0})
    told = [(real, left) for real, left in run(watch, clock, lengths) if left is not None]
    assert all(left == pytest.approx(real) for real, left in told)
