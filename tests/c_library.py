# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The C library of coded images, built for tests, and what calls it."""

from __future__ import annotations

import ctypes
import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from ctypes import (
    POINTER,
    byref,
    c_char_p,
    c_double,
    c_float,
    c_int32,
    c_size_t,
    c_uint8,
    c_uint32,
    c_uint64,
)
from pathlib import Path

import numpy as np

__all__ = ["LIBRARY", "ROOT", "CError", "Model", "build", "decode", "encode", "error_of"]

ROOT = Path(__file__).parents[1]
_BUILD = ROOT / "build" / "cai"
# One with sanitisers, if `make sanitize` says so.
_GIVEN = os.environ.get("COMPRESSAI_CAI_LIBRARY")
LIBRARY = Path(_GIVEN or _BUILD / "cai/libcai.so").absolute()
_RUN_NETWORK = 1

Runner = Callable[[str, dict[str, np.ndarray]], list[np.ndarray]]


class _Info(ctypes.Structure):
    _fields_ = [
        *((name, c_uint64) for name in ("width", "height", "tile_size", "tile_overlap", "tiles")),
        ("quality", c_double),
        *((name, c_char_p) for name in ("model", "mode", "source_mode")),
        *(
            field
            for name in ("alpha", "icc", "exif")
            for field in ((name, POINTER(c_uint8)), (f"{name}_size", c_size_t))
        ),
        *((name, c_int32) for name in ("metric", "random_weights", "sync_safe")),
        ("has_hashes", c_int32),
        ("fingerprint", c_uint8 * 8),
    ]


class _Array(ctypes.Structure):
    _fields_ = [
        ("name", c_char_p),
        *((name, c_int32) for name in ("channels", "height", "width")),
        ("data", POINTER(c_float)),
    ]

    def view(self) -> np.ndarray:
        shape = (1, self.channels, self.height, self.width)
        return np.ctypeslib.as_array(self.data, shape)


class _Call(ctypes.Structure):
    _fields_ = [
        ("network", c_char_p),
        *((name, c_int32) for name in ("number", "inputs", "outputs")),
        ("input", POINTER(_Array)),
        ("output", POINTER(_Array)),
    ]


class _Region(ctypes.Structure):
    _fields_ = [(name, c_uint64) for name in ("x", "y", "width", "height")]


class _Encoding(ctypes.Structure):
    _fields_ = [
        ("source_mode", c_char_p),
        ("tile_size", c_uint32),
        ("tile_overlap", c_uint32),
        ("tolerance", c_float),
        *(
            field
            for name in ("alpha", "icc", "exif")
            for field in ((name, c_char_p), (f"{name}_size", c_size_t))
        ),
        ("quality", POINTER(c_double)),
    ]


class CError(Exception):
    """What the library refused: ``name`` of the error, and the message."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(f"{name}: {message}")
        self.name = name


def tool(name: str) -> str:
    """A program of the environment that runs the tests, else of the system."""
    beside = Path(sys.executable).with_name(name)
    return str(beside) if beside.exists() else str(shutil.which(name))


def build() -> ctypes.CDLL:
    """The library, built where it is not or sources are newer."""
    if not _GIVEN:
        _compile()
    library = ctypes.CDLL(str(LIBRARY))
    for name in ("cai_error_name", "cai_message"):
        getattr(library, name).restype = c_char_p
    library.cai_file_info.restype = POINTER(_Info)
    # It begins with three numbers, the qualities.
    library.cai_model_get_info.restype = POINTER(c_double)
    for name in ("cai_decoder_pixels", "cai_encoder_bytes"):
        getattr(library, name).restype = POINTER(c_uint8)
    for name in ("close", "model_close", "decoder_free", "encoder_free"):
        getattr(library, f"cai_{name}").restype = None
    return library


def _compile() -> None:
    configure = [tool("cmake"), "-G", "Ninja", "-S", str(ROOT / "compressai/cpp_exts")]
    options = ["-DCOMPRESSAI_CAI=ON", "-DCOMPRESSAI_PYTHON=OFF"]
    options.append(f"-DCMAKE_MAKE_PROGRAM={tool('ninja')}")
    _BUILD.mkdir(parents=True, exist_ok=True)
    with (_BUILD / "lock").open("w") as lock:  # other workers of pytest wait
        fcntl.flock(lock, fcntl.LOCK_EX)
        for command in ([*configure, "-B", _BUILD, *options], [tool("cmake"), "--build", _BUILD]):
            subprocess.run(command, check=True, stdout=subprocess.PIPE)


def _check(library: ctypes.CDLL, status: int) -> int:
    if status > _RUN_NETWORK:
        raise CError(library.cai_error_name(status).decode(), library.cai_message().decode())
    return status


class Model:
    """A bundle that the library has read; ``qualities``: its own, the lowest and the highest."""

    def __init__(self, library: ctypes.CDLL, bundle: bytes) -> None:
        self.library, self.handle = library, ctypes.c_void_p()
        _check(library, library.cai_model_open(bundle, c_size_t(len(bundle)), byref(self.handle)))
        self.qualities = tuple(library.cai_model_get_info(self.handle)[0:3])

    def close(self) -> None:
        self.library.cai_model_close(self.handle)


def _arrays(call: _Call) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Inputs and outputs of a call, by name."""
    inputs = {call.input[i].name.decode(): call.input[i].view() for i in range(call.inputs)}
    outputs = {call.output[i].name.decode(): call.output[i].view() for i in range(call.outputs)}
    return inputs, outputs


