# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Every method of an entropy model that can be overridden, in every family of models.

The overrides do something else than the originals: an encoder or decoder that went past one of
them would decode another latent.
"""

from __future__ import annotations

import types
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from slice_nets import small_net
from test_hpcm import small_hpcm
from test_models_lite import TINY
from test_models_mlic import SMALL as TINY_MLIC
from test_models_mlic import spread
from tiny_nets import SIZES, tiny_net

from compressai.entropy_models import EntropyBottleneck, EntropyBottleneckVbr, GaussianConditional
from compressai.latent_codecs import (
    HierarchicalProgressiveLatentCodec,
    LearnedScaleLatentCodec,
    RasterScanLatentCodec,
)
from compressai.models import JointAutoregressiveHierarchicalPriors, get_scale_table
from compressai.models.integer import quantize_entropy_path
from compressai.models.lite import Lite
from compressai.models.mlic import MLIC, MLICPlusPlus, MLICv2
from compressai.models.video import ScaleSpaceFlow
from compressai.registry import ENTRIES, MODELS

pytestmark = pytest.mark.usefixtures("one_torch_thread")

# Positions or steps of a latent, which have no strings of their own.
IN_PARTS = (
    JointAutoregressiveHierarchicalPriors,
    RasterScanLatentCodec,
    HierarchicalProgressiveLatentCodec,
)
TABLE = get_scale_table(0.11, 16, 12)
SLICES = ["stf", "wacnn", "tcm", "cca", "dcae", "saaf", "tcm+auxt", "wacnn+cca"]
VBR = {
    "bmshj2018-hyperprior-vbr": {"N": 4, "M": 6, "vr_entbttlnck": True},
    "mbt2018-mean-vbr": {"N": 4, "M": 6, "vr_entbttlnck": True},
    "mbt2018-vbr": {"N": 4, "M": 6},
}
MLICS = {
    "mlic": (MLIC, {}),
    "mlicpp": (MLICPlusPlus, {}),
    "mlicv2": (MLICv2, {"context_window": 3}),
}
MAMBAS = ["mambaic", "mambavc"]
OTHERS = ["hpcm", "lite", "lite-integer", "ssf2020"]
FAMILIES = [*SIZES, *VBR, *SLICES, *MLICS, *MAMBAS, *OTHERS]


def build(family: str) -> Any:
    torch.manual_seed(0)
    if family in SIZES:
        return tiny_net(family)
    if family in SLICES:
        return small_net(family)
    if family in VBR:
        net: Any = MODELS[family](**VBR[family]).eval()
        for name, weight in net.named_parameters():
            if name.endswith("bias") and name.startswith(("g_a", "h_s", "entropy_parameters")):
                weight.data.uniform_(0.2, 1)
        net.g_a[-1].weight.data *= 12
        return net
    if family == "ssf2020":
        net = ScaleSpaceFlow(N=4, M=4).eval()
        for encoder in (net.img_encoder, net.motion_encoder, net.res_encoder):
            encoder[-1].weight.data *= 30
        return net
    if family in MLICS:
        cls, arguments = MLICS[family]
        return spread(cls(**TINY_MLIC, **arguments))
    if family in MAMBAS:
        entry = ENTRIES[family]
        net = entry.model(**entry.small).eval()
        last = [m for m in net.g_a.modules() if isinstance(m, torch.nn.Conv2d)][-1]
        last.weight.data *= 40
        return net
    if family == "hpcm":
        return small_hpcm("phi")
    net = Lite(**TINY).eval()
    net.g_a[-1].weight.data *= 40
    if family.endswith("-integer"):
        net.update()
        return quantize_entropy_path(net, [torch.rand(1, 3, 64, 64)])
    return net


def code(net: Any) -> tuple[list[Any], Callable[[], list[Any]]]:
    """The encoder's latents, and what decodes them."""
    if isinstance(net, ScaleSpaceFlow):
        frames = torch.rand(2, 1, 3, 128, 128)
        reference, key = net.encode_keyframe(frames[0])
        _, inter = net.encode_inter(frames[1], reference)

        def decode_frames() -> list[Any]:
            x, y = net.decode_keyframe(key["strings"], key["shape"], with_latent=True)
            _, ys = net.decode_inter(x, inter["strings"], inter["shape"], with_latent=True)
            return [y, ys["motion"], ys["residual"]]

        return [key["y_hat"], inter["y_hat"]["motion"], inter["y_hat"]["residual"]], decode_frames
    side = max(64, getattr(net, "downsampling_factor", 64))
    out = net.compress(torch.rand(1, 3, side, side))
    return [out["y_hat"]], lambda: [net.decompress(out["strings"], out["shape"])["y_hat"]]


# -- overrides: each gets the original first, then what the original gets, without ``self`` -----


def quantize(original, inputs, mode, means=None, *step):
    if mode != "symbols":
        return original(inputs, mode, means, *step)
    return original(2 * inputs, mode, None if means is None else 2 * means, *step)


def dequantize(original, inputs, means=None, *others, **named):
    values = original(inputs, None, *others, **named) / 2
    return values if means is None else values + means


