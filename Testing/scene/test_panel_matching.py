"""Which volume is chosen for which input channel: by what their names say."""

import pytest
from LRPExplainLib.scene.panel.matching import match


@pytest.mark.parametrize(
    ("channels", "volumes", "expected"),
    [
        (["T1", "T1ce", "T2", "FLAIR"], ["p01_flair", "p01_t1ce", "p01_t1", "p01_t2"], [2, 1, 3, 0]),
        (["T1", "T1ce"], ["MRBrainTumor T1 Gd", "MRBrainTumor T1"], [1, 0]),
        (["FLAIR", "T2"], ["BraTS-T2w", "BraTS-T2-FLAIR"], [1, 0]),
        (["T1c", "T1n", "T2f", "T2w"], ["x-t1c", "x-t1n", "x-t2w"], [0, 1, None, 2]),
        (["T2", "ADC", "HBV"], ["10000_t2w", "10000_adc", "10000_hbv"], [0, 1, 2]),
        (["CT", "PET"], ["chest"], [None, None]),
        (["T1 contrast-enhanced", "T1"], ["p01_t1", "p01_t1ce"], [1, 0]),
        (["T1", "T1 contrast-enhanced"], ["T1-weighted", "T1-weighted with gadolinium"], [0, 1]),
        (["T1", "T1c"], ["post-contrast T1-weighted", "pre-contrast T1-weighted"], [1, 0]),
        (["T1", "T1c"], ["ax T1 +C", "ax T1 without contrast"], [1, 0]),
        (["T1", "T1c"], ["T1w_gad", "T1w"], [1, 0]),
        (["T1 contrast-enhanced", "T2"], ["T2 contrast", "T1 post"], [1, 0]),
        (["T1-weighted", "T2-weighted"], ["T2-weighted axial", "p1_t1"], [1, 0]),
        (["T1 contrast-enhanced"], ["T1"], [None]),
        (["T1"], ["T1 post-op"], [0]),
        (["T1c", "T1"], ["T1_no_contrast", "T1+C_pre-op no 3"], [1, 0]),
        (["T1", "T2"], ["T1"], [0, None]),
        (["T1"], [], [None]),
        ([], ["T1"], []),
    ],
)
def test_volumes_are_matched_by_name_and_each_is_given_once(
    channels: list[str], volumes: list[str], expected: list[int | None]
) -> None:
    assert match(channels, volumes) == expected
