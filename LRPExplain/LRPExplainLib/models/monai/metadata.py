"""configs/metadata.json: channels, classes and texts."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from ..card import CardInput, ClassInfo, OutputInfo, color

_ONE_ANSWER = {"labels", "classes", "classification", "probabilities"}
_MODALITIES = {"mri": "MR", "mr": "MR", "ct": "CT", "mammogram": "MG", "mg": "MG", "x-ray": "DX", "xray": "DX",
               "cr": "CR", "dx": "DX", "us": "US", "ultrasound": "US", "pt": "PT", "pet": "PT"}  # fmt: skip
_CLASSES = 255


@dataclass(frozen=True)
class Metadata:
    """What metadata.json says.

    Attributes:
        inputs: one per volume: fewer than channels where one name stands for all of them (a grey image in colour).
        classes: one per output channel, or empty.
        dimensions: spatial dimensions of the network, or None.
        size_multiple: of the input's sides, from a shape such as "8*n".
    """

    name: str
    inputs: tuple[CardInput, ...]
    classes: tuple[ClassInfo, ...]
    task: str | None
    dimensions: int | None
    size_multiple: int
    texts: Mapping[str, Any]

    def output(self, activation: str | None) -> OutputInfo:
        return OutputInfo(activation, self.classes)


def read_metadata(content: Mapping[str, Any], fallback: str) -> Metadata:
    """Read it leniently: what is missing or odd is left open."""
    data_format = _mapping(content.get("network_data_format"))
    image = _one_of(_mapping(data_format.get("inputs")), "image")
    pred = _one_of(_mapping(data_format.get("outputs")), "pred")
    shape = image.get("spatial_shape")
    shape = shape if isinstance(shape, Sequence) and not isinstance(shape, str) else []
    return Metadata(
        name=str(content.get("name") or fallback),
        inputs=_inputs(image),
        classes=_classes(pred),
        task=_task(pred),
        dimensions=len(shape) if len(shape) in (2, 3) else None,
        size_multiple=max([_multiple(side) for side in shape], default=1),
        texts=_texts(content),
    )


def _task(pred: Mapping[str, Any]) -> str | None:
    """None where only the output's shape will tell."""
    if str(pred.get("format")).lower() == "segmentation":
        return "segmentation"
    shape = pred.get("spatial_shape")
    few = isinstance(shape, list) and all(isinstance(n, int) for n in shape) and prod(shape) <= (_count(pred) or 1)
    return "classification" if few and str(pred.get("format")).lower() in _ONE_ANSWER else None


def _inputs(image: Mapping[str, Any]) -> tuple[CardInput, ...]:
    modality = str(image.get("modality") or "none")
    code = None if modality.lower() in ("none", "n/a", "any") else _MODALITIES.get(modality.lower(), modality)
    names, count = _names(image), _count(image) or 1
    if len(names) == 1 and count > 1:
        return (CardInput(names[0], code, count),)
    names = names if len(names) == count else [f"channel {n + 1}" for n in range(count)]
    return tuple(CardInput(name, code) for name in names)


def _classes(pred: Mapping[str, Any]) -> tuple[ClassInfo, ...]:
    names, count = _names(pred), _count(pred)
    if not names or len(names) > _CLASSES or (count is not None and len(names) != count):
        return ()
    return tuple(ClassInfo(name, color(n)) for n, name in enumerate(names))


def _names(entry: Mapping[str, Any]) -> list[str]:
    """Of the channels 0, 1, 2 ...; each name once."""
    table = {str(key): str(value).strip() for key, value in _mapping(entry.get("channel_def")).items()}
    names: list[str] = []
    for n in range(len(table)):
        name = table.get(str(n)) or f"channel {n}"
        names.append(name if name not in names else f"{name} ({n})")
    return names


def _count(entry: Mapping[str, Any]) -> int | None:
    count = entry.get("num_channels")
    return count if isinstance(count, int) and 0 < count <= 1024 else None


def _multiple(side: Any) -> int:
    found = re.fullmatch(r"(\d+)\s*\*\s*n", str(side))
    return max(1, int(found.group(1))) if found else 1


def _texts(content: Mapping[str, Any]) -> dict[str, Any]:
    references = content.get("references")
    texts = {
        "description": content.get("description"),
        "licence": content.get("copyright"),
        "citation": "; ".join(map(str, references)) if isinstance(references, list) else None,
        "training": content.get("eval_metrics"),
    }
    return {key: value for key, value in texts.items() if isinstance(value, str | dict) and value}


def _one_of(entries: Mapping[str, Any], usual: str) -> Mapping[str, Any]:
    if usual in entries:
        return _mapping(entries[usual])
    return _mapping(next(iter(entries.values()), None)) if len(entries) == 1 else {}


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
