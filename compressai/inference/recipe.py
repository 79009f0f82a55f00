# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Writing recipes, from which :mod:`compressai.runtime.recipe` makes bundles without torch."""

from __future__ import annotations

import hashlib
import json
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
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


def export_recipe(models: Sequence[tuple[CompressionModel, Sequence[Path]]], path: Path) -> None:
    """Write what bundles of some models share.

    Args:
        models: of one architecture, each with the safetensors files that have its weights.
        path: the recipe; written at once or not at all.

    Raises:
        ImportError, ValueError, RuntimeError: as :func:`export_bundle`.
        ValueError: graphs of the models differ, or hold what no file has.
    """
    with tempfile.TemporaryDirectory() as scratch:
        bundles, found = [], []
        for number, (net, files) in enumerate(models):
            export_bundle(net, Path(scratch, str(number)))
            bundles.append(Bundle.read(Path(scratch, str(number))))
            told = [
                {"name": file.name, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
                for file in files
            ]
            tensors: dict[str, np.ndarray] = {}
            for file, one in zip(files, told):
                tensors |= read_tensors(file, one["sha256"])
            found.append((told, tensors))
    contents: dict[str, bytes] = {}
    weights: dict[str, Any] = {}
    for name, told in bundles[0].manifest["networks"].items():
        graphs = [bundle.network(name) for bundle in bundles]
        weights[name], contents[told["file"]] = _skeleton(
            name, graphs, [tensors for _, tensors in found]
        )
    # An entry's hash is of the whole graph, which is made anew.
    plain = [
        {
            **bundle.manifest,
            "networks": {
                name: {key: value for key, value in one.items() if key != "sha256"}
                for name, one in bundle.manifest["networks"].items()
            },
        }
        for bundle in bundles
    ]
    shared = {key: value for key, value in plain[0].items() if all(m[key] == value for m in plain)}
    shared["arrays"] = {
        name: one
        for name, one in plain[0]["arrays"].items()
        if all(m["arrays"][name] == one for m in plain)
    }
    contents |= {one["file"]: bundles[0].contents[one["file"]] for one in shared["arrays"].values()}
    entries = []
    for number, (bundle, manifest, (told, _)) in enumerate(zip(bundles, plain, found)):
        own = {key: value for key, value in manifest.items() if key not in shared}
        own["quality"] = manifest["quality"]
        own["arrays"] = {}
        for name, one in manifest["arrays"].items():
            if name not in shared["arrays"]:
                file = f"{number}/{one['file']}"
                contents[file] = bundle.contents[one["file"]]
                own["arrays"][name] = {**one, "file": file}
        entries.append({"manifest": own, "files": told})
    recipe = {
        "format": FORMAT,
        "version": VERSION,
        "manifest": shared,
        "weights": weights,
        "models": entries,
    }
    assert MANIFEST not in contents
    text = json.dumps(recipe, indent=1, ensure_ascii=True) + "\n"
    with atomic_write(path) as unfinished, zipfile.ZipFile(unfinished, "w") as out:
        for name, content in {RECIPE: text.encode(), **contents}.items():
            out.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED, 9)


def _skeleton(
    name: str, graphs: Sequence[bytes], tensors: Sequence[Mapping[str, np.ndarray]]
) -> tuple[dict[str, Any], bytes]:
    """Where the weights of a network come from, and its graph without them."""
    # Of the extra onnx.
    import onnx

    places: dict[str, Any] = {}
    skeletons = set()
    models = [onnx.load_from_string(graph) for graph in graphs]
    known = [_by_content(one) for one in tensors]
    arrays = [_constants(model.graph) for model in models]
    for constant, first in arrays[0].items():
        contents = [found[constant].tobytes() for found in arrays]
        if first.dtype != np.float32 or (first.size < _LEAST_ELEMENTS and len({*contents}) == 1):
            continue
        # By chance others may have the same values, too; they do as well for these models.
        found = [one.get(content, set()) for one, content in zip(known, contents)]
        candidates = set.intersection(*found)
        if candidates:
            best = max(candidates, key=lambda one: (_common_end(one.tensor, constant), one))
            places[constant] = {**best._asdict(), "shape": list(first.shape)}
    for model in models:
        kept = [one for one in model.graph.initializer if one.name not in places]
        del model.graph.initializer[:]
        model.graph.initializer.extend(kept)
        del model.metadata_props[:]
        skeletons.add(model.SerializeToString(deterministic=True))
    if len(skeletons) != 1:
        raise ValueError(f"{name}: the models differ by more than weights that their files have")
    return places, skeletons.pop()


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
