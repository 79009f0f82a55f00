# SPDX-License-Identifier: BSD-3-Clause-Clear
"""What :mod:`hostile_calls` puts in the place of arguments."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch

Arguments = dict[str, Any]
Path = tuple[Any, ...]  # from the name of an argument to an item in it

_CANARY = 0xA5
_ROOM = 256  # bytes of it on either side of an array


class Case(NamedTuple):
    """Arguments of a call, with what they were before."""

    what: str
    arguments: Arguments
    same: bool  # whether the result must be that of the plain arguments
    buffers: list[tuple[str, np.ndarray, bytes]]


class _Raising:
    def __index__(self) -> int:
        raise KeyError("index")

    def __float__(self) -> float:
        raise KeyError("float")

    def __len__(self) -> int:
        raise KeyError("len")

    def __getitem__(self, i: int) -> int:
        raise KeyError("item")


class _Lying:
    """A sequence that ends before it says."""

    def __len__(self) -> int:
        return 100

    def __getitem__(self, i: int) -> int:
        if i > 1:
            raise IndexError(i)
        return 0


class _Shrinking:
    """An item that empties its list when it is read."""

    def __init__(self, of: list[Any]) -> None:
        self.of = of

    def __index__(self) -> int:
        self.of.clear()
        return 0

    def __float__(self) -> float:
        self.of.clear()
        return 0.0


def _shrinking_list() -> list[Any]:
    items: list[Any] = [0, 0, 0]
    items[1] = _Shrinking(items)
    return items


# NumPy 1 has no array of 33 dimensions.
_MANY = 33 if int(np.__version__.split(".")[0]) > 1 else 32

# Makers, since some objects must not be used twice.
_ANYTHING: dict[str, Callable[[], Any]] = {
    **{
        repr(value): lambda value=value: value
        for value in (
            *(None, True, False, "text", b"bytes", bytearray(3), (), [], {}, (None,), [None]),
            *(0, 1, -1, 2**31 - 1, 2**31, -(2**31) - 1, 2**32, 2**63 - 1, 2**63, 2**64 - 1, 2**64),
            *(-(2**63), 10**400, 0.0, -0.0, 0.5, 1e-310, 1e308, -1.0),
            *(float("nan"), float("inf"), -float("inf"), 1j, [None, None], (None, None, 1e-5)),
            *(range(3), range(2**40, 2**40 + 3), [[[]]], [2**31], [float("nan")], ["1"]),
        )
    },
    "object": object,
    "class": lambda: int,
    "raising": _Raising,
    "lying": _Lying,
    "shrinking list": _shrinking_list,
    "list that holds itself": lambda: (lambda items: items.append(items) or items)([]),
    "memoryview": lambda: memoryview(bytearray(8)),
    "memoryview of 3 dimensions": lambda: memoryview(bytearray(8)).cast("B", (2, 2, 2)),
    "generator": lambda: (i for i in range(3)),
    "tensor of no dimension": lambda: torch.tensor(1),
    "meta tensor": lambda: torch.empty(2, 2, device="meta"),
    "sparse tensor": lambda: torch.eye(2).to_sparse(),
    "complex tensor": lambda: torch.zeros(2, 2, dtype=torch.complex64).conj(),
    "array of objects": lambda: np.array([None, 1], dtype=object),
    "array of texts": lambda: np.array(["a", "b"]),
    "array of dates": lambda: np.array(["2000-01-01"], dtype="datetime64[D]"),
    "array of records": lambda: np.zeros(2, dtype=[("a", "i4"), ("b", "f4")]),
    "array without dimension": lambda: np.array(1, dtype=np.int32),
    "array of no rows": lambda: np.zeros((0, 2**40), dtype=np.float32),
    "array of many dimensions": lambda: np.zeros((1,) * _MANY, dtype=np.float32),
}

_VALUES = (0, -1, 1, 2**31 - 1, -(2**31), 127, 128, 65537)
_FLOATS = (np.nan, np.inf, -np.inf, 3e38, -3e38, 1e-45, -0.0, -1e-3, 2.0**31, 2.0**63)


def _in_room(array: np.ndarray, shift: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A copy between bytes that nobody may write to, and all of these."""
    whole = np.full(array.nbytes + 2 * _ROOM + 64, _CANARY, dtype=np.uint8)
    first = _ROOM + -whole.ctypes.data % 64 + shift
    view = whole[first : first + array.nbytes].view()
    return np.ndarray(array.shape, array.dtype, buffer=whole.data, offset=first), view


