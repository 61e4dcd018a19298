"""A bundle's preprocessing, transform by transform, as steps that a card can say: each row of `TRANSFORMS` reads one of
MONAI's transforms."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .config import Component
from .steps import AXES, Step


@dataclass
class Channels:
    """Which entries of MONAI's dictionary become the network's channels, how often each is repeated, and the mean and
    standard deviation that each of the repeated ones has of its own."""

    keys: list[str] = field(default_factory=list)
    joined: bool = False
    repeats: int = 1
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()


def read_transform(component: Component, channels: Channels, volumes: int) -> list[Step]:
    """The steps of one transform of the pipeline.

    Args:
        volumes: how many volumes the model takes; some of MONAI's statistics are over all of them together.

    Raises:
        UserError: a transform that changes the volume and cannot be translated.
    """
    name = component.name.removesuffix("Dict").removesuffix("D") if component.name.endswith(("Dict", "D")) else None
    name = f"{name}d" if name else component.name
    if _not_for_the_image(component, channels):
        return []
    if name in IGNORED or f"{name}d" in IGNORED or name.startswith("Rand"):
        return []
    reader = TRANSFORMS.get(name) or TRANSFORMS.get(f"{name}d")
    if reader is None:
        raise component.complaint(
            f"asks for the transform '{component.target}', which cannot be translated into a card: write a card for"
            " this model (lrpexplain card) without the bundle's preprocessing, or leave the transform out."
        )
    with component.understood():
        standardised = bool(channels.std)
        steps = reader(component, channels, volumes)
    if standardised and any(step.kind == "intensity" for step in steps):
        raise component.complaint(
            "changes the intensity after each channel has been standardised by itself, an order that a card cannot say:"
            " write a card for this model."
        )
    return steps


def _keys(component: Component) -> list[str]:
    keys = component.get("keys", [])
    return [str(key) for key in keys] if isinstance(keys, list) else [str(keys)]


def _not_for_the_image(component: Component, channels: Channels) -> bool:
    """Dictionary transforms that only touch labels and the like."""
    if "keys" not in component.raw:
        return False
    keys = _keys(component)
    if component.name.startswith("LoadImage") and not channels.keys:
        channels.keys = [key for key in keys if key != "label"] or keys
    touched = [key for key in channels.keys if key in keys]
    if touched and len(touched) < len(channels.keys) and component.name.removesuffix("d") not in _LOADING:
        raise component.complaint(
            f"treats {', '.join(touched)} in another way than the other volumes: write a card for this model."
        )
    return bool(channels.keys) and not touched


_LOADING = {"LoadImage", "EnsureChannelFirst", "EnsureType", "ToTensor", "CastToType"}


def _joined(component: Component, channels: Channels, volumes: int) -> list[Step]:
    channels.keys, channels.joined = [str(component.get("name", "image"))], True
    return []


def _orientation(component: Component, channels: Channels, volumes: int) -> list[Step]:
    if component.get("as_closest_canonical"):
        return [Step("orientation", "RAS", component)]
    axes = component.get("axcodes")
    if axes is None or len(axes) != AXES:
        raise component.complaint("names no three axcodes: write a card for this model.")
    if component.get("labels") not in (None, [["L", "R"], ["P", "A"], ["I", "S"]]):
        raise component.complaint("renames the axes by 'labels': write a card for this model.")
    return [Step("orientation", "".join(axes), component)]


def _spacing(component: Component, channels: Channels, volumes: int) -> list[Step]:
    wanted = component.get("pixdim")
    wanted = [float(n) for n in wanted] if isinstance(wanted, list) else [float(wanted)]
    flat = len(wanted) == 2  # an image; its one slice stays as it is
    rest = [None] if flat else [wanted[-1]] * (AXES - len(wanted))
    own = [n if n is not None and n > 0 else None for n in [*wanted, *rest][:AXES]]
    for argument in ("diagonal", "scale_extent", "min_pixdim", "max_pixdim", "align_corners"):
        if _flag(component.get(argument)):
            raise component.complaint(f"uses '{argument}', which cannot be translated: write a card for this model.")
    mode = _one(component, "mode", "bilinear")
    if mode not in _INTERPOLATIONS:
        raise component.complaint(f"interpolates by '{mode}', which cannot be translated: write a card for this model.")
    return [Step("spacing", tuple(own), component, {"interpolation": _INTERPOLATIONS[mode]})]


_INTERPOLATIONS = {"bilinear": "linear", 1: "linear"}


def _one(component: Component, argument: str, default: Any) -> Any:
    """An argument that may be given for each key; the image is the first."""
    value = component.get(argument, default)
    return value[0] if isinstance(value, list) and value else value


def _flag(value: Any) -> bool:
    return any(value) if isinstance(value, list) else bool(value)


def _range(component: Component, channels: Channels, volumes: int) -> list[Step]:
    low, high = float(component.get("a_min")), float(component.get("a_max"))
    if low == high:
        raise component.complaint("has the same a_min and a_max: correct the bundle.")
    start, stop, clip = component.get("b_min"), component.get("b_max"), bool(component.get("clip", False))
    known = start is not None and stop is not None
    to = [float(start), float(stop)] if known else [0.0, 1.0]
    if low > high:  # MONAI takes it and turns the intensities around
        low, high, to = high, low, to[::-1]
    step = {"type": "range", "lower": low, "upper": high, "clip": clip and known, "to": to}
    return [Step("intensity", step, component)]


def _percentiles(component: Component, channels: Channels, volumes: int) -> list[Step]:
    start, stop = component.get("b_min"), component.get("b_max")
    known = start is not None and stop is not None
    step = {
        "type": "percentile",
        "lower": float(component.get("lower")),
        "upper": float(component.get("upper")),
        "clip": bool(component.get("clip", False)) and known,
        "to": [float(start), float(stop)] if known else [0.0, 1.0],
        **_together(component, channels, volumes),
    }
    if component.get("relative", False):
        if not known:
            raise component.complaint("is relative to b_min and b_max, which it does not name: correct the bundle.")
        step["relative"] = True
    return [Step("intensity", step, component)]


def _clipped_percentiles(component: Component, channels: Channels, volumes: int) -> list[Step]:
    lower, upper = component.get("lower"), component.get("upper")
    if lower is None or upper is None or component.get("sharpness_factor") is not None:
        raise component.complaint("clips in a way that cannot be translated: write a card for this model.")
    step = {"type": "percentile", "lower": float(lower), "upper": float(upper), "clip": True, "to": None}
    return [Step("intensity", step | _together(component, channels, volumes), component)]


def _scale(component: Component, channels: Channels, volumes: int) -> list[Step]:
    low, high = component.get("minv", 0.0), component.get("maxv", 1.0)
    if low is None and high is None:
        step = {"type": "linear", "factor": 1.0 + float(component.get("factor") or 0.0)}
        return [Step("intensity", step, component)]
    if low is None or high is None:
        raise component.complaint("names one of minv and maxv alone: write a card for this model.")
    step = {"type": "minmax", "to": [float(low), float(high)], **_together(component, channels, volumes)}
    return [Step("intensity", step, component)]


def _shift(component: Component, channels: Channels, volumes: int) -> list[Step]:
    return [Step("intensity", {"type": "linear", "offset": float(component.get("offset"))}, component)]


def _normalise(component: Component, channels: Channels, volumes: int) -> list[Step]:
    """One step, or one for each channel where they have values of their own."""
    given = {"mean": component.get("subtrahend"), "std": component.get("divisor")}
    lists = [value for value in given.values() if isinstance(value, list)]
    count = max([len(value) for value in lists], default=1)
    if count > volumes == 1:
        return _of_repeated(component, channels, count)
    steps = []
    for n in range(count):
        step: dict[str, Any] = {"type": "zscore", "nonzero": bool(component.get("nonzero", False))}
        for name, value in given.items():
            own = value[n] if isinstance(value, list) else value
            step |= {} if own is None else {name: float(own)}
        if not {"mean", "std"} <= set(step):
            step |= _together(component, channels, volumes)
        steps.append(step | ({"channels": [n]} if count > 1 else {}))
    return [Step("intensity", step, component) for step in steps]


def _of_repeated(component: Component, channels: Channels, count: int) -> list[Step]:
    """One volume over several channels, each with a mean and a standard deviation: ImageNet's, most often."""
    given = [component.get(argument) for argument in ("subtrahend", "divisor")]
    lists = [value if isinstance(value, list) else [value] * count for value in given]
    if component.get("nonzero", False) or any(len(each) != count or None in each for each in lists):
        raise component.complaint(
            "standardises the channels of one volume by what cannot be translated: write a card for this model."
        )
    channels.mean, channels.std = (tuple(float(value) for value in each) for each in lists)
    return []


