"""The model card of a trained nnU-Net: what its plans do to a volume and what its outputs are called.

Arrays are [k, j, i] where nnU-Net reads volumes through SimpleITK or nibabel. `transpose_forward` then permutes them;
plans speak of the transposed axes, a card of the volume's own.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ...errors import UserError
from ..card import CardInput, ClassInfo, ModelCard, OutputInfo, Preprocessing, color

_AXES = "kji"
_OVERLAP, _SIGMA = 0.5, 0.125  # nnUNetPredictor's defaults
_CITATION = (
    "F. Isensee et al. nnU-Net: a self-configuring method for deep learning-based biomedical image segmentation."
    " Nature Methods 18, pp. 203-211, 2021."
)
# Reader of the volumes -> how it turns them; None: as they are stored.
_READERS = {
    "SimpleITKIO": None,
    "SimpleITKIOWithReorient": "RAS",
    "NibabelIO": None,
    "NibabelIOWithReorient": "RAS",
    "Tiff3DIO": None,
    "NaturalImage2DIO": None,
}
_RESAMPLING = {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None}

Step = dict[str, Any]
# Normalisation scheme -> steps, given the intensities of the training data and whether to use the mask.
_SCHEMES: dict[str, Callable[[Mapping[str, float], bool], list[Step]]] = {
    "CTNormalization": lambda facts, mask: [
        {"type": "clip", "lower": facts["percentile_00_5"], "upper": facts["percentile_99_5"]},
        {"type": "zscore", "mean": facts["mean"], "std": max(facts["std"], 1e-8)},
    ],
    "ZScoreNormalization": lambda facts, mask: [{"type": "zscore", "foreground": True} if mask else {"type": "zscore"}],
    "RescaleTo01Normalization": lambda facts, mask: [{"type": "minmax"}],
    "RGBTo01Normalization": lambda facts, mask: [{"type": "linear", "factor": 1 / 255}],
    "NoNormalization": lambda facts, mask: [],
}


def make_card(
    plans: Mapping[str, Any],
    dataset: Mapping[str, Any],
    configuration: Mapping[str, Any],
    mirrored: Sequence[int] | None,
    name: str,
    weights: str,
    training: Mapping[str, Any],
) -> ModelCard:
    """The card of one configuration.

    Args:
        plans, dataset: of plans.json and dataset.json.
        configuration: of the plans, whole (`plans.configuration`).
        mirrored: the checkpoint's inference_allowed_mirroring_axes.
        name: of the model.
        weights: file or folder that it comes from.
        training: facts for the card.

    Raises:
        UserError: something that a card cannot say.
    """
    classes, activation = _classes(dataset)
    before = configuration.get("previous_stage")
    labels = label_values(dataset) if before is not None else ()
    maps = (CardInput(f"segmentation of {before}", "SEG", labels=labels),) if labels else ()
    overlap = "last" if activation == "sigmoid" else "strongest"
    return ModelCard(
        name=name,
        weights=weights,
        task="segmentation",
        inputs=(*(CardInput(name, "CT" if name.upper() == "CT" else None) for name in _channels(dataset)), *maps),
        preprocessing=_preprocessing(plans, configuration, mirrored, len(_channels(dataset))),
        output=OutputInfo(activation, tuple(ClassInfo(entry, color(n)) for n, entry in classes), overlap),
        texts={"citation": _CITATION, "training": dict(training)},
    )


def label_values(dataset: Mapping[str, Any]) -> tuple[int, ...]:
    """All labels but the background and the one to ignore: nnU-Net's foreground_labels."""
    given = [value for key, value in dataset["labels"].items() if key != "ignore"]
    found = {int(one) for value in given for one in (value if isinstance(value, list) else [value])}
    return tuple(sorted(found - {0}))


def painted_values(dataset: Mapping[str, Any]) -> tuple[int, ...]:
    """The label value of each entry of the model's own segmentation, background first."""
    if _classes(dataset)[1] == "sigmoid":
        return (0, *(int(value) for value in dataset["regions_class_order"]))
    own = {key: value for key, value in dataset["labels"].items() if key != "ignore"}
    return tuple(sorted(int(value[0] if isinstance(value, list) else value) for value in own.values()))


