# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Writing recipes, from which :mod:`compressai.runtime.recipe` makes bundles without torch."""

from __future__ import annotations

import hashlib
import json
import tempfile
import zipfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from compressai._files import atomic_write
from compressai.inference.bundle import export_bundle
from compressai.models import CompressionModel
from compressai.runtime.bundle import MANIFEST, VERSION, Bundle
from compressai.runtime.recipe import FORMAT, RECIPE, Origin, read_tensors

__all__ = ["export_recipe"]

# Smaller constants stay in the graph.
_LEAST_ELEMENTS = 8
# onnx.TensorProto.FLOAT
_FLOAT = 1


def export_recipe(net: CompressionModel, files: Sequence[Path], path: Path) -> None:
    """Write what makes the bundle of a model of its weights.

    Args:
        net: a model of variable rate, whose bundle serves all qualities.
        files: the safetensors files that have its weights.
        path: the recipe; written at once or not at all.

    Raises:
        ImportError, ValueError, RuntimeError: as :func:`export_bundle`.
        ValueError: the model has one rate.
    """
    with tempfile.TemporaryDirectory() as scratch:
        export_bundle(net, Path(scratch, "bundle"))
        bundle = Bundle.read(Path(scratch, "bundle"))
    manifest = dict(bundle.manifest)
    if manifest["quality"] is not None:
        raise ValueError(f"net must be of variable rate, got {manifest['model']} of one quality")
    told: list[dict[str, str]] = []
    tensors: dict[str, np.ndarray] = {}
    for file in files:
        sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
        told.append({"name": file.name, "sha256": sha256})
        tensors |= read_tensors(file, sha256)
    known = _by_content(tensors)
    weights: dict[str, Any] = {}
    contents: dict[str, bytes] = {}
    for name, network in manifest["networks"].items():
        weights[name], contents[network["file"]] = _skeleton(bundle.network(name), known)
    # An entry's hash is of the whole graph, which is made anew.
    manifest["networks"] = {
        name: {key: value for key, value in network.items() if key != "sha256"}
        for name, network in manifest["networks"].items()
    }
    arrays = [one["file"] for one in manifest["arrays"].values()]
    contents |= {file: bundle.contents[file] for file in arrays}
    recipe = {
        "format": FORMAT,
        "version": VERSION,
        "manifest": manifest,
        "weights": weights,
        "models": [{"files": told}],
    }
    assert MANIFEST not in contents
    text = json.dumps(recipe, indent=1, ensure_ascii=True) + "\n"
    with atomic_write(path) as unfinished, zipfile.ZipFile(unfinished, "w") as out:
        for name, content in {RECIPE: text.encode(), **contents}.items():
            out.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED, 9)


def _skeleton(
    graph: bytes, known: Mapping[bytes, Collection[Origin]]
) -> tuple[dict[str, Any], bytes]:
    """Where the weights of a network come from, and its graph without them."""
    # Of the extra onnx.
    import onnx

    model = onnx.load_from_string(graph)
    places: dict[str, Any] = {}
    for constant, values in _constants(model.graph).items():
        if values.dtype != np.float32 or values.size < _LEAST_ELEMENTS:
            continue
        # By chance others may have the same values, too; they do as well.
        candidates = known.get(values.tobytes())
        if candidates:
            best = max(candidates, key=lambda one: (_common_end(one.tensor, constant), one))
            places[constant] = {**best._asdict(), "shape": list(values.shape)}
    kept = [one for one in model.graph.initializer if one.name not in places]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    del model.metadata_props[:]
    return places, model.SerializeToString(deterministic=True)


def _constants(graph: Any) -> dict[str, np.ndarray]:
    """The constants of a graph, which all become initializers."""
    # Of the extra onnx.
    import onnx

    nodes = []
    for node in graph.node:
        value = node.attribute[0] if node.op_type == "Constant" else None
        if value is not None and value.name == "value" and value.t.data_type == _FLOAT:
            initializer = graph.initializer.add()
            initializer.CopyFrom(value.t)
            initializer.name = node.output[0]
        else:
            nodes.append(node)
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(kept)
    return {one.name: onnx.numpy_helper.to_array(one) for one in graph.initializer}


def _by_content(tensors: Mapping[str, np.ndarray]) -> dict[bytes, set[Origin]]:
    """Where arrays can come from, by their content."""
    found: dict[bytes, set[Origin]] = {}

    def note(origin: Origin) -> None:
        found.setdefault(origin.values(tensors).tobytes(), set()).add(origin)

    for name, values in tensors.items():
        note(Origin(name))
        stem, _, last = name.rpartition(".")
        exponent = f"{stem}.exponent"
        if exponent not in tensors:
            continue
        if last == "exponent":
            for sign in (-1, 1):
                note(Origin("", exponent, sign))
        else:
            for axis in range(min(values.ndim, 2)):
                if tensors[exponent].shape == (values.shape[axis],):
                    note(Origin(name, exponent, -1, axis))
    return found


def _common_end(a: str, b: str) -> int:
    count = 0
    for x, y in zip(reversed(a), reversed(b)):
        if x != y:
            break
        count += 1
    return count
