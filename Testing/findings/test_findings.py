"""Findings with closed-form answers: every voxel's place and value is known."""

from dataclasses import astuple

import numpy as np
import pytest
from LRPExplainLib.errors import UserError
from LRPExplainLib.findings import (
    Field,
    Findings,
    Layer,
    Magnitudes,
    Reference,
    Selection,
    find_clusters,
    profiles_of,
)
from LRPExplainLib.findings.account import ledger_line
from LRPExplainLib.findings.body import MARGIN_MM, block_sums, relevance_outside
from LRPExplainLib.findings.caution import border_share, warnings_of

# i runs to the left (2 mm), j to the front (3 mm), k to the head (4 mm): a voxel has 24 mm3
MATRIX = np.array([[-2.0, 0, 0, 40], [0, 3.0, 0, -60], [0, 0, 4.0, -30], [0, 0, 0, 1]])
LEDGER = {"target_value": 10.0, "in_volume": 9.0, "absorbed": 0.5, "outside": 0.5, "in_volume_by_input": [9.0]}


def empty() -> np.ndarray:
    return np.zeros((14, 20, 24), np.float32)


def two_blocks() -> np.ndarray:
    """+1 in 27 voxels with a peak of 5 in their middle; -2 in 8 voxels that touch them at a corner; one lone 0.5."""
    values = empty()
    values[2:5, 4:7, 6:9] = 1.0
    values[3, 5, 7] = 5.0
    values[5:7, 7:9, 9:11] = -2.0
    values[12, 18, 22] = 0.5
    return values


def findings(values: np.ndarray, selection: Selection, reference: Reference | None = None) -> Findings:
    return Findings([Field(values, MATRIX)], [None], ["T1"], LEDGER, {}, selection, reference)


# --- how much lies above a level -------------------------------------------------------------------------------------


@pytest.mark.parametrize("sign", ["both", "positive", "negative"])
def test_a_share_of_the_mass_is_kept_by_the_fewest_voxels_that_hold_it(sign: str) -> None:
    values = (np.random.default_rng(3).normal(size=20_000) ** 3).astype(np.float32)
    chosen = {"both": np.abs(values), "positive": values.clip(0), "negative": (-values).clip(0)}[sign]
    magnitudes = Magnitudes([values])
    assert magnitudes.total(sign) == pytest.approx(chosen.sum(dtype=np.float64), rel=1e-9)
    assert magnitudes.peak(sign) == chosen.max()
    for share in (0.01, 0.3, 0.5, 0.9, 0.999):
        level = magnitudes.level(share, sign)
        total = chosen.sum(dtype=np.float64)
        assert chosen[chosen >= level].sum(dtype=np.float64) >= share * total * (1 - 1e-9)
        assert chosen[chosen > level].sum(dtype=np.float64) < share * total


def test_the_ends_of_the_mass_are_the_peak_and_every_voxel() -> None:
    magnitudes = Magnitudes([np.array([1.0, -3.0, 2.0], np.float32)])
    assert magnitudes.level(0.0) == 3.0
    assert magnitudes.level(1.0) == 0.0
    assert magnitudes.level(0.0, "positive") == 2.0


def test_a_map_of_zeros_has_no_mass_no_peak_and_no_level() -> None:
    magnitudes = Magnitudes([np.zeros(100, np.float32)])
    assert (magnitudes.total(), magnitudes.peak(), magnitudes.level(0.5)) == (0.0, 0.0, 0.0)


def test_several_maps_count_as_one() -> None:
    magnitudes = Magnitudes([np.array([1.0, -1.0], np.float32), np.array([4.0], np.float32)])
    assert magnitudes.total() == 6.0
    assert magnitudes.level(0.6) == 4.0
    assert magnitudes.level(0.7) == 1.0


def test_denormal_numbers_are_nothing() -> None:
    assert Magnitudes([np.full(10, 1e-40, np.float32)]).total() == 0.0


# --- selection -------------------------------------------------------------------------------------------------------