def _together(component: Component, channels: Channels, volumes: int) -> dict[str, Any]:
    """MONAI's statistics are over all channels of an array together; several keys are an array each."""
    joint = volumes > 1 and len(channels.keys) <= 1 and not component.get("channel_wise", False)
    return {"together": True} if joint else {}


def _crop(component: Component, channels: Channels, volumes: int) -> list[Step]:
    for argument, usual in (("select_fn", None), ("channel_indices", None), ("k_divisible", 1)):
        if component.raw.get(argument, usual) not in (usual, "$lambda x: x > 0"):
            raise component.complaint(f"uses '{argument}', which cannot be translated: write a card for this model.")
    source = component.get("source_key", channels.keys[0] if channels.keys else None)
    if len(channels.keys) > 1 or (channels.keys and source != channels.keys[0]):
        raise component.complaint("crops by another volume than the model's input: write a card for this model.")
    margin = component.get("margin", 0)
    margins = set(margin) if isinstance(margin, list) else {margin}
    if len(margins) != 1:
        raise component.complaint("has another margin for each axis: write a card for this model.")
    step = {"above": 0, "margin": int(margins.pop())}
    return [Step("crop", step, component)]


def _sizes(component: Component, argument: str) -> list[int]:
    value = component.get(argument)
    return [max(0, int(n)) for n in value] if isinstance(value, list) else [max(0, int(value))] * AXES


