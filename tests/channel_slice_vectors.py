# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Full-size channel-slice models with weights by formula, as the conformance vectors define them.

``tables/channel_slice_keymaps.json.gz`` lists for every entry of an authors' model its name, its
names here, its shape here and its shape there; ``tables/channel_slice_vectors.json`` what the
authors' programs compute with these weights.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from compressai.models.cca import CCAModel
from compressai.models.stf import WACNN, SymmetricalTransFormer
from compressai.models.tcm import TCM

__all__ = ["FULL_SIZE", "VECTORS", "authors_weights", "hashed", "keymap", "modern"]

_TABLES = Path(__file__).parent / "tables"
VECTORS: dict[str, Any] = json.loads((_TABLES / "channel_slice_vectors.json").read_text())
FULL_SIZE: dict[str, tuple[type[nn.Module], dict[str, Any]]] = {
    "wacnn": (WACNN, {}),
    "stf": (SymmetricalTransFormer, {}),
    "tcm_64": (TCM, {"N": 64}),
    "tcm_128": (TCM, {"N": 128}),
    "cca": (CCAModel, {}),
    "cca_train": (CCAModel, {"cca_training": True}),
}


@cache
def _keymaps() -> dict[str, Any]:
    return json.loads(gzip.decompress((_TABLES / "channel_slice_keymaps.json.gz").read_bytes()))


def keymap(name: str) -> dict[str, Any]:
    """``{"parameters": count, "rows": [[orig, [ours], shape, shape of orig], ...]}``."""
    return _keymaps()[name]


def hashed(key: str, shape: tuple[int, ...]) -> np.ndarray:
    """float64 in [0, 1): the splitmix64 finaliser of the name's CRC and the flat index."""
    count = int(np.prod(shape, dtype=np.int64))
    seed = ((zlib.crc32(key.encode()) << 32) + 0x9E3779B97F4A7C15) % 2**64
    x = np.arange(count, dtype=np.uint64) + np.uint64(seed)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        x ^= x >> np.uint64(shift)
        x *= np.uint64(factor)
    x ^= x >> np.uint64(31)
    return ((x >> np.uint64(11)).astype(np.float64) / 2**53).reshape(shape)


def modern(name: str) -> str:
    """The present name of a bottleneck's parameter; others stay."""
    for old, new in (("_matrix", "matrices."), ("_bias", "biases."), ("_factor", "factors.")):
        name = re.sub(rf"(entropy_bottleneck\.){old}(\d)", rf"\g<1>{new}\2", name)
    return name


def _last_scale_biases(names: list[str]) -> set[str]:
    """Of every network that predicts scales, the bias of the last layer."""
    last: dict[str, str] = {}
    for name in names:  # layers are in ascending order
        match = re.fullmatch(r"(.*(?:cc_scale|scale_cc)_transforms\.\d+)\.\d+\.bias", name)
        if match:
            last[match[1]] = name
    return set(last.values())


def _value(
    name: str,
    shape: tuple[int, ...],
    transposed: bool,
    gain: float,
    last_scale_biases: set[str],
) -> np.ndarray | None:
    """Weights by formula; ``None`` for those that keep their initial value."""
    v = 2 * hashed(name, shape) - 1
    last = name.rpartition(".")[2]
    if "entropy_bottleneck." in name:
        return 0.5 * v if ".biases." in name else None
    if last.startswith("relative_position"):
        return 0.5 * v
    if last in ("beta", "gamma"):
        return 0.2 * v if len(shape) == 4 else None
    if name in last_scale_biases:
        return 0.7 + 0.1 * v
    if len(shape) >= 2:
        kernel = int(np.prod(shape[2:]))
        fan = shape[0] * kernel / 4 if transposed else shape[1] * kernel
        return (2 if "lrp_transforms" in name else gain) * v * np.sqrt(3 / fan)
    return 1 + 0.2 * v if last == "weight" else 0.1 * v


def authors_weights(name: str, net: nn.Module, gain: float) -> dict[str, Tensor]:
    """A state dict as the authors' program saves it, with the weights of the vectors.

    Args:
        name: entry of :data:`FULL_SIZE`.
        net: fresh model of that entry, which tells initial values and kinds of layers.
        gain: ``weight_gain`` of the vector.
    """
    state, parameters = net.state_dict(), dict(net.named_parameters())
    weights: dict[str, Tensor] = {}
    rows = keymap(name)["rows"]
    scale_biases = _last_scale_biases([original for original, *_ in rows if original])
    for original, (ours, *_), _, shape in rows:
        if shape is None:  # exists here only, or in released checkpoints only
            continue
        value = None
        if ours in parameters:
            owner = net.get_submodule(ours.rpartition(".")[0])
            transposed = isinstance(owner, nn.ConvTranspose2d)
            value = _value(modern(original), tuple(shape), transposed, gain, scale_biases)
        weights[original] = (
            state[ours] if value is None else torch.from_numpy(value.astype(np.float32))
        )
    return weights