def _preprocessing(
    plans: Mapping[str, Any], configuration: Mapping[str, Any], mirrored: Sequence[int] | None, channels: int
) -> Preprocessing:
    _known("preprocessor", configuration.get("preprocessor_name", "DefaultPreprocessor"), ("DefaultPreprocessor",))
    reader = plans["image_reader_writer"]
    _known("reader", reader, _READERS)
    order = [int(axis) for axis in plans["transpose_forward"]]
    patch = [int(n) for n in configuration["patch_size"]]
    flat = len(patch) == 2
    letters = [_AXES[axis] for axis in order]
    seen = letters[1:] if flat else letters  # of the network's own axes
    return Preprocessing(
        orientation=_READERS[reader],
        spacing=_spacing(configuration, letters, flat),
        resampling="extent-rounded",
        interpolation="cubic",
        intensity=tuple(_intensity(plans, configuration, channels)),
        intensity_first=True,
        crop={"nonzero": True},
        window={
            "size": _in_order(letters, [1, *patch] if flat else patch),
            "overlap": _OVERLAP,
            "placement": "nnunet",
            "blending": "gaussian",
            "sigma": _SIGMA,
            "mirror": [seen[int(axis)] for axis in mirrored or ()],
        },
        slices={"axis": letters[0]} if flat else None,
    )


def _spacing(configuration: Mapping[str, Any], letters: Sequence[str], flat: bool) -> Any:
    function = configuration["resampling_fn_data"]
    _known("resampling", function, ("resample_data_or_seg_to_shape", "no_resampling_hack"))
    if function.startswith("no_"):
        return None
    chosen = {**_RESAMPLING, **configuration.get("resampling_fn_data_kwargs", {})}
    if chosen != _RESAMPLING:
        raise UserError(
            f"The plans resample with {chosen}, but only nnU-Net's default {_RESAMPLING} is supported:"
            " export the model as TorchScript and write a card for it."
        )
    wanted = [float(step) for step in configuration["spacing"]]
    return tuple(_in_order(letters, [None, *wanted] if flat else wanted))


def _in_order(letters: Sequence[str], values: Sequence[Any]) -> list[Any]:
    """Values along the transposed axes, along i, j and k."""
    along = dict(zip(letters, values, strict=True))
    return [along[letter] for letter in "ijk"]


def _intensity(plans: Mapping[str, Any], configuration: Mapping[str, Any], channels: int) -> list[Step]:
    facts = plans.get("foreground_intensity_properties_per_channel")
    facts = plans["foreground_intensity_properties_by_modality"] if facts is None else facts
    steps = []
    for channel in range(channels):
        scheme = configuration["normalization_schemes"][channel]
        _known("normalisation", scheme, _SCHEMES)
        for step in _SCHEMES[scheme](facts[str(channel)], bool(configuration["use_mask_for_norm"][channel])):
            steps.append(step if channels == 1 else {**step, "channels": [channel]})
    return steps


def _channels(dataset: Mapping[str, Any]) -> list[str]:
    names = dataset["channel_names"] if "channel_names" in dataset else dataset["modality"]
    return [str(names[str(n)]) for n in range(len(names))]


def _classes(dataset: Mapping[str, Any]) -> tuple[list[tuple[int, str]], str]:
    """The output's channels, as colour and name, and its activation: labels, or regions that may overlap."""
    labels = {key: value for key, value in dataset["labels"].items() if key != "ignore"}
    if any(isinstance(value, list) and len(value) > 1 for value in labels.values()):
        regions = [key for key, value in labels.items() if value not in (0, [0])]
        return [(n + 1, region) for n, region in enumerate(regions)], "sigmoid"
    values = {int(value[0] if isinstance(value, list) else value): str(key) for key, value in labels.items()}
    return [(n, values[value]) for n, value in enumerate(sorted(values))], "softmax"


def _known(what: str, name: str, table: Mapping[str, Any] | Sequence[str]) -> None:
    if name not in table:
        raise UserError(
            f"The plans name the {what} '{name}', which is not known here (only {', '.join(table)}):"
            " export the model as TorchScript and write a card for it."
        )