def build_indexes(original, scales):
    return original(scales * 2)


def compress(original, *args):
    return [string + b"own" for string in original(*args)]


def decompress(original, strings, *args, **named):
    assert all(string[-3:] == b"own" for string in strings)
    return original([string[:-3] for string in strings], *args, **named)


def sharper(original, inputs, *others):
    return original(1.5 * inputs, *others)


def unchanged(original, *args, **named):
    return original(*args, **named)


VALUES = {
    GaussianConditional: {
        "quantize": quantize,
        "dequantize": dequantize,
        "build_indexes": build_indexes,
        "_standardized_cumulative": sharper,
    },
    EntropyBottleneck: {
        "quantize": quantize,
        "dequantize": dequantize,
        "_build_indexes": unchanged,
        "_get_medians": unchanged,
        "_extend_ndims": unchanged,
        "_logits_cumulative": sharper,
    },
    EntropyBottleneckVbr: {
        "quantize_variable": quantize,
        "dequantize_variable": dequantize,
        "_logits_cumulative": sharper,
    },
}
STRINGS = {
    cls: {"compress": compress, "decompress": decompress, "_pmf_to_cdf": unchanged}
    for cls in VALUES
}
STRINGS[GaussianConditional]["_likelihood"] = unchanged
STRINGS[GaussianConditional]["_standardized_quantile"] = unchanged
STRINGS[GaussianConditional]["_prepare_scale_table"] = unchanged
for tables in STRINGS.values():
    for check in ("_check_cdf_size", "_check_cdf_length", "_check_offsets_size"):
        tables[check] = unchanged
# When what is called; the rest is called in both directions.
WHEN_BUILT = {
    *("_pmf_to_cdf", "_likelihood", "_logits_cumulative", "_standardized_cumulative"),
    *("_standardized_quantile", "_prepare_scale_table"),
}
WHEN_CODED = {"quantize", "quantize_variable", "compress"}
WHEN_DECODED = {"decompress"}


def override(module: Any, methods: dict[str, Any], style: str, seen: Counter[Any]) -> None:
    """Give a module own methods: those of a subclass, or attributes of its own."""
    cls = type(module)

    def method(name: str, own: Any) -> Any:
        bound = None if style == "subclass" else getattr(module, name)

        def call(self: Any, *args: Any, **named: Any) -> Any:
            seen[module, name] += 1
            return own(bound or getattr(super(cls, self), name), *args, **named)

        def call_inherited(self: Any, *args: Any, **named: Any) -> Any:
            seen[module, name] += 1
            return own(getattr(super(Own, self), name), *args, **named)

        return call if bound else call_inherited

    functions = {name: method(name, own) for name, own in methods.items()}
    if style == "subclass":
        Own = type(f"Own{cls.__name__}", (cls,), functions)
        module.__class__ = Own
    else:
        for name, function in functions.items():
            setattr(module, name, types.MethodType(function, module))


def not_asked_for(net: Any, conditional: GaussianConditional) -> set[str]:
    """Methods that the place of a conditional has no use for."""
    names: set[str] = set()
    for owner in net.modules():
        if getattr(owner, "gaussian_conditional", None) is not conditional:
            continue
        if isinstance(owner, IN_PARTS):
            names |= {"compress", "decompress"}
        if isinstance(owner, LearnedScaleLatentCodec):
            names |= {"build_indexes"}
    return names


@pytest.mark.parametrize("style", ["subclass", "instance"])
@pytest.mark.parametrize("names", ["values", "strings"])
@pytest.mark.parametrize("family", FAMILIES)
def test_own_methods_count_in_both_directions(family, names, style):
    net = build(family)
    kinds = VALUES if names == "values" else STRINGS
    seen: Counter[Any] = Counter()
    expected = set()
    for module in net.modules():
        kind = next((kind for kind in kinds if isinstance(module, kind)), None)
        if kind is None:
            continue
        methods = dict(kinds[kind])
        if kind is GaussianConditional:
            for name in not_asked_for(net, module):
                methods.pop(name, None)
        override(module, methods, style, seen)
        expected |= {(module, name) for name in methods}
    net.update(scale_table=TABLE, force=True)
    # What there is for training only.
    auxiliary = getattr(net, "aux_entropy_model", None) or torch.nn.Module()
    for module in auxiliary.modules():
        expected -= {key for key in expected if key[0] is module and key[1] not in WHEN_BUILT}
    built = set(seen)
    assert {key for key in expected if key[1] in WHEN_BUILT} <= built
    seen.clear()
    latents, decode = code(net)
    assert {key for key in expected if key[1] not in WHEN_BUILT | WHEN_DECODED} <= set(seen)
    seen.clear()
    decoded = decode()
    assert {key for key in expected if key[1] not in WHEN_BUILT | WHEN_CODED} <= set(seen)
    for found, latent in zip(decoded, latents):
        assert torch.equal(found, latent)
    if names == "values":
        assert any(bool(latent.round().any()) for latent in latents)
