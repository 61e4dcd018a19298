"""captum, which is optional: it is imported where a method needs it, and its absence is said in a sentence."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from ..errors import UserError


def captum_attr(name: str) -> ModuleType:
    """The module `captum.attr`, for the method of this name.

    Raises:
        UserError: it is not installed.
    """
    try:
        import captum.attr
    except ImportError:
        raise UserError(
            f"The method '{name}' needs the package captum: install it with 'pip install captum', or choose lrp,"
            " grad-cam, guided-backprop or rise, which do without."
        ) from None
    return captum.attr


@contextmanager
def quiet() -> Iterator[None]:
    """Without captum's warnings about what it does to tensors that are ours alone."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
