# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Reading files with weights: the one door for checkpoints, weights of the zoo and training states.

A file may come from anybody. No code in it is run, nothing is inflated whose size was not checked,
and whatever is wrong with it is one ``ValueError`` in words of this library. What is made of the
content is the business of :mod:`compressai.checkpoint` and the zoo.
"""

from __future__ import annotations

import errno
import json
import math
import os
import pickletools
import re
import stat
import threading
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor

__all__ = [
    "METADATA_KEY",
    "WeightFile",
    "is_safetensors",
    "plain_data",
    "read_description",
    "read_weights",
    "shown",
]

METADATA_KEY = "compressai"

# Files of torch.save hold about 200 bytes of pickle for each tensor; 16 MiB take seconds to read.
_LARGEST_PICKLE = 1 << 24
_MOST_OPERATIONS = 1 << 23
# Weights that were packed once more do not shrink to less than a quarter.
_INFLATION = 4
# How much larger than the file its tensors may claim to be: rows can be shared by expansion.
_EXPANSION, _SLACK = 8, 1 << 24
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PICKLES = 5
_DEEPEST, _MOST_VALUES = 32, 100_000
_BOOK_END, _BOOK_END_64, _LOCATOR = b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07"

# What a pickle may name: tensors, and plain data. torch checks again, with a list of its own.
_ALLOWED = re.compile(
    r"collections (OrderedDict|Counter)|_codecs encode|(builtins|__builtin__) (set|complex)"
    r"|torch (Size|device)|torch\.nn\.parameter (Parameter|Buffer)|torch\.serialization _get_layout"
    r"|torch Tensor|torch(\.cuda)? \w+(Storage|Tensor)|torch\.storage \w+Storage"
    r"|torch (b?float|u?int|complex|q?u?int)\d+|torch (bool|half|double|long)|torch float8_\w+"
    r"|torch\._utils _rebuild_(tensor(_v2|_v3)?|parameter(_with_state)?)"
    r"|torch\._tensor _rebuild_from_type_v2"
)
_NUMPY = ("numpy.core.multiarray scalar", "numpy._core.multiarray scalar", "numpy dtype")
_STRINGS = frozenset({"BINUNICODE", "SHORT_BINUNICODE", "UNICODE", "SHORT_BINSTRING", "BINSTRING"})
_CLOSES = frozenset({"TUPLE", "LIST", "DICT", "APPENDS", "SETITEMS", "POP_MARK"})
_GETS = frozenset({"BINGET", "LONG_BINGET", "GET"})
_PUTS = frozenset({"BINPUT", "LONG_BINPUT", "PUT"})

_numpy_lock = threading.Lock()


@dataclass(frozen=True)
class WeightFile:
    """What is in a file.

    Attributes:
        content: a state dict, or a checkpoint that holds one; tensors are on the CPU.
        description: what the file says of itself, plain data, or ``None``.
    """

    content: Mapping[str, Any]
    description: Any


def read_weights(path: str | os.PathLike[str]) -> WeightFile:
    """Read a file that safetensors or ``torch.save`` wrote.

    Args:
        path: the file.

    Returns:
        Its content. Scalars of numpy come as numbers of Python.

    Raises:
        OSError: it cannot be opened or read.
        ValueError: it is no such file, is damaged, holds other things than tensors and plain data,
            or would take far more memory than it is large.
    """
    path = Path(path)
    size, is_safetensors = _look_at(path)
    if is_safetensors:
        description = read_description(path)
        with _Told(path, "is a damaged safetensors file"):
            content: Any = safetensors.torch.load_file(path)
    else:
        content = _read_pickle(path, size)
        if not isinstance(content, Mapping):
            raise ValueError(f"{str(path)!r} holds a {type(content).__name__}, not a state dict")
        description = _description(path, content.get(METADATA_KEY))
    return WeightFile(content, description)


def read_description(path: str | os.PathLike[str]) -> Any:
    """What a file says of itself, plain data, or ``None``; of safetensors only the header is read.

    Raises:
        OSError, ValueError: as :func:`read_weights`.
    """
    path = Path(path)
    _, is_safetensors = _look_at(path)
    if not is_safetensors:
        return read_weights(path).description
    with (
        _Told(path, "is a damaged safetensors file"),
        safetensors.safe_open(path, framework="pt") as file,
    ):
        text = (file.metadata() or {}).get(METADATA_KEY)
    return None if text is None else _parsed(path, text)


def is_safetensors(path: str | os.PathLike[str]) -> bool:
    """Whether a file begins like one of safetensors.

    Raises:
        OSError: it cannot be read.
        ValueError: it is empty or no file.
    """
    return _look_at(Path(path))[1]


def shown(value: Any) -> str:
    """A value from a file, for a message: short, printable, and never the whole of a structure."""
    if isinstance(value, int) and value.bit_length() > 64:
        return "a number of more than 64 bits"
    if value is None or isinstance(value, (str, int, float)):
        text = ascii(value)
        return text if len(text) <= 80 else f"{text[:77]}..."
    return f"a {type(value).__name__}"


def plain_data(value: Any) -> Any:
    """A copy of a value if that is JSON data: finite numbers, strings, lists, mappings by strings.

    Args:
        value: anything.

    Returns:
        The copy; tuples become lists.

    Raises:
        ValueError: it is something else, is nested too deep or is too large.
    """
    left = _MOST_VALUES

    def copy(value: Any, depth: int) -> Any:
        nonlocal left
        left -= 1
        if depth > _DEEPEST or left < 0:
            raise ValueError(
                f"must be nested at most {_DEEPEST} deep and have at most {_MOST_VALUES} values"
            )
        if value is None or isinstance(value, (bool, str)):
            return value
        if isinstance(value, int) and value.bit_length() <= 64:
            return int(value)
        if isinstance(value, float) and math.isfinite(value):
            return float(value)
        if isinstance(value, (list, tuple)):
            return [copy(item, depth + 1) for item in value]
        if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
            return {str(key): copy(item, depth + 1) for key, item in value.items()}
        raise ValueError(f"must be finite numbers, strings, lists and mappings, got {shown(value)}")

    return copy(value, 0)


class _Told:
    """Turns what a reader raises on a damaged or hostile file into a ``ValueError``."""

    def __init__(self, path: Path, what: str) -> None:
        self.path, self.what = path, what

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: Any, trace: Any) -> None:
        if not isinstance(error, Exception):
            return
        if isinstance(error, _Refused):
            raise ValueError(str(error)) from None
        # Of a device, not of the content: but a place before the start of a file is content.
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            return
        text = f"{str(self.path)!r} {self.what}"
        if isinstance(error, MemoryError) or "allocate memory" in str(error):
            text = f"{str(self.path)!r} takes more memory than there is"
        # Without a cause: what torch says of a file that it refuses is how to load it nevertheless.
        raise ValueError(text) from None


class _Refused(Exception):
    """What is wrong, in the words that the ``ValueError`` is to have."""


def _look_at(path: Path) -> tuple[int, bool]:
    """Size of a file, and whether it begins like safetensors: a length, then a JSON object."""
    status = os.stat(path)
    if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
        raise ValueError(f"{str(path)!r} is no regular file")
    with open(path, "rb") as file:
        head = file.read(9)
    if not head:
        raise ValueError(f"{str(path)!r} is empty, so it is no checkpoint")
    length = int.from_bytes(head[:8], "little")
    return status.st_size, head[8:] == b"{" and length <= status.st_size - 8


def _parsed(path: Path, text: str) -> Any:
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError(f"{str(path)!r} has metadata that is nested too deep") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"{str(path)!r} has metadata that is no JSON: {error}") from error
    except ValueError as error:  # a number of thousands of digits
        raise ValueError(f"{str(path)!r} has metadata with a number that is too large") from error
    return _description(path, value)


def _description(path: Path, value: Any) -> Any:
    try:
        return plain_data(value)
    except ValueError as error:
        raise ValueError(f"{str(path)!r} has metadata that is no plain data: it {error}") from None


# -- files of torch.save ------------------------------------------------------------------------


def _read_pickle(path: Path, size: int) -> Any:
    with (
        _Told(
            path,
            "is no checkpoint that can be read safely: it is damaged, or neither safetensors nor "
            "torch.save wrote it",
        ),
        open(path, "rb") as file,
    ):
        is_zip = file.read(4) == b"PK\x03\x04"
        file.seek(0)
        scanner = _Scanner(path)
        if is_zip:
            _scan_zip(path, file, size, scanner)
        else:
            scanner.scan(file)
            if scanner.first_number != _LEGACY_MAGIC:
                raise _Refused(
                    f"{str(path)!r} is no checkpoint that can be read safely: torch.save did not "
                    "write it, nor safetensors"
                )
            for _ in range(_LEGACY_PICKLES - 1):
                scanner.scan(file)
        content = _load(path, scanner.has_numpy)
        claimed = _claimed_bytes(content)
        if claimed > _EXPANSION * size + _SLACK:
            raise _Refused(
                f"{str(path)!r} is {size} bytes large, but its tensors claim {claimed} bytes"
            )
    return content


def _load(path: Path, has_numpy: bool) -> Any:
    if not has_numpy:
        return torch.load(path, map_location="cpu", weights_only=True)
    # The list is one for the process, and nobody else's loading is to change: a moment, and alone.
    stand_ins: list[Any] = [
        *((_numpy_scalar, name.replace(" ", ".")) for name in _NUMPY[:2]),
        (_NumpyType, "numpy.dtype"),
    ]
    with _numpy_lock, torch.serialization.safe_globals(stand_ins):
        return torch.load(path, map_location="cpu", weights_only=True)


class _NumpyType:
    """Stands for ``numpy.dtype`` in a pickle, so that numpy sees types of a few kinds only."""

    def __init__(self, code: str, *_: Any) -> None:
        self.code, self.order = code, "<"

    def __setstate__(self, state: Any) -> None:
        self.order = state[1] if state[1] in ("<", ">", "|", "=") else "<"


def _numpy_scalar(kind: _NumpyType, data: bytes) -> Any:
    code = kind.code
    if not re.fullmatch(r"b1|[iu][1248]|f[248]|c8|c16|[SU]\d{1,6}", code):
        raise _Refused(f"scalars of numpy type {shown(code)} are not read")
    (value,) = np.frombuffer(data, dtype=f"{kind.order}{code}")
    return value.item()


class _Scanner:
    """Goes through pickles without unpickling, and refuses what they should not name."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.has_numpy = False
        self.first_number: int | None = None
        self._left = _MOST_OPERATIONS

    def scan(self, file: IO[bytes]) -> None:
        """Go through the next pickle.

        Raises:
            ValueError: it is none, names other objects, is of another protocol, or too long.
        """
        # The last string on each level of the structure is the key of what follows.
        keys: list[str] = [""]
        memo: dict[int, str] = {}
        last: str | None = None
        found: dict[str, str] = {}
        for opcode, argument, _ in pickletools.genops(file):
            self._left -= 1
            if self._left < 0:
                raise _Refused(
                    f"{str(self.path)!r} is no checkpoint: it holds millions of small values"
                )
            name = opcode.name
            if name in _STRINGS:
                keys[-1] = last = str(argument)
                continue
            if name in _PUTS:
                if last is not None:
                    memo[argument] = last
            elif name in _GETS:
                keys[-1] = memo.get(argument, keys[-1])
            elif name == "MARK":
                keys.append("")
            elif name in _CLOSES and len(keys) > 1:
                keys.pop()
            elif name == "GLOBAL":
                self._check(argument, keys, found)
            elif name == "PROTO" and argument != 2:
                raise _Refused(
                    f"{str(self.path)!r} cannot be read safely, as it is a pickle of protocol "
                    f"{argument}: write it with torch.save and its default protocol, which is 2"
                )
            elif name == "LONG1" and self.first_number is None:
                self.first_number = argument
            last = None
        if found:
            listed = [f"{k} under {shown(w)}" if w else k for k, w in list(found.items())[:3]]
            more = f" and {len(found) - 3} more" if len(found) > 3 else ""
            raise _Refused(
                f"{str(self.path)!r} cannot be read safely, as it holds other objects than tensors "
                f"and plain data: {', '.join(listed)}{more}. Extract the weights with the program "
                "that wrote it, as in torch.save(net.state_dict(), 'weights.pth'), and load those"
            )

    def _check(self, argument: str, keys: list[str], found: dict[str, str]) -> None:
        if argument in _NUMPY:
            self.has_numpy = True
        elif not _ALLOWED.fullmatch(argument):
            name = ascii(argument.replace(" ", "."))[1:-1][:80]
            found.setdefault(name, ".".join(key for key in keys if key))


