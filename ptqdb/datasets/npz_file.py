"""An ``.npz`` file of NumPy arrays, each read on access, after a check of its size."""

import math
import os
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from ptqdb.errors import DataError
from ptqdb.support.paths import regular_file

_SUFFIX = ".npy"
_MAGIC = b"\x93NUMPY"


class NpzFile(Mapping[str, NDArray[Any]]):
    """The arrays of a file by name; a context manager that closes the file.

    Pickled objects, which could run code, are not loaded. Memory is allocated only if the file
    contains all values of the array: a header may claim any shape.

    Raises
    ------
    DataError
        No such file or another format; on access, an array that is damaged, contains objects, or is
        larger than its entry in the file or the memory of the machine.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._arrays: dict[str, NDArray[Any]] = {}
        try:
            with regular_file(path).open("rb") as file:
                is_single = file.read(len(_MAGIC)) == _MAGIC
            if is_single:
                raise DataError(f"expected several named arrays in {path}, found one; use np.savez")
            self._archive = zipfile.ZipFile(path)
        except DataError:
            raise
        except Exception as error:
            raise self._damage(error) from error
        self._members = {
            member.filename.removesuffix(_SUFFIX): member for member in self._archive.infolist()
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._archive.close()

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)

    def __contains__(self, name: object) -> bool:
        return name in self._members

    def __getitem__(self, name: str) -> NDArray[Any]:
        if name not in self._arrays:
            member = self._members[name]
            # On damaged files NumPy and zipfile raise many undocumented errors.
            try:
                self._require_room(name, member)
                with self._archive.open(member) as file:
                    array = np.lib.format.read_array(file, allow_pickle=False)
            except DataError:
                raise
            except Exception as error:
                raise self._damage(error) from error
            self._arrays[name] = array
        return self._arrays[name]

    def _require_room(self, name: str, member: zipfile.ZipInfo) -> None:
        """Compare the size in the header with the entry and with the memory."""
        with self._archive.open(member) as file:
            version = np.lib.format.read_magic(file)
            read_header = (
                np.lib.format.read_array_header_1_0
                if version == (1, 0)
                else np.lib.format.read_array_header_2_0
            )
            shape, _, dtype = read_header(file)
            held = member.file_size - file.tell()
        claimed = math.prod(shape) * dtype.itemsize
        if dtype.hasobject:
            return  # read_array rejects it
        if claimed > held:
            raise DataError(
                f"expected an array of {_size(claimed)} in {name} of {self._path}, as its header "
                f"says, found {_size(held)}: the file is damaged"
            )
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        if claimed > memory:
            raise DataError(
                f"expected an array that fits into {_size(memory)} of memory, found "
                f"{_size(claimed)} in {name} of {self._path}"
            )

    def _damage(self, error: Exception) -> DataError:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        if isinstance(error, OSError) and error.strerror:
            reason = error.strerror
        return DataError(f"expected an .npz file of plain arrays, found {self._path}: {reason}")


def _size(byte_count: int) -> str:
    if byte_count < 2**20:
        return f"{byte_count} bytes"
    return (
        f"{byte_count / 2**20:.0f} MiB" if byte_count < 2**30 else f"{byte_count / 2**30:.0f} GiB"
    )
