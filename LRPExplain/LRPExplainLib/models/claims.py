"""What the pickle within a PyTorch file claims, read without running any of it.

PyTorch trusts the sizes written there: it allocates, or reads past the end of what it has, before it compares. So they
are compared here first. Calls that the pickle asks for are recorded, never made.
"""

import io
import pickle
import zipfile
from collections.abc import Collection, Mapping
from typing import Any

from ..errors import UserError

_ITEM_BYTES = {"Double": 8, "Long": 8, "ComplexFloat": 8, "ComplexDouble": 16, "Float": 4, "Int": 4, "QInt32": 4,
               "Half": 2, "BFloat16": 2, "Short": 2}  # fmt: skip
_OTHER_BYTES = 1
# What makes a tensor of a storage, an offset, a size and strides.
_REBUILDING = {"_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3", "_rebuild_qtensor"}
_DAMAGED = (pickle.UnpicklingError, EOFError, ValueError, TypeError, KeyError, IndexError, AttributeError,
            OverflowError, RecursionError, UnicodeError, NotImplementedError)  # fmt: skip


def check_claims(archive: zipfile.ZipFile, name: str, unread: Collection[str] = ()) -> None:
    """Compare what every pickle of a PyTorch archive claims with what the archive holds.

    Args:
        archive: of torch.save or torch.jit.save, without compression.
        name: how an error calls it.
        unread: members that are not looked at, as nobody will read them.

    Raises:
        UserError: a tensor that is larger than its data, or a pickle that is damaged.
    """
    sizes = {member.filename: member.file_size for member in archive.infolist()}
    for pickled in (file for file in sizes if file.endswith(".pkl") and file not in unread):
        root = pickled.removesuffix(".pkl")  # the tensors of data.pkl are data/0, data/1 ...
        folder = f"{root}/"
        records = {file.removeprefix(folder): size for file, size in sizes.items() if file.startswith(folder)}
        try:
            _Reader(archive.read(pickled), records).load()
        except _DAMAGED as error:
            raise UserError(f"'{name}' is damaged ({error}): fetch or save it again.") from error
        except _Lie as lie:
            raise UserError(f"'{name}' claims {lie}: do not use it.") from None


class _Lie(Exception):
    """A claim that the file does not keep."""


class _Storage:
    def __init__(self, items: int) -> None:
        self.items = items


class _Inert:
    """Stands for whatever class or function a pickle names: it takes everything and does nothing."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __call__(self, *args: Any, **kwargs: Any) -> "_Inert":
        return self

    def __setstate__(self, state: Any) -> None:
        pass

    def __setitem__(self, key: Any, value: Any) -> None:
        pass

    def __hash__(self) -> int:
        return id(self)

    def append(self, value: Any) -> None:
        pass

    def extend(self, values: Any) -> None:
        pass

    add = update = append


def _rebuild(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> _Inert:
    """Like torch._utils._rebuild_tensor_v2 and its kin: the tensor must lie within its storage."""
    if isinstance(storage, _Storage):
        if min((offset, *size, *stride)) < 0:
            raise _Lie("a tensor with a negative size")
        last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
        if 0 not in size and last >= storage.items:
            raise _Lie(f"a tensor of size {list(size)}, but holds only {storage.items} numbers for it")
    return _Inert()


class _Named:
    """The name of a kind of storage, such as torch.FloatStorage."""

    def __init__(self, name: str) -> None:
        self.item_bytes = _ITEM_BYTES.get(name.removesuffix("Storage"), _OTHER_BYTES)


class _Reader(pickle._Unpickler):  # type: ignore[name-defined,misc]
    """The Python version of the unpickler: the C version allocates what a memo index claims."""

    def __init__(self, pickled: bytes, records: Mapping[str, int]) -> None:
        super().__init__(io.BytesIO(pickled))
        self._records = records

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name.endswith("Storage"):
            return _Named(name)
        if module == "torch._utils" and name in _REBUILDING:
            return _rebuild
        return _Inert

    def persistent_load(self, pid: Any) -> Any:
        _, kind, key, _, items = pid
        if not isinstance(kind, _Named) or not isinstance(items, int):
            return _Inert()
        held = self._records.get(str(key), 0)
        if items < 0 or items * kind.item_bytes > held:
            raise _Lie(f"{items} numbers in its part '{key}' of {held} bytes")
        return _Storage(items)

    def get_extension(self, code: int) -> None:
        raise pickle.UnpicklingError("extension codes")