def _scan_zip(path: Path, file: IO[bytes], size: int, scanner: _Scanner) -> None:
    """Check the directory of an archive, then the pickles in it.

    The directory is the one that torch finds, too: the last bytes of the file say where it is.
    """
    _check_end(file, size)
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        packed = sum(entry.compress_size for entry in entries)
        unpacked = sum(entry.file_size for entry in entries)
        if packed > size or unpacked > _INFLATION * size:
            raise _Refused(
                f"{str(path)!r} is {size} bytes large, but would be {unpacked} bytes unpacked: it "
                "is no checkpoint"
            )
        pickles = [entry for entry in entries if entry.filename.lower().endswith("data.pkl")]
        if any(entry.filename.lower().endswith("constants.pkl") for entry in entries):
            raise _Refused(
                f"{str(path)!r} is a TorchScript archive, a program, which is not read: save the "
                "state_dict() of the model"
            )
        for entry in pickles:
            if entry.file_size > _LARGEST_PICKLE:
                raise _Refused(
                    f"{str(path)!r} has {entry.file_size} bytes beside its tensors, more than "
                    f"{_LARGEST_PICKLE}: it is no checkpoint"
                )
            if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ValueError("torch cannot unpack this")
            with archive.open(entry) as content:
                scanner.scan(content)


def _check_end(file: IO[bytes], size: int) -> None:
    """Refuse archives in whose end two readers may see two directories."""
    file.seek(max(0, size - 98))
    tail = file.read().rjust(98, b"\0")
    end, locator = tail[-22:], tail[-42:-22]
    if end[:4] != _BOOK_END or end[20:] != b"\0\0":
        raise ValueError("the archive does not end with its directory")
    if locator[:4] == _LOCATOR and (
        int.from_bytes(locator[8:16], "little") != size - 98 or tail[:4] != _BOOK_END_64
    ):
        raise ValueError("the directory of the archive is not where it should be")
    file.seek(0)


def _claimed_bytes(content: Any) -> int:
    """How large all tensors in a structure would be if they shared nothing."""
    total, left, seen = 0, [content], set()
    while left:
        value = left.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Tensor):
            total += value.numel() * value.element_size()
        elif isinstance(value, Mapping):
            left.extend(value.values())
        elif isinstance(value, (list, tuple, set)):
            left.extend(value)
    return total
