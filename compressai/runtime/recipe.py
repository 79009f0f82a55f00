# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Bundles made of weights that come with the library, without torch and without a second copy.

A recipe has what the bundle of a model of variable rate has, but graphs without weights, and names
the tensors of weight files that belong into them. ``make recipes`` writes recipes, which needs
torch; they lie beside the weights.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from compressai.runtime.bundle import VERSION, Bundle, BundleError, graph_metadata

__all__ = [
    "FORMAT",
    "RECIPE",
    "Origin",
    "bundle_by_recipe",
    "read_tensors",
    "with_weights",
]

FORMAT = "compressai-recipe"
RECIPE = "recipe.json"
_DTYPES = {"F16": "<f2", "F32": "<f4", "I8": "i1", "I16": "<i2", "I32": "<i4", "I64": "<i8"}
# Numbers of fields, and of the data type, as onnx.proto has them.
_GRAPH, _METADATA, _INITIALIZER = 7, 14, 5
_DIMS, _DATA_TYPE, _NAME, _RAW = 1, 2, 8, 9
_FLOAT = 1


def bundle_by_recipe(path: Path, weights: Path) -> Bundle:
    """A bundle.

    Args:
        path: the recipe.
        weights: folder of the weight files.

    Returns:
        The bundle, whose graphs are put together when they are asked for.

    Raises:
        BundleError: the recipe is damaged, of another version, or weights are not those that it
            was made with.
        OSError: a file cannot be read.
    """
    with _telling_damage(path):
        with zipfile.ZipFile(path) as file:
            contents = {entry.filename: file.read(entry) for entry in file.infolist()}
        recipe = json.loads(contents.pop(RECIPE))
        if (recipe["format"], recipe["version"]) != (FORMAT, VERSION):
            raise BundleError(f"{path} is a recipe of another version")
        manifest, (model,) = recipe["manifest"], recipe["models"]
        tensors: dict[str, np.ndarray] = {}
        for told in model["files"]:
            tensors |= read_tensors(weights / told["name"], told["sha256"])
        return Bundle(
            manifest, _Contents(manifest, contents, recipe["weights"], tensors), str(path)
        )


@contextlib.contextmanager
def _telling_damage(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, BundleError):
        raise
    # As of a bundle, damage has many ways to show.
    except Exception as error:
        raise BundleError(f"{path} is no recipe, or a damaged one: {error}") from error


class Origin(NamedTuple):
    """Where the constant of a graph comes from: a tensor, times powers of two.

    Attributes:
        tensor: its name; ``""`` stands for the number 1.
        exponent: name of a tensor of integers; ``""`` for none.
        sign: of the exponents, 1 or -1.
        axis: of ``tensor``, along which they are.
    """

    tensor: str
    exponent: str = ""
    sign: int = 1
    axis: int = 0

    def values(self, tensors: Mapping[str, np.ndarray]) -> np.ndarray:
        """The constant, float32, little-endian."""
        found = tensors[self.tensor].astype(np.float32) if self.tensor else np.float32(1)
        if self.exponent:
            powers = self.sign * tensors[self.exponent].astype(np.int32)
            if powers.ndim and self.tensor:
                sides = [1] * np.ndim(found)
                sides[self.axis] = -1
                powers = powers.reshape(sides)
            found = np.ldexp(found, powers)
        return np.asarray(found).astype("<f4")


class _Contents(Mapping[str, bytes]):
    """The entries of a bundle; graphs get their weights when they are asked for."""

    def __init__(
        self,
        manifest: Mapping[str, Any],
        contents: Mapping[str, bytes],
        weights: Mapping[str, Any],
        tensors: Mapping[str, np.ndarray],
    ) -> None:
        self._manifest, self._contents = manifest, contents
        self._weights, self._tensors = weights, tensors
        self._networks = {told["file"]: name for name, told in manifest["networks"].items()}
        arrays = {told["file"] for told in manifest["arrays"].values()}
        self._names = [*self._networks, *sorted(arrays)]

    def __getitem__(self, name: str) -> bytes:
        network = self._networks.get(name)
        if network is None:
            return self._contents[name]
        arrays = {
            initializer: Origin(told["tensor"], told["exponent"], told["sign"], told["axis"])
            .values(self._tensors)
            .reshape(told["shape"])
            for initializer, told in self._weights[network].items()
        }
        texts = graph_metadata(self._manifest, network)
        return with_weights(self._contents[name], arrays, texts)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def read_tensors(path: Path, sha256: str) -> dict[str, np.ndarray]:
    """The tensors of a safetensors file that is known by its hash.

    Args:
        path: the file.
        sha256: of its content.

    Raises:
        BundleError: the hash is another.
        OSError: the file cannot be read.
    """
    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise BundleError(
            f"{path} is not what its recipe was made with (SHA-256 {found}, not {sha256}): "
            "install the library anew"
        )
    begin = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:begin])
    header.pop("__metadata__", None)
    view = memoryview(content)
    return {
        name: np.frombuffer(
            view[slice(*(begin + place for place in told["data_offsets"]))],
            _DTYPES[told["dtype"]],
        ).reshape(told["shape"])
        for name, told in header.items()
    }


def with_weights(
    graph: bytes, weights: Mapping[str, np.ndarray], metadata: Mapping[str, str]
) -> bytes:
    """An ONNX model with more initializers and metadata.

    Serialised messages of protobuf that stand one behind the other are one message with the fields
    of both: nothing of the graph is read for that.

    Args:
        graph: the model.
        weights: float32 arrays, little-endian, by name.
        metadata: texts by name.
    """
    initializers = b"".join(
        _field(_INITIALIZER, _tensor(name, values)) for name, values in weights.items()
    )
    texts = b"".join(
        _field(_METADATA, _field(1, key.encode()) + _field(2, value.encode()))
        for key, value in metadata.items()
    )
    return b"".join((graph, _field(_GRAPH, initializers), texts))


def _tensor(name: str, values: np.ndarray) -> bytes:
    dims = b"".join(_varint(_DIMS << 3) + _varint(side) for side in values.shape)
    kind = _varint(_DATA_TYPE << 3) + _varint(_FLOAT)
    return dims + kind + _field(_NAME, name.encode()) + _field(_RAW, values.tobytes())


def _field(number: int, content: bytes) -> bytes:
    return b"".join((_varint(number << 3 | 2), _varint(len(content)), content))


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)