def _other_kinds(array: np.ndarray) -> Iterator[tuple[str, Any]]:
    """The same numbers in arrays of another kind."""
    yield "read-only", _frozen(array.copy())
    for shift in range(1, array.itemsize):
        moved, _ = _in_room(array, shift)
        moved[...] = array
        yield f"unaligned by {shift}", moved
    for axis in range(array.ndim):
        index = [slice(None)] * array.ndim
        index[axis] = slice(None, None, 2)
        wide = np.repeat(array, 2, axis=axis)
        yield f"strides on axis {axis}", wide[tuple(index)]
        yield f"negative strides on axis {axis}", np.flip(np.flip(array, axis).copy(), axis)
    yield "in the order of Fortran", np.asfortranarray(array)
    yield "big-endian", array.astype(array.dtype.newbyteorder(">"))
    yield "tensor", torch.from_numpy(array.copy())
    yield "tensor with gradient", _with_gradient(array)
    yield "list", array.tolist()
    yield "memoryview", memoryview(array.copy())
    for dtype in (np.float64, np.int64) if array.dtype == np.float32 else (np.int64, np.int16):
        if (array.astype(dtype) == array).all():
            yield np.dtype(dtype).name, array.astype(dtype)


def _frozen(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array


def _with_gradient(array: np.ndarray) -> torch.Tensor:
    tensor = torch.from_numpy(array.copy())
    return tensor.requires_grad_() if tensor.is_floating_point() else tensor


def _other_arrays(array: np.ndarray) -> Iterator[tuple[str, Any]]:
    """Arrays of other numbers, types and shapes."""
    for dtype in ("f2", "f8", "i1", "i4", "i8", "u4", "u8", "?", "c8", "f4"):
        yield f"zeros of {dtype}", np.zeros(array.shape, dtype=dtype)
    yield "zeros of bfloat16", torch.zeros(array.shape, dtype=torch.bfloat16)
    yield "meta tensor", torch.empty(array.shape, device="meta")
    for value in _VALUES:
        yield f"full of {value}", np.full_like(array, value)
        yield f"int64, full of {2**31 + value}", np.full(array.shape, 2**31 + value, np.int64)
    if array.dtype == np.float32:
        for value in _FLOATS:
            full = np.full_like(array, value)
            one = array.copy()
            one.reshape(-1)[-1:] = value
            yield f"full of {value}", full
            yield f"{value} at the end", one
    yield "without elements", array[:0]
    yield "without elements on the last axis", array[..., :0]
    yield "one shorter", array[:-1].copy()
    yield "one narrower", array[..., :-1].copy()
    yield "one longer", np.concatenate([array, array[-1:]])
    yield "one dimension more", array[None]
    yield "one dimension less", array[0]
    yield "without strides", np.broadcast_to(array[:1, ...], array.shape)
    yield "one number for all", np.broadcast_to(array.reshape(-1)[0], array.shape)
    yield (
        "overlapping itself",
        np.lib.stride_tricks.as_strided(
            np.zeros(array.size + array.ndim, array.dtype),
            array.shape,
            (array.itemsize,) * array.ndim,
        ),
    )
    for rows in (2**31, 2**40):
        yield f"{rows} rows without elements", np.zeros((rows, *array.shape[1:-1], 0), array.dtype)


def _paths(value: Any, path: Path) -> Iterator[Path]:
    yield path
    if isinstance(value, tuple | list):
        for i in sorted({0, 1, len(value) - 1} & set(range(len(value)))):
            yield from _paths(value[i], (*path, i))


def _at(arguments: Any, path: Path) -> Any:
    for key in path:
        arguments = arguments[key]
    return arguments


def _with(holder: Any, path: Path, value: Any) -> Any:
    if not path:
        return value
    first, *rest = path
    replaced = _with(holder[first], tuple(rest), value)
    if isinstance(holder, dict):
        return {**holder, first: replaced}
    return type(holder)([*holder[:first], replaced, *holder[first + 1 :]])


def _text(path: Path) -> str:
    return path[0] + "".join(f"[{i}]" for i in path[1:])


def _case(what: str, arguments: Arguments, same: bool, fixed: tuple[Path, ...] = ()) -> Case:
    """Arguments with their arrays, but for those at `fixed`, in memory that is watched."""
    buffers = []
    for name in arguments:
        for path in _all_paths(arguments[name], (name,)):
            value = _at(arguments, path)
            if not isinstance(value, np.ndarray) or path in fixed or not value.flags.c_contiguous:
                continue
            if value.dtype.hasobject or value.dtype.kind not in "fiu":
                continue
            copy, _ = _in_room(value)
            copy[...] = value
            arguments = _with(arguments, path, copy)
            whole = copy.base
            while isinstance(whole, memoryview) or whole.base is not None:
                whole = whole.obj if isinstance(whole, memoryview) else whole.base
            if name == "out":  # only what is around it must stay
                first = copy.ctypes.data - whole.ctypes.data
                for part in (whole[:first], whole[first + copy.nbytes :]):
                    buffers.append((f"around {_text(path)}", part, part.tobytes()))
            else:
                buffers.append((_text(path), whole, whole.tobytes()))
    return Case(what, arguments, same, buffers)


def _all_paths(value: Any, path: Path) -> Iterator[Path]:
    yield path
    if isinstance(value, tuple | list) and len(value) < 10:
        for i, item in enumerate(value):
            if item is not value:
                yield from _all_paths(item, (*path, i))


def cases(arguments: Callable[[], Arguments]) -> Iterator[Callable[[], Case]]:
    """The plain arguments, then all that have one of them replaced, or two that overlap.

    They come as makers of cases, since not all have to be made.
    """
    yield partial(_case, "plain", arguments(), True)
    plain_ones = arguments()
    paths = [path for name in plain_ones for path in _paths(plain_ones[name], (name,))]
    for path in paths:
        value, where = _at(plain_ones, path), _text(path)
        for what, make in _ANYTHING.items():
            yield partial(
                _case, f"{where} = {what}", _with(arguments(), path, make()), False, (path,)
            )
        if path == ("self",):
            new = type(value).__new__(type(value))
            yield partial(_case, "self never initialised", _with(arguments(), path, new), False)
        if isinstance(value, tuple | list):
            for other in (value[:-1], (*value, value[-1]), list(value)):
                yield partial(_case, f"{where} = {type(other)} of {len(other)}",
                            _with(arguments(), path, other), False)  # fmt: skip
        if not isinstance(value, np.ndarray):
            continue
        for what, other in _other_kinds(value):
            yield partial(_case, f"{where} {what}", _with(arguments(), path, other), True, (path,))
        for what, other in _other_arrays(value):
            yield partial(_case, f"{where} {what}", _with(arguments(), path, other), False, (path,))
    arrays = [path for path in paths if isinstance(_at(plain_ones, path), np.ndarray)]
    for path in arrays:
        for other in arrays:
            if path != other:
                yield from _overlaps(arguments, path, other)


def _overlaps(
    arguments: Callable[[], Arguments], path: Path, other: Path
) -> Iterator[Callable[[], Case]]:
    """Two arrays in one memory, the second from the start, middle or last byte of the first on."""
    given = arguments()
    a, b = _at(given, path), _at(given, other)
    for place in sorted({0, a.nbytes // 2 // 8 * 8, a.nbytes - a.itemsize}):
        memory = np.zeros(a.nbytes + b.nbytes + 64, dtype=np.uint8)
        first = np.ndarray(a.shape, a.dtype, buffer=memory.data)
        second = np.ndarray(b.shape, b.dtype, buffer=memory.data, offset=place)
        second[...] = b
        first[...] = a
        replaced = _with(_with(given, path, first), other, second)
        what = f"{_text(other)} in {_text(path)} from byte {place} on"
        yield partial(_case, what, replaced, False, (path, other))


def check_memory(case: Case) -> str | None:
    """What was written to that should not be."""
    for name, part, before in case.buffers:
        if part.tobytes() != before:
            return f"wrote to {name}"
    return None


def plain(result: Any, arguments: Arguments) -> Any:
    """A result, or the output that was written to, in a form that can be compared."""
    if result is None and "out" in arguments:
        out = arguments["out"]
        result = out.detach().numpy() if isinstance(out, torch.Tensor) else out
        return np.asarray(result).tolist()
    if isinstance(result, np.ndarray):
        return result.tolist()
    if isinstance(result, tuple | list):
        return [plain(item, {}) for item in result]
    if isinstance(result, bytes | int | float | str) or result is None:
        return result
    return str(result) if hasattr(result, "nbytes") else len(result)