def _run_all(library: ctypes.CDLL, kind: str, handle: ctypes.c_void_p, run: Runner) -> None:
    call = POINTER(_Call)()
    following = getattr(library, f"cai_{kind}_next")
    while _check(library, following(handle, byref(call))) == _RUN_NETWORK:
        inputs, outputs = _arrays(call.contents)
        results = run(call.contents.network.decode(), inputs)
        for place, result in zip(outputs.values(), results, strict=True):
            place[...] = result


def error_of(library: ctypes.CDLL, content: bytes) -> str:
    """Name of the error that a file is refused with; empty if it is read."""
    file = ctypes.c_void_p()
    status = library.cai_open(content, c_size_t(len(content)), byref(file))
    if status:
        return library.cai_error_name(status).decode()
    library.cai_close(file)
    return ""


def decode(
    model: Model,
    content: bytes,
    run: Runner,
    region: tuple[int, int, int, int] | None = None,
    max_pixels: int = 0,
) -> tuple[np.ndarray, bytes]:
    """Samples ``(H, W, C)``, and the hash of the last tile's latent.

    Raises:
        CError: the file cannot be decoded.
    """
    library = model.library
    file, decoder = ctypes.c_void_p(), ctypes.c_void_p()
    _check(library, library.cai_open(content, c_size_t(len(content)), byref(file)))
    try:
        wanted = None if region is None else byref(_Region(*region))
        made = library.cai_decoder_new(
            model.handle, file, wanted, c_uint64(max_pixels), byref(decoder)
        )
        _check(library, made)
        _run_all(library, "decoder", decoder, run)
        width, height, channels = (c_uint32() for _ in range(3))
        pixels = library.cai_decoder_pixels(decoder, byref(width), byref(height), byref(channels))
        shape = (height.value, width.value, channels.value)
        latent_hash = (c_uint8 * 8)()
        library.cai_decoder_hash(decoder, latent_hash)
        return np.ctypeslib.as_array(pixels, shape).copy(), bytes(latent_hash)
    finally:
        library.cai_decoder_free(decoder)
        library.cai_close(file)


def encode(
    model: Model,
    samples: np.ndarray,
    run: Runner,
    quality: float | None = None,
    **fields: object,
) -> bytes:
    """A file of samples ``(H, W, C)``; ``fields`` and ``quality`` are those of ``cai_encoding``.

    Raises:
        CError: the image cannot be coded.
    """
    library, encoder = model.library, ctypes.c_void_p()
    samples = np.ascontiguousarray(samples, dtype=np.uint8)
    height, width, channels = samples.shape
    pointer = samples.ctypes.data_as(POINTER(c_uint8))
    sides = (c_uint32(width), c_uint32(height), c_uint32(channels))
    chosen = None if quality is None else ctypes.pointer(c_double(quality))
    encoding = byref(_Encoding(quality=chosen, **fields))
    made = library.cai_encoder_new(model.handle, pointer, *sides, encoding, byref(encoder))
    _check(library, made)
    try:
        _run_all(library, "encoder", encoder, run)
        size = c_size_t()
        content = library.cai_encoder_bytes(encoder, byref(size))
        return ctypes.string_at(content, size.value)
    finally:
        library.cai_encoder_free(encoder)
