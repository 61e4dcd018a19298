"""What a format is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from ...digests import sha256_of
from ...errors import UserError
from ..card import ModelCard


@dataclass(frozen=True, eq=False)
class Loaded:
    """A network as its format has it.

    Attributes:
        module: in eval mode, float32, on the CPU.
        card: the one given, else what the format itself says, else None.
        sha256: of what was read.
        previous: the cascade's stage before it, if it is a second one and that lies where the format keeps it.
        shape: of the only input that it takes, [N, C, D, H, W] or [N, C, H, W]; None where it takes any.
    """

    module: nn.Module
    card: ModelCard | None
    sha256: str
    previous: "PreviousStage | None" = None
    shape: tuple[int | None, ...] | None = None


@dataclass(frozen=True)
class PreviousStage:
    """A model whose segmentation another one takes as input.

    Attributes:
        path: of the model.
        values: the label value of each entry of its segmentation's legend, background first.
    """

    path: Path
    values: tuple[int, ...]


@dataclass(frozen=True)
class Format:
    """A kind of model file or folder.

    Attributes:
        name: for error messages.
        recognises: whether a path is of this kind; it opens as little as possible.
        load: path, card or None, trust -> Loaded; raises UserError. It runs nothing from the files without trust.
        trusted: path -> sentences on what `load` would run with trust (none: nothing, ever), and the SHA-256 of all
            that they rest on.
    """

    name: str
    recognises: Callable[[Path], bool]
    load: Callable[[Path, ModelCard | None, bool], Loaded]
    trusted: Callable[[Path], tuple[list[str], str]] = lambda path: ([], sha256_of(path))


def require_one_input(name: str, inputs: Sequence[str]) -> None:
    """Refuse a network that wants several tensors at once: a model is given one, with a channel for each volume.

    Raises:
        UserError: it does.
    """
    if len(inputs) > 1:
        raise UserError(
            f"'{name}' takes {len(inputs)} inputs ({', '.join(inputs)}), but a model is given one tensor with a channel"
            " for each volume: export it in a wrapper whose forward(x) hands x[:, :1] and so on to these."
        )


def has_suffix(*suffixes: str) -> Callable[[Path], bool]:
    """Recognises files by how their names end."""
    return lambda path: path.is_file() and path.suffix.lower() in suffixes