def test_maps_are_counted_one_at_a_time_and_a_level_is_looked_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of four inputs all that takes longer than a reader sees; colours and opacity ask for the same level again."""
    maps = [np.random.default_rng(n).normal(size=(9, 8, 7)).astype(np.float32) for n in range(4)]
    whole, counted = Magnitudes(maps), Magnitudes(maps)
    steps = counted.count()
    next(steps)
    next(steps)  # whoever asks before the end has all counted
    found = [(share, sign) for share in (0.0, 0.2, 0.8, 1.0) for sign in ("both", "positive", "negative")]
    assert [counted.level(*each) for each in found] == [whole.level(*each) for each in found]
    assert list(steps) == []
    assert counted.total() == whole.total()
    assert counted.peak() == max(float(np.abs(m).max()) for m in maps)
    monkeypatch.setattr(counted, "_members", lambda *_place: pytest.fail("looked up again"))
    assert [counted.level(*each) for each in found] == [whole.level(*each) for each in found]


def test_a_threshold_by_peak_and_one_by_mass_mean_what_they_say() -> None:
    magnitudes = Magnitudes([two_blocks()])
    assert Selection("peak", 40).level(magnitudes) == 2.0
    assert Selection("peak", 40, sign="negative").level(magnitudes) == pytest.approx(0.8)
    assert Selection("mass", 100 * 5 / 47.5).level(magnitudes) == 5.0
    assert Selection("mass", 40).level(magnitudes) == 2.0


@pytest.mark.parametrize(
    "wrong",
    [{"threshold": 101}, {"threshold": -1}, {"threshold_kind": "sigma"}, {"sign": "plus"}, {"minimum_cluster_ml": -1}],
)
def test_a_selection_out_of_range_is_refused_in_one_sentence(wrong: dict) -> None:
    with pytest.raises(UserError):
        Selection(**wrong)


# --- regions ---------------------------------------------------------------------------------------------------------


def test_regions_are_ranked_by_their_relevance_and_signs_stay_apart() -> None:
    clusters = find_clusters(Field(two_blocks(), MATRIX), 0.1)
    assert clusters.totals.tolist() == [31.0, -16.0, 0.5]
    assert clusters.voxels.tolist() == [27, 8, 1]
    assert clusters.peaks.tolist() == [5.0, -2.0, 0.5]
    assert clusters.places[0].tolist() == [7, 5, 3]
    assert [clusters.at(index) for index in ((6, 4, 2), (9, 7, 5), (22, 18, 12), (0, 0, 0), (23, 19, 13))] == [
        1,
        2,
        3,
        0,
        0,
    ]


def test_voxels_that_touch_at_a_corner_are_one_region() -> None:
    values = empty()
    values[1, 1, 1] = values[2, 2, 2] = 1.0
    clusters = find_clusters(Field(values, MATRIX), 0.5)
    assert len(clusters) == 1
    assert clusters.places.tolist() == [[1, 1, 1]]  # of two peaks alike the first


def test_regions_below_the_least_volume_are_dropped_and_said_so() -> None:
    field = Field(two_blocks(), MATRIX)
    clusters = find_clusters(field, 0.1, minimum_ml=0.024 * 8)  # eight voxels are just enough
    assert clusters.voxels.tolist() == [27, 8]
    assert int(clusters.dropped.sum()) == 1
    assert field.values[clusters.box][clusters.dropped].tolist() == [0.5]
    assert find_clusters(field, 0.1, minimum_ml=0.2).voxels.tolist() == [27]


@pytest.mark.parametrize(("sign", "totals"), [("positive", [31.0, 0.5]), ("negative", [-16.0])])
def test_one_sign_alone(sign: str, totals: list[float]) -> None:
    assert find_clusters(Field(two_blocks(), MATRIX), 0.1, sign).totals.tolist() == totals


def test_nothing_above_the_threshold_is_no_region() -> None:
    clusters = find_clusters(Field(empty(), MATRIX), 0.0)
    assert len(clusters) == 0
    assert clusters.at((3, 3, 3)) == 0


def test_hot_spots_have_share_volume_mean_peak_and_place() -> None:
    first, second, lone = findings(two_blocks(), Selection("peak", 5)).hot_spots
    assert (first.rank, first.relevance, first.peak) == (1, 31.0, 5.0)
    assert first.share == pytest.approx(31 / 47.5)
    assert first.ml == pytest.approx(27 * 0.024)
    assert first.mean == pytest.approx(31 / 27)
    assert first.place == (40 - 2 * 7, -60 + 3 * 5, -30 + 4 * 3)
    assert (second.relevance, second.peak) == (-16.0, -2.0)
    assert lone.rank == 3
    assert first.segment == ""


def test_hot_spots_that_would_be_listed_with_nothing_are_left_out_but_the_first() -> None:
    values = two_blocks()
    values[values == 0.5] = 0.01
    assert [spot.rank for spot in findings(values, Selection("peak", 0.1)).hot_spots] == [1, 2]
    faint = findings(values, Selection("peak", 0.1))
    faint.magnitudes = Magnitudes([values, np.full((100, 100, 100), 1.0, np.float32)])  # another map has nearly all
    assert [(spot.rank, spot.percent) for spot in faint.hot_spots] == [(1, "< 0.1 %")]


def test_a_hot_spot_names_the_segment_that_holds_most_of_its_relevance() -> None:
    labels = np.zeros(empty().shape, np.uint8)
    labels[2:5, 4:7, 6:8] = 7  # two of three columns, the peak among them
    labels[2:5, 4:7, 8:9] = 9
    reference = Reference((Layer(labels, {7: "tumour", 9: "oedema"}),))
    first, second, _ = findings(two_blocks(), Selection("peak", 5), reference).hot_spots
    assert (first.segment, first.overlap) == ("tumour", pytest.approx(22 / 31))
    assert (second.segment, second.overlap) == ("outside", 1.0)


def test_in_steps_the_same_is_found_and_is_there_then() -> None:
    labels = np.zeros(empty().shape, np.uint8)
    labels[2:5, 4:7, 6:8] = 7
    reference = Reference((Layer(labels, {7: "tumour"}), Layer(labels // 7, {1: "again"})))
    selection = Selection("peak", 5, minimum_cluster_ml=0.2)
    at_once, bit_by_bit = (findings(two_blocks(), selection, reference) for _ in range(2))
    assert sum(1 for _ in bit_by_bit.in_steps()) > 6  # each sign, each layer and more in a step of its own
    assert {"clusters", "shares"} <= vars(bit_by_bit).keys()
    assert bit_by_bit.shares == at_once.shares
    for part in ("labels", "voxels", "totals", "peaks", "places", "dropped"):
        assert np.array_equal(getattr(bit_by_bit.clusters, part), getattr(at_once.clusters, part))


def test_the_readout_names_relevance_region_and_segments() -> None:
    labels = np.zeros(empty().shape, np.int16)
    labels[3, 5, 7] = 300
    whole = np.ones(empty().shape, np.uint8)
    reference = Reference((Layer(labels, {300: "core"}), Layer(whole, {1: "head"})))
    found = findings(two_blocks(), Selection("peak", 30), reference)
    inside, outside = found.at((7, 5, 3)), found.at((0, 0, 0))
    assert (inside.relevance, inside.segments) == (5.0, ("core", "head"))
    assert inside.hot_spot is not None
    assert inside.hot_spot.ml == pytest.approx(0.024)
    assert (outside.relevance, outside.hot_spot, outside.segments) == (0.0, None, ("head",))
    assert found.field.index((40 - 14, -60 + 15, -30 + 12)) == (7, 5, 3)
    assert found.field.index((1000, 0, 0)) is None


# --- shares ----------------------------------------------------------------------------------------------------------


def test_shares_per_segment_and_outside_add_up_to_the_whole() -> None:
    labels = np.zeros(empty().shape, np.uint8)
    labels[2:5, 4:7, 6:9] = 1
    labels[5:7, 7:9, 9:11] = 2
    rows = findings(two_blocks(), Selection(), Reference((Layer(labels, {1: "a", 2: "b"}),))).shares
    assert [row.name for row in rows] == ["a", "b", "outside"]
    assert [(row.positive, row.negative) for row in rows] == [(31, 0), (0, -16), (0.5, 0)]
    assert sum(row.share for row in rows) == pytest.approx(1)
    assert rows[0].ml == pytest.approx(27 * 0.024)
    assert rows[0].density == pytest.approx(31 / 47.5 / (27 / empty().size))


def test_overlapping_segments_each_count_and_a_label_without_a_name_is_outside() -> None:
    one, two = np.zeros(empty().shape, np.uint8), np.zeros(empty().shape, np.uint8)
    one[2:5, 4:7, 6:9] = 1
    two[3, 5, 7] = 1
    two[12, 18, 22] = 5
    rows = findings(two_blocks(), Selection(), Reference((Layer(one, {1: "block"}), Layer(two, {1: "core"})))).shares
    assert [(row.name, row.positive) for row in rows] == [("block", 31), ("core", 5), ("outside", 0.5)]


def test_an_empty_segment_has_no_share_and_no_density() -> None:
    rows = findings(
        two_blocks(), Selection(), Reference((Layer(np.zeros(empty().shape, np.uint8), {4: "none"}),))
    ).shares
    assert (rows[0].share, rows[0].density, rows[0].ml) == (0, 0, 0)
    assert rows[1].share == pytest.approx(1)


# --- profiles --------------------------------------------------------------------------------------------------------


def test_profiles_hold_the_sums_of_both_signs_per_slice_at_ascending_positions() -> None:
    sagittal, coronal, axial = profiles_of(Field(two_blocks(), MATRIX))
    assert [(p.name, p.direction, p.axis) for p in (sagittal, coronal, axial)] == [
        ("sagittal", "LR", 0),
        ("coronal", "PA", 1),
        ("axial", "IS", 2),
    ]
    for profile in (sagittal, coronal, axial):
        assert profile.positive.sum() == pytest.approx(31.5)
        assert profile.negative.sum() == pytest.approx(-16)
        assert (np.diff(profile.position) > 0).all()
    assert axial.positive[2:5].tolist() == [9, 13, 9]
    assert axial.position[3] == -30 + 12
    assert sagittal.positive[sagittal.position == 40 - 14] == [13]
    assert coronal.negative[coronal.position == -60 + 21] == [-8]


def test_a_tilted_grid_gives_each_axis_its_own_name() -> None:
    angle = 0.5
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    matrix = np.eye(4)
    matrix[:3, :3] = turn[:, [2, 0, 1]]
    assert [p.name for p in profiles_of(Field(empty(), matrix))] == ["axial", "sagittal", "coronal"]


def test_a_voxel_of_a_turned_grid_has_its_size_and_holds_the_points_up_to_half_of_it() -> None:
    turn = np.array([[0.6, -0.8, 0.0], [0.8, 0.6, 0.0], [0.0, 0.0, 1.0]])
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = turn * (1.0, 2.0, 5.0), (10.0, -20.0, 30.0)
    field = Field(empty(), matrix)  # 24 x 20 x 14
    assert field.spacing == pytest.approx((1.0, 2.0, 5.0))
    assert field.voxel_ml == pytest.approx(0.01)
    last = (23, 19, 13)
    for axis in range(3):
        for step, inside in ((0.49, last), (0.51, None)):
            place = np.array(last, float)
            place[axis] += step
            assert field.index(field.point(place)) == inside
            place = np.zeros(3)
            place[axis] -= step
            assert field.index(field.point(place)) == (inside and (0, 0, 0))


# --- the ledger and the warnings -------------------------------------------------------------------------------------


def test_the_ledger_is_one_line() -> None:
    assert ledger_line(LEDGER | {"relative_gap": 2e-7}) == (
        "Target value 10 = 90.0 % in the volume + 5.0 % absorbed + 5.0 % outside the field of view; closes to 2e-07."
    )
    assert "closes exactly" in ledger_line(LEDGER)
    against = {"target_value": -7.0, "in_volume": -7.0, "absorbed": 1e-5, "outside": 0.0}
    assert ledger_line(against).startswith("Target value -7 = 100.0 % in the volume + 0.0 % absorbed + 0.0 % outside")


def head(shape: tuple[int, int, int] = (48, 48, 48)) -> tuple[np.ndarray, np.ndarray]:
    """A ball of tissue in noisy air with a dark hole in it; how far each voxel (of 2 mm) is from the middle, in mm."""
    k, j, i = np.indices(shape)
    radius = 2 * np.sqrt(sum((axis - 23.5) ** 2 for axis in (i, j, k)))
    values = np.where(radius < 34, 100.0, 0.0) + np.random.default_rng(0).random(shape) * 5
    values[radius < 8] = 0.0
    return values.astype(np.float32), radius


def test_relevance_in_air_is_told_from_relevance_in_a_hole_of_the_body() -> None:
    values, radius = head()
    matrix = np.diag([2.0, 2.0, 2.0, 1.0])
    for where, expected in (
        (radius < 7, 0.0),
        ((radius > 20) & (radius < 32), 0.0),
        (radius > 34 + MARGIN_MM + 4, 1.0),
    ):
        air = relevance_outside(Field(where.astype(np.float32), matrix), Field(values, matrix))
        assert air is not None
        assert air.share == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize("thickness", [1, 24])
@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_lungs_are_no_air_around_the_body(thickness: int, axes: tuple[int, int, int]) -> None:
    """Though in an X-ray nothing is before or behind them, and a CT ends within them or shows the windpipe up to its
    end."""
    k, j, i = np.indices((thickness, 60, 60))
    body = np.hypot(j - 30, i - 30) < 24
    lungs = (np.minimum(np.hypot(j - 30, i - 20), np.hypot(j - 30, i - 40)) < 7) & (k < max(1, thickness - 6))
    values = np.where(body & ~lungs, 40.0, -900.0)
    values[(thickness - 6 if thickness > 1 else 60) :, 28:32, 20:24] = -900.0
    values += np.random.default_rng(0).normal(0, 20, values.shape)
    matrix = np.eye(4)
    matrix[:3, :3] = 3 * np.eye(3)[:, [2 - axis for axis in reversed(axes)]]  # i, j, k after the axes are swapped
    volume = Field(np.ascontiguousarray(values.transpose(axes)).astype(np.float32), matrix)
    for where, expected in ((lungs, 0.0), (np.hypot(j - 30, i - 30) > 31, 1.0)):
        air = relevance_outside(Field(where.transpose(axes).astype(np.float32), matrix), volume)
        assert air is not None
        assert air.share == pytest.approx(expected, abs=0.05)


def test_where_there_is_no_air_nothing_is_outside_the_body() -> None:
    matrix = np.eye(4)
    noise = np.random.default_rng(1).random((20, 20, 20)).astype(np.float32)
    assert relevance_outside(Field(noise, matrix), Field(np.ones_like(noise), matrix)) is None


def test_a_picture_of_the_chest_alone_shows_no_air_around_it() -> None:
    """Its darkest parts are the lungs."""
    j, i = np.indices((60, 60))
    values = np.where(np.minimum(np.hypot(j - 30, i - 18), np.hypot(j - 30, i - 42)) < 10, 15.0, 80.0)
    values[:, 28:32] = 180.0
    volume = Field((values + np.random.default_rng(0).normal(0, 5, values.shape))[None].astype(np.float32), np.eye(4))
    assert relevance_outside(Field((values < 20)[None].astype(np.float32), np.eye(4)), volume) is None


def test_relevance_at_the_border_of_the_field_of_view_is_measured() -> None:
    values = np.zeros((40, 40, 40), np.float32)
    values[20, 20, 20], values[20, 20, 1] = 3.0, -1.0
    assert border_share(Field(values, np.eye(4))) == pytest.approx(0.25)
    thin = np.ones((1, 40, 40), np.float32)  # an X-ray has no inside along k
    assert border_share(Field(thin, np.eye(4))) == pytest.approx(1 - 28 * 28 / 1600)


def caution(
    relevance: np.ndarray, volume: np.ndarray | None = None, ledger: dict | None = None, card: dict | None = None
):
    matrix = np.diag([2.0, 2.0, 2.0, 1.0])
    fields = [None if volume is None else Field(volume, matrix)]
    return warnings_of([Field(relevance, matrix)], fields, ["T1"], LEDGER | (ledger or {}), card or {})


def test_a_clean_map_has_no_warning_and_each_fault_has_its_own_sentence() -> None:
    values, radius = head()
    inside = ((radius > 10) & (radius < 30)).astype(np.float32)
    assert caution(inside, values) == []
    astray = caution(inside + (radius > 46), values)
    assert len(astray) == 2  # air reaches the border here
    assert astray[0].endswith("% of the relevance lies outside the body, in air.")
    cut = inside * 0
    cut[:2] = 1
    assert any("border of the field of view" in text for text in caution(cut, None))
    assert any("ledger is open" in text for text in caution(inside, None, {"relative_gap": 0.01}))
    assert any("absorbed by biases" in text for text in caution(inside, None, {"absorbed": 9.2}))
    assert any("92 %" in text for text in caution(inside, None, {"absorbed": 9.2}))
    (more,) = caution(inside, None, {"in_volume": 63.3, "absorbed": -53.3})
    assert more.startswith("The map sums to 633 % of the target value, of which biases and stabilisers take 533 % away")
    (less,) = caution(inside, None, {"target_value": -10.0, "in_volume": 3.0, "absorbed": -13.0})[:1]
    assert less.startswith("130 % of the target value was absorbed")
    assert any("outside the field of view" in text for text in caution(inside, None, {"outside": 2.0}))
    assert any("is below 0" in text for text in caution(inside, None, {"target_value": -10.0}))
    assert any("is below 0" in text for text in caution(inside, None, {"in_volume": -1.0}))
    assert not any("below 0" in text for text in caution(inside, None, {"target_value": -10.0, "note": "n"}))


@pytest.mark.parametrize(
    ("name", "slices", "step", "told"),
    [
        ("chest.PNG", 1, 1.0, "counts its pixels"),
        ("chest.png", 1, 0.2, None),
        ("IM0001", 1, 1.0, "may count its pixels"),
        ("IM0001", 1, 0.143, None),
        ("brain.nrrd", 9, 1.0, None),
    ],
)
def test_of_a_picture_or_an_x_ray_without_a_size_millimetres_are_called_pixels(name, slices, step, told) -> None:
    field = Field(np.ones((slices, 9, 9), np.float32), np.diag([step, step, 1.0, 1.0]))
    found = [sentence for sentence in warnings_of([field], [None], [name], LEDGER, {}) if "pixels" in sentence]
    assert len(found) == (told is not None)
    assert all(told in sentence for sentence in found)


def test_relevance_at_something_bright_in_air_is_told_from_relevance_in_air_and_in_the_body() -> None:
    values, radius = head((64, 48, 48))  # more air at one end
    marker = np.zeros(values.shape, bool)
    marker[56:60, 38:42, 38:42] = True  # 64 voxels of 8 cubic millimetres
    values[marker] = 80.0
    body = ((radius > 10) & (radius < 30)).astype(np.float32)
    body /= body.sum()
    on_marker = marker / np.float32(marker.sum())
    assert caution(body, values) == []  # being there is no fault
    said = caution(0.4 * body + 0.6 * on_marker, values)
    assert said[0].startswith("60 % of the relevance lies at something bright in air (0.5 ml, ")
    assert said[1] == "60 % of the relevance lies outside the body, in air."
    away = float(said[0].split(" ml, ")[1].split(" mm")[0])
    assert away == pytest.approx(radius[marker].min() - 34, abs=5)  # the grid it is sought on has 4 mm
    elsewhere = np.zeros_like(body)
    elsewhere[56:60, 4:8, 4:8] = 1 / 64
    said = caution(0.4 * body + 0.6 * elsewhere, values)
    assert said[0] == "60 % of the relevance lies outside the body, in air."
    assert not any("something bright" in sentence for sentence in said)


def test_what_lies_in_air_is_the_same_on_any_scale_of_intensities_and_of_relevance() -> None:
    values, radius = head((64, 48, 48))
    marker = np.zeros(values.shape, bool)
    marker[56:60, 38:42, 38:42] = True
    values[marker] = 80.0
    relevance = ((radius > 10) & (radius < 30)).astype(np.float32) / 1e4 + marker / np.float32(64)
    matrix = np.diag([2.0, 2.0, 2.0, 1.0])
    air = relevance_outside(Field(relevance, matrix), Field(values, matrix))
    assert air is not None
    assert air.thing is not None
    assert air.thing.share == pytest.approx(air.share)  # nothing else is out there
    for volume, values_of in ((values - 1000, relevance), (10 * values, relevance), (values, -7 * relevance)):
        other = relevance_outside(Field(values_of, matrix), Field(volume, matrix))
        assert other is not None
        assert other.thing is not None
        assert astuple(other.thing) == pytest.approx(astuple(air.thing), rel=1e-5)
        assert other.share == pytest.approx(air.share, rel=1e-5)


@pytest.mark.parametrize("padding", [-2000.0, -3024.0])
def test_padding_outside_the_circle_of_a_ct_is_air_as_well(padding: float) -> None:
    """Else the circle was the body, and what lies in its air was never told."""
    values, radius = head((64, 48, 48))
    values = 10 * values - 1000
    marker = np.zeros(values.shape, bool)
    marker[56:60, 32:36, 32:36] = True
    values[marker] = -200.0
    matrix = np.diag([2.0, 2.0, 2.0, 1.0])
    relevance = Field(((radius > 10) & (radius < 30)) / np.float32(1e4) + marker / np.float32(64), matrix)
    expected = relevance_outside(relevance, Field(values, matrix))
    j, i = np.indices(values.shape[1:])
    values[:, np.hypot(j - 23.5, i - 23.5) > 22] = padding
    air = relevance_outside(relevance, Field(values, matrix))
    assert air is not None
    assert air.share == pytest.approx(expected.share)
    assert astuple(air.thing) == pytest.approx(astuple(expected.thing), rel=0.01)


def test_no_more_relevance_at_something_in_air_than_chance_puts_there_is_no_warning_about_it() -> None:
    values, _ = head((64, 48, 48))
    values[52:62, 34:44, 34:44] = 80.0  # with what is around it over 2 % of the field of view
    said = caution(np.ones_like(values), values)
    assert any(sentence.endswith("lies outside the body, in air.") for sentence in said)
    assert not any("something bright" in sentence for sentence in said)


@pytest.mark.parametrize("factors", [[1, 1, 1], [2, 3, 4], [5, 7, 9], [20, 20, 20]])
def test_sums_over_blocks_of_which_the_last_may_be_smaller(factors: list[int]) -> None:
    values = np.random.default_rng(5).random((9, 14, 11))  # k, j, i
    found = block_sums(values, factors)
    i, j, k = factors
    starts = [range(0, size, step) for size, step in zip(values.shape, (k, j, i), strict=True)]
    expected = [values[a : a + k, b : b + j, c : c + i].sum() for a in starts[0] for b in starts[1] for c in starts[2]]
    np.testing.assert_allclose(found.ravel(), expected)
    assert found.shape == tuple(map(len, starts))


def test_an_input_whose_map_has_gone_is_passed_over() -> None:
    values, radius = head()
    astray = Field((radius > 46).astype(np.float32), np.diag([2.0, 2.0, 2.0, 1.0]))
    volume = Field(values, astray.ijk_to_ras)
    said = warnings_of([None, astray], [volume, volume], ["T1", "FLAIR"], LEDGER, {})
    assert any("of 'FLAIR' lies outside the body" in sentence for sentence in said)
    assert not any("T1" in sentence for sentence in said)


def test_relevance_that_avoids_an_expert_s_segments_is_told_but_not_for_what_the_model_predicts() -> None:
    field = Field(two_blocks(), MATRIX)
    labels = np.zeros(field.values.shape, np.uint8)
    far = np.argwhere(field.values == 0)[:40]
    labels[tuple(far.T)] = 1

    def warnings(labels: np.ndarray, judges: bool = True) -> list[str]:
        reference = Reference((Layer(labels, {1: "tumour"}),), judges)
        found = Findings([field], [None], ["T1"], LEDGER, {}, Selection(), reference)
        return [sentence for sentence in found.warnings if "avoids" in sentence]

    (said,) = warnings(labels)
    assert "its segments hold 0.00 % of it" in said
    assert f"{40 / labels.size:.2%}".replace("%", " %") in said
    assert warnings(labels, judges=False) == []
    assert warnings((field.values != 0).astype(np.uint8)) == []
    assert warnings(np.zeros_like(labels)) == []


@pytest.mark.parametrize(
    ("step", "factor", "warns"),
    [
        ({"type": "range", "lower": -160, "upper": 240}, 1.0, False),
        ({"type": "range", "lower": -160, "upper": 240}, 100.0, True),
        ({"type": "zscore", "mean": 90.0, "std": 20.0}, 1.0, False),
        ({"type": "zscore", "mean": 90.0, "std": 20.0}, 100.0, True),
        ({"type": "percentile"}, 100.0, False),
    ],
)
def test_intensities_unlike_the_training_are_told_where_the_card_knows_them(
    step: dict, factor: float, warns: bool
) -> None:
    values, radius = head()
    inside = ((radius > 10) & (radius < 30)).astype(np.float32)
    found = caution(inside, values * factor, None, {"preprocessing": {"intensity": [step]}})
    assert any("trained on" in text for text in found) == warns


@pytest.mark.parametrize(
    ("offset", "padding", "warns"),
    [(0.0, None, False), (0.0, -3024.0, False), (1024.0, None, True), (-900.0, None, True)],
)
def test_a_window_of_soft_tissue_suits_a_ct_with_much_air_around_the_body(offset, padding, warns) -> None:
    """Most voxels of such a volume are below the window; what counts is the body."""
    values, radius = head()
    values = 10 * values - 1000 + offset  # air at -1000 HU, tissue at 0 to 50
    assert np.median(values) < -57 + offset
    if padding is not None:
        values[radius > 60] = padding
    card = {"preprocessing": {"intensity": [{"type": "range", "lower": -57, "upper": 164}]}}
    found = caution(((radius > 10) & (radius < 30)).astype(np.float32), values, None, card)
    assert any("trained on" in text for text in found) == warns


@pytest.mark.parametrize(
    ("step", "warns"),
    [
        ({"type": "zscore", "nonzero": True}, True),
        ({"type": "percentile"}, True),
        ({"type": "range", "lower": -1000, "upper": 1000}, False),
        ({"type": "zscore", "mean": 90.0, "std": 300.0}, False),
    ],
)
def test_padding_is_told_where_intensities_are_scaled_by_the_volume_s_own(step, warns) -> None:
    values, radius = head()
    values, inside = 10 * values - 1000, ((radius > 10) & (radius < 30)).astype(np.float32)
    card = {"preprocessing": {"intensity": [step]}}
    assert not any("padding" in text for text in caution(inside, values, None, card))
    values[radius > 60] = -2000.0
    said = [text for text in caution(inside, values, None, card) if "padding" in text]
    start = f"{np.mean(radius > 60):.0%} of 'T1' is padding (-2000), which".replace("%", " %", 1)
    assert [text.startswith(start) for text in said] == [True] * warns


def test_voxels_much_coarser_than_the_models_are_told() -> None:
    values, radius = head()
    inside = ((radius > 10) & (radius < 30)).astype(np.float32)
    assert caution(inside, values, None, {"preprocessing": {"spacing": [1.0, 1.0, 1.0]}}) == []
    coarse = caution(inside, values, None, {"preprocessing": {"spacing": [0.5, 0.5, 0.9]}})
    assert len(coarse) == 1
    assert "voxels of up to 2 mm" in coarse[0]


def test_inputs_have_their_share_of_the_target_value() -> None:
    ledger = LEDGER | {"in_volume_by_input": [6.0, 3.0]}
    field = Field(two_blocks(), MATRIX)
    found = Findings([field, field], [None, None], ["T1", "FLAIR"], ledger, {}, Selection())
    assert found.inputs == (("T1", 6.0, 0.6), ("FLAIR", 3.0, 0.3))


def test_a_warning_can_be_said_in_another_language(monkeypatch: pytest.MonkeyPatch) -> None:
    """The host looks the template up and fills it; a translation that lost a placeholder is not used."""
    from LRPExplainLib.scene import saying

    values = np.zeros((30, 30, 30), np.float32)
    values[:, :, 0] = 1
    field = Field(values, np.eye(4))
    ledger = {"target_value": 1.0, "in_volume": 1.0}
    (warning,) = warnings_of([field], [None], ["T1"], ledger, {})
    assert warning.startswith("100 % of the relevance lies within 6 mm")
    german = {
        warning.template: "{share} der Relevanz{of} liegen höchstens {margin} mm vom Rand.",
        "closes exactly": "geht genau auf",
    }
    monkeypatch.setattr(saying, "translate", lambda context, text: german.get(text, text))
    assert saying.said(warning) == "100 % der Relevanz liegen höchstens 6 mm vom Rand."
    assert saying.said(ledger_line(ledger)).endswith("geht genau auf.")
    monkeypatch.setattr(saying, "translate", lambda context, text: "{anteil} fehlt")
    assert saying.said(warning) == warning
    assert saying.said("no sentence of ours") == "no sentence of ours"


def _of_answer_below_zero(
    activation: str,
    target: dict,
    task: str = "classification",
    value: float = -10.0,
    reached: float = -9.0,
) -> list[str]:
    field = Field(two_blocks(), MATRIX)
    card = {"task": task, "output": {"activation": activation}}
    said = warnings_of([field], [None], ["CXR"], LEDGER | {"target_value": value, "in_volume": reached}, card, target)
    return [str(sentence) for sentence in said if "below 0" in sentence]


def test_of_an_answer_below_zero_it_is_said_how_to_read_the_map() -> None:
    """Under softmax a score by itself says nothing: (-3, -1) is the same answer as (0, 2)."""
    assert _of_answer_below_zero("sigmoid", {"class": "nodule"})[0].startswith(
        "The target value is below 0: what the model sees speaks against"
    )
    assert "rather than another one" in _of_answer_below_zero("softmax", {"class": "nodule"})[0]
    assert "speaks against" in _of_answer_below_zero("softmax", {"class": "nodule", "rather_than": "normal"})[0]
    assert not _of_answer_below_zero("sigmoid", {"class": "nodule"}, value=10.0, reached=9.0)
    assert not _of_answer_below_zero("none", {"class": "value"}, task="regression")


def test_of_a_sign_that_biases_turn_it_is_said_which_is_below_zero() -> None:
    """A strong bias that absorbs makes a no of a map that speaks for the class, and the other way round."""
    nodule = {"class": "nodule"}
    for_it = _of_answer_below_zero("sigmoid", nodule, reached=2.0)[0]
    assert "speaks for what was asked about" in for_it
    assert "speaks against" not in for_it
    for activation, goes_on in (("sigmoid", "what the model sees speaks against"), ("softmax", "which says nothing")):
        (said,) = _of_answer_below_zero(activation, nodule, value=10.0, reached=-2.0)
        assert said.startswith("What of the target value reaches the volume is below 0")
        assert goes_on in said
