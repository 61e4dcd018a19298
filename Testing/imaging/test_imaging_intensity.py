"""Intensity steps as a card declares them."""

import numpy as np
import pytest
import torch
from helpers.volumes import make_volume
from LRPExplainLib.errors import UserError
from LRPExplainLib.imaging.intensity import normalise_all
from LRPExplainLib.imaging.preparation import prepare
from LRPExplainLib.models import Preprocessing

VALUES = torch.arange(1001, dtype=torch.float32)


def normalise(values: torch.Tensor, steps: list[dict], name: str) -> torch.Tensor:
    """One volume, no foreground."""
    return normalise_all([values], steps, [name], [None])[0]


def test_percentiles_become_zero_and_one():
    step = {"type": "percentile", "lower": 10, "upper": 90}
    result = normalise(VALUES, [step], "v")
    assert result[100].item() == pytest.approx(0)
    assert result[900].item() == pytest.approx(1)
    assert float(result.min()) == 0
    assert float(result.max()) == 1
    unclipped = normalise(VALUES, [{**step, "clip": False}], "v")
    assert float(unclipped.max()) == pytest.approx(1.125)


def test_a_fixed_range_maps_to_the_cards_range():
    result = normalise(VALUES, [{"type": "range", "lower": 200, "upper": 600, "to": [-1, 1]}], "v")
    assert result[[0, 200, 400, 600, 1000]].tolist() == pytest.approx([-1, -1, 0, 1, 1])


def test_zscore_over_all_or_over_what_is_not_zero():
    everything = normalise(VALUES, [{"type": "zscore"}], "v")
    assert float(everything.mean()) == pytest.approx(0, abs=1e-5)
    assert float(everything.std(correction=0)) == pytest.approx(1, rel=1e-5)
    with_background = torch.cat([torch.zeros(500), VALUES[1:]])
    masked = normalise(with_background, [{"type": "zscore", "nonzero": True}], "v")
    assert not masked[:500].any()
    assert float(masked[500:].mean()) == pytest.approx(0, abs=1e-5)
    fixed = normalise(VALUES, [{"type": "zscore", "mean": 100.0, "std": 50.0}], "v")
    assert fixed[200].item() == pytest.approx(2)


def test_a_step_is_for_its_channels_and_no_matter_for_those_that_are_no_images():
    """A card counts label maps as channels too, which are not scaled."""
    volumes = [VALUES, VALUES + 1]
    step = {"type": "linear", "factor": 2.0, "channels": [1, 2]}
    first, second = normalise_all(volumes, [step], ["a", "b"], [None, None])
    assert torch.equal(first, VALUES)
    assert torch.equal(second, 2 * (VALUES + 1))


def test_steps_apply_in_order():
    steps = [{"type": "range", "lower": 0, "upper": 100, "clip": True}, {"type": "zscore", "mean": 1.0, "std": 0.5}]
    assert normalise(torch.tensor([50.0, 300.0]), steps, "v").tolist() == pytest.approx([-1, 0])


@pytest.mark.parametrize(
    "step",
    [{"type": "percentile"}, {"type": "minmax"}, {"type": "zscore"}, {"type": "zscore", "nonzero": True}],
)
def test_values_without_spread_are_refused(step):
    values = torch.zeros(1000)
    values[0] = 1 if step["type"] == "percentile" else 0
    with pytest.raises(UserError, match=r"'flat\.nii'.*another volume"):
        normalise(values, [step], "flat.nii")


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ({"type": "range", "lower": 100, "upper": 0}, "from lower 100 to upper 0"),
        ({"type": "range", "lower": 7, "upper": 7}, "from lower 7 to upper 7"),
        ({"type": "clip", "lower": 3, "upper": -3}, "from lower 3 to upper -3"),
        ({"type": "percentile", "lower": 99, "upper": 1}, "from lower 99 to upper 1"),
        ({"type": "percentile", "lower": 99.9}, r"from lower 99.9 to upper 99.8"),
    ],
)
def test_bounds_in_the_wrong_order_are_refused(step, said):
    with pytest.raises(UserError, match=f"step '{step['type']}' goes {said}: correct it"):
        prepare([make_volume()], Preprocessing(intensity=({"type": "minmax"}, step)))


def test_bounds_on_one_side_are_in_order():
    steps = ({"type": "clip", "lower": 20}, {"type": "clip", "upper": 60}, {"type": "percentile", "lower": 50})
    assert float(prepare([make_volume()], Preprocessing(intensity=steps)).tensor.max()) == 1


def test_padding_is_zero_and_counts_in_no_statistic():
    volume = make_volume()
    steps = ({"type": "zscore"},)
    plain = prepare([volume], Preprocessing(intensity=steps)).tensor
    padded = prepare([volume], Preprocessing(intensity=steps, size_multiple=32)).tensor
    assert plain.shape == (1, 1, 14, 26, 30)
    assert padded.shape == (1, 1, 32, 32, 32)
    torch.testing.assert_close(padded[..., 9:23, 3:29, 1:31], plain)
    assert np.count_nonzero(padded.numpy()) <= plain.numel()


def test_volumes_that_do_not_overlap_are_refused():
    near, far = make_volume(), make_volume(origin=(900.0, 900.0, 900.0))
    with pytest.raises(UserError, match=r"'FLAIR' does not overlap 'T1'"):
        prepare([near, far], Preprocessing(), ["T1", "FLAIR"])