def _padding_is_zero(component: Component) -> None:
    plain = _one(component, "mode", "constant") in ("constant", None) and not component.get("value", 0)
    if not plain or component.get("method", "symmetric") != "symmetric":
        raise component.complaint("pads with something other than 0 on both sides: write a card for this model.")


def _pad(component: Component, channels: Channels, volumes: int) -> list[Step]:
    _padding_is_zero(component)
    return [Step("at least", _sizes(component, "spatial_size"), component)]


def _divisible(component: Component, channels: Channels, volumes: int) -> list[Step]:
    _padding_is_zero(component)
    steps = set(_sizes(component, "k"))
    if len(steps) != 1:
        raise component.complaint("has another divisor for each axis: write a card for this model.")
    return [Step("multiple", steps.pop(), component)]


def _crop_or_pad(component: Component, channels: Channels, volumes: int) -> list[Step]:
    _padding_is_zero(component)
    return [Step("size", _sizes(component, "spatial_size"), component)]


def _resize(component: Component, channels: Channels, volumes: int) -> list[Step]:
    mode = _one(component, "mode", "area")
    unusual = (
        component.get("align_corners") or component.get("anti_aliasing") or component.get("size_mode") == "longest"
    )
    if mode not in _RESIZES or unusual:
        raise component.complaint("resizes in a way that cannot be translated: write a card for this model.")
    return [Step("resize", {"size": _sizes(component, "spatial_size"), "mode": _RESIZES[mode]}, component)]


_RESIZES = {"area": "area", "nearest": "nearest", "linear": "linear", "bilinear": "linear", "trilinear": "linear"}


def _repeat(component: Component, channels: Channels, volumes: int) -> list[Step]:
    channels.repeats = int(component.get("repeats", 1))
    return []


Reader = Callable[[Component, Channels, int], list[Step]]
TRANSFORMS: dict[str, Reader] = {
    "ConcatItemsd": _joined,
    "Orientationd": _orientation,
    "Spacingd": _spacing,
    "ScaleIntensityRanged": _range,
    "ScaleIntensityRangePercentilesd": _percentiles,
    "ScaleIntensityd": _scale,
    "ShiftIntensityd": _shift,
    "ClipIntensityPercentilesd": _clipped_percentiles,
    "NormalizeIntensityd": _normalise,
    "CropForegroundd": _crop,
    "SpatialPadd": _pad,
    "DivisiblePadd": _divisible,
    "ResizeWithPadOrCropd": _crop_or_pad,
    "Resized": _resize,
    "RepeatChanneld": _repeat,
}
# What changes neither the voxels nor where they are: reading, types, devices, book-keeping.
IGNORED = {
    "LoadImaged", "EnsureChannelFirstd", "AddChanneld", "AsChannelFirstd", "EnsureTyped", "CastToTyped", "ToTensord",
    "ToNumpyd", "ToCupyd", "ToDeviced", "Identityd", "SelectItemsd", "DeleteItemsd", "DataStatsd",
}  # fmt: skip
