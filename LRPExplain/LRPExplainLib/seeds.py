"""What a seed may be: one answer for NumPy, scikit-learn and PyTorch, the narrowest of which takes 32 bits."""

from numbers import Integral

from .errors import UserError

MOST = 2**32 - 1


def check_seed(seed: object) -> None:
    """Refuse a seed that one of the generators would.

    Raises:
        UserError: it is no whole number from 0 to 4294967295.
    """
    if not isinstance(seed, Integral) or not 0 <= int(seed) <= MOST:
        raise UserError(f"{seed!r} is no seed: give a whole number from 0 to {MOST}.")
