# SPDX-License-Identifier: BSD-3-Clause-Clear
"""How a model codes, as the data of a bundle."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import nn

from compressai.entropy_models import EntropyBottleneck, GaussianConditional
from compressai.inference._bundle_networks import (
    Correction,
    Function,
    HyperAnalysis,
    Leaf,
    LevelCorrection,
    LevelParameters,
    Parameters,
    Slice,
)
from compressai.inference.transforms import probe_image
from compressai.latent_codecs import (
    ChannelGroupsLatentCodec,
    EntropyBottleneckLatentCodec,
    GainHyperpriorLatentCodec,
    GaussianConditionalLatentCodec,
    HierarchicalProgressiveLatentCodec,
    HyperLatentCodec,
    HyperpriorLatentCodec,
    LRPGaussianLatentCodec,
    MambaICLatentCodec,
    RasterScanLatentCodec,
)
from compressai.latent_codecs.checkerboard import TwoPassLatentCodec
from compressai.layers.ssm import SS2D
from compressai.models import CompressionModel
from compressai.models.base import SimpleVAECompressionModel
from compressai.models.google import FactorizedPrior, ScaleHyperprior
from compressai.models.vbr import ScaleHyperpriorVbr
from compressai.runtime.rates import Rates

__all__ = ["Network", "Plan"]

_WHOLE_MAPS = "and a step of a bundle codes all positions of its channels at once"
_POSITIONS = f"it codes position by position, {_WHOLE_MAPS}"
# What codes some positions of a map in the context of others.
_SPATIAL = (
    TwoPassLatentCodec,
    RasterScanLatentCodec,
    HierarchicalProgressiveLatentCodec,
    MambaICLatentCodec,
)


@dataclass(frozen=True)
class Network:
    """A network of the plan: from values by name to values by name."""

    module: nn.Module
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass
class Plan:
    """How a model codes, as data.

    Raises:
        ValueError: there are no words for it.
    """

    net: CompressionModel
    networks: dict[str, Network] = field(default_factory=dict)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    tables: dict[str, Any] = field(default_factory=dict)
    latents: dict[str, Any] = field(default_factory=dict)
    analysis: list[dict[str, Any]] = field(default_factory=list)
    coding: list[dict[str, Any]] = field(default_factory=list)
    synthesis: list[dict[str, Any]] = field(default_factory=list)
    strings: int = 0
    exact: bool = False
    rate: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        net = self.net
        self.exact = not net.needs_synchrony
        scans = [name for name, module in net.named_modules() if isinstance(module, SS2D)]
        if scans:
            raise _no_words(net, f"ONNX has no operator for selective scans, as in {scans[0]}")
        if isinstance(net, ScaleHyperpriorVbr):
            self.levels(net)
            self.run(self.synthesis, "g_s", net.g_s, ["y_fine"], ["x_hat"])
            return
        if net.rate_gains() and _codes_like(net, _definer(net, "rate_gains")):
            self.run(self.analysis, "g_a", net.g_a, ["x"], ["y_plain"])
            fine = self.gained(net, net.latent_codec)
            self.run(self.synthesis, "g_s", net.g_s, [fine], ["x_hat"])
            return
        self.run(self.analysis, "g_a", net.g_a, ["x"], ["y"])
        if _codes_like(net, FactorizedPrior):
            self.factorized("y", net.entropy_bottleneck, "y_hat")
            fine = "y_hat"
        elif _codes_like(net, ScaleHyperprior):
            if type(net)._code_y is not ScaleHyperprior._code_y:
                raise _no_words(net, _POSITIONS)
            fine = self.scale_hyperprior(net)
        elif _codes_like(net, SimpleVAECompressionModel) and isinstance(
            net.latent_codec, HyperpriorLatentCodec
        ):
            fine = self.hyperprior(net, net.latent_codec)
        else:
            raise _no_words(net, "its class codes in a way of its own")
        self.run(self.synthesis, "g_s", net.g_s, [fine], ["x_hat"])

    def run(
        self,
        steps: list[dict[str, Any]],
        name: str,
        module: nn.Module | Callable[..., Any],
        inputs: Sequence[str],
        outputs: Sequence[str],
    ) -> None:
        """Append a network to steps."""
        if not isinstance(module, nn.Module):
            module = Function(self.net, module)
        self.networks[name] = Network(module, tuple(inputs), tuple(outputs))
        steps.append({"op": "run", "network": name})

    def factorized(self, latent: str, bottleneck: EntropyBottleneck, output: str) -> None:
        """Append the coding of a latent with a factorized prior."""
        self.arrays[f"{latent}.medians"] = bottleneck.quantiles[:, 0, 1].detach().numpy().copy()
        self.tables[latent] = self._table(latent, _native(bottleneck))
        self.coding.append(
            {
                "op": "factorized",
                "latent": latent,
                "string": self._next_string(),
                "table": latent,
                "medians": f"{latent}.medians",
                "output": output,
            }
        )

    def scale_hyperprior(self, net: ScaleHyperprior) -> str:
        self.run(self.analysis, "h_a", HyperAnalysis(net), ["y"], ["z"])
        self.factorized("z", net.entropy_bottleneck, "z_hat")
        has_means = net._split_parameters(torch.zeros(1, 2, 1, 1))[1] is not None
        outputs = ["scales", "means"] if has_means else ["scales"]
        self.run(self.coding, "h_s", Parameters(net), ["z_hat"], outputs)
        self.gaussian(net.gaussian_conditional, outputs, output="y_hat", fine="y_fine")
        return "y_fine"

    def levels(self, net: ScaleHyperpriorVbr) -> None:
        """Append the coding with a gain for each level; see :class:`ScaleHyperpriorVbr`."""
        own = ("_at_rate", "_code_with", "_decode_with")
        if not _codes_like(net, ScaleHyperpriorVbr, own):
            raise _no_words(net, _POSITIONS)
        if net.has_tables_by_level:
            raise _no_words(net, "each of its levels has tables and a fingerprint of its own")
        levels = net.levels
        self.rate = {"low": 1, "high": levels, "default": levels, "whole": True, "factors": {}}
        gains = torch.stack([net._level_gain(s) for s in range(levels)])[:, None]
        for name, channels in (("y_gain", net.M), ("gain", 1)):
            self.arrays[f"{name}.values"] = gains.expand(-1, channels).numpy().copy()
            self.rate["factors"][name] = {"values": f"{name}.values"}
        self.run(self.analysis, "g_a", net.g_a, ["x"], ["y_plain"])
        self.run(self.analysis, "h_a", HyperAnalysis(net), ["y_plain"], ["z"])
        self.scale(self.analysis, "y_plain", "y_gain", "y")
        self.factorized("z", net.entropy_bottleneck, "z_hat")
        has_means = net._split_parameters(torch.zeros(1, 2, 1, 1))[1] is not None
        predicted = ["scales", "means"] if has_means else ["scales"]
        plain = [f"{name}_plain" for name in predicted]
        self.run(self.coding, "h_s", LevelParameters(net), ["z_hat"], [*plain, "one"])
        for value, output in zip(plain, predicted):
            self.scale(self.coding, value, "y_gain", output)
        self.scale(self.coding, "one", "gain", "gain")
        self.concatenate([*plain, "gain"], "params")
        conditional = net.gaussian_conditional
        how = {"output": "y_hat", "fine": "y_fine", "correction": "correction"}
        self.gaussian(conditional, predicted, **how)
        inputs = ("params", "values")
        self.networks["correction"] = Network(LevelCorrection(net), inputs, ("corrected",))

    def hyperprior(self, net: CompressionModel, codec: HyperpriorLatentCodec) -> str:
        # Of what is refused, this is the better reason.
        _check_positions(net, codec.y)
        side = codec.hyper if codec._side == "hyper" else codec.z
        hyper = side if isinstance(side, HyperLatentCodec) else codec
        if not isinstance(side, (HyperLatentCodec, EntropyBottleneckLatentCodec)):
            raise _no_words(net, f"its side information is coded by {type(side).__name__}")
        self.run(self.analysis, "h_a", hyper.h_a, ["y"], ["z"])
        self.factorized("z", side.entropy_bottleneck, "z_hat")
        self.run(self.coding, "h_s", hyper.h_s, ["z_hat"], ["side"])
        if isinstance(codec.y, ChannelGroupsLatentCodec):
            return self.slices(net, codec.y)
        self.leaf(net, codec.y, Leaf(codec.y), "", ["side"])
        return "y_fine"

    def gained(self, net: CompressionModel, codec: nn.Module) -> str:
        """Append the coding at any rate: as :meth:`hyperprior`, with factors around latents."""
        if not isinstance(codec, GainHyperpriorLatentCodec):
            raise _no_words(net, f"its gains are for {type(codec).__name__}")
        low, high = net.quality_range
        self.rate = {"low": low, "high": high, "default": net.default_quality, "factors": {}}
        for name, gains in net.rate_gains().items():
            arrays = {"middle": gains.middle, "steps": gains.steps}
            self.arrays |= {f"{name}.{k}": v.detach().numpy().copy() for k, v in arrays.items()}
            told = {key: f"{name}.{key}" for key in arrays}
            self.rate["factors"][name] = {
                **told,
                "falls": gains.sign < 0,
                "digits": gains.digits,
            }
        self.scale(self.analysis, "y_plain", "y_gain", "y")
        self.run(self.analysis, "h_a", codec.hyper.h_a, ["y_plain"], ["z_plain"])
        self.scale(self.analysis, "z_plain", "z_gain", "z")
        self.factorized("z", codec.hyper.entropy_bottleneck, "z_units")
        self.scale(self.coding, "z_units", "z_gain_inv", "z_hat")
        if codec.hyper.limit is not None:
            self.coding[-1]["limit"] = codec.hyper.limit
        self.run(self.coding, "h_s", codec.hyper.h_s, ["z_hat"], ["side"])
        self.slices(net, codec.y, ("y_units", "y_units_fine"))
        self.scale(self.coding, "y_units", "y_gain_inv", "y_hat")
        self.scale(self.synthesis, "y_units_fine", "y_gain_inv", "y_fine")
        return "y_fine"

    def scale(self, steps: list[dict[str, Any]], value: str, factor: str, output: str) -> None:
        """Append the multiplication of each channel by a factor that the quality tells."""
        steps.append({"op": "scale", "input": value, "factor": factor, "output": output})

    def concatenate(self, parts: Sequence[str], output: str) -> None:
        """Append the joining of values along their channels."""
        self.coding.append({"op": "concatenate", "inputs": list(parts), "output": output})

    def slices(
        self,
        net: CompressionModel,
        codec: ChannelGroupsLatentCodec,
        joined: Sequence[str] = ("y_hat", "y_fine"),
    ) -> str:
        count = len(codec.groups)
        for k in range(count):
            # What it selects is told by the very list that it gets.
            earlier = [torch.empty(0) for _ in range(k)]
            chosen = codec._select_support(k, earlier)
            seen = [i for i in range(k) if any(earlier[i] is one for one in chosen)]
            begin, end = codec.groups_acc[k : k + 2]
            inputs = ["side", *(f"y_hat_{i}" for i in seen)]
            leaf = codec.latent_codec[f"y{k}"]
            self.leaf(net, leaf, Slice(codec, k, seen), f"_{k}", inputs, (begin, end))
        for name, output in zip(("y_hat", "y_fine"), joined):
            self.concatenate([f"{name}_{k}" for k in range(count)], output)
        return joined[1]

    def leaf(
        self,
        net: CompressionModel,
        codec: nn.Module,
        context: nn.Module,
        suffix: str,
        inputs: Sequence[str],
        channels: tuple[int, int] | None = None,
    ) -> None:
        """Append a leaf codec: its context, and the coding with what that predicts."""
        _check_positions(net, codec)
        if not isinstance(codec, GaussianConditionalLatentCodec):
            raise _no_words(net, f"its latent is coded by {type(codec).__name__}")
        names = [f"scales{suffix}"]
        if "means" in codec.chunks:
            names.append(f"means{suffix}")
        corrects = isinstance(codec, LRPGaussianLatentCodec)
        outputs = [*names, *([f"params{suffix}"] if corrects else [])]
        self.run(self.coding, f"context{suffix}", context, inputs, outputs)
        correction = f"correction{suffix}" if corrects else None
        self.gaussian(
            codec.gaussian_conditional,
            names,
            output=f"y_hat{suffix}",
            fine=f"y_fine{suffix}",
            channels=channels,
            correction=correction,
            dead_zone=codec.dead_zone,
        )
        if correction:
            self.networks[correction] = Network(
                Correction(codec),
                (f"params{suffix}", f"values{suffix}"),
                (f"corrected{suffix}",),
            )

    def gaussian(
        self,
        conditional: GaussianConditional,
        predicted: Sequence[str],
        *,
        output: str,
        fine: str,
        channels: tuple[int, int] | None = None,
        correction: str | None = None,
        dead_zone: float = 0.0,
    ) -> None:
        """Append the coding of a latent, or some of its channels, with predicted scales."""
        if type(conditional) is not GaussianConditional:
            raise _no_words(self.net, f"{type(conditional).__name__} is not the plain one")
        scales, *means = predicted
        self.coding.append(
            {
                "op": "gaussian",
                "latent": "y",
                "channels": None if channels is None else list(channels),
                "string": self._next_string(),
                "table": self._gaussian_table(conditional),
                "scales": scales,
                "means": means[0] if means else None,
                "correction": correction,
                **({"dead_zone": dead_zone} if dead_zone else {}),
                "gains": None if self.exact else self._gains(),
                "output": output,
                "fine": fine,
            }
        )

    def _next_string(self) -> int:
        self.strings += 1
        return self.strings - 1

    def _gains(self) -> dict[str, str | None]:
        """Arrays of what the next latent's deviations can be, over those of one network."""
        number = sum(name.endswith(".gain_scales") for name in self.arrays)
        found = [gains[number] for gains in self._gains_by_node]
        names: dict[str, str | None] = {"scales": None, "values": None}
        for key in names:
            rows = [getattr(gain, key) for gain in found]
            if rows[0] is not None:
                names[key] = f"y_{number}.gain_{key}"
                array = np.stack([row.numpy() for row in rows])
                self.arrays[names[key]] = array if self.rate else array[0]
        return names

    @cached_property
    def _gains_by_node(self) -> list[Any]:
        """Gains of all latents; for each quality at which factors are learned, else once."""
        settings: list[dict[str, Any]] = [{}]
        if self.rate is not None:
            rates = Rates(self.rate, self.arrays)
            settings = [
                {"s": round(node) - 1} if rates.whole else {"quality": node} for node in rates.nodes
            ]
        found = []
        for setting in settings:
            self.net.compress(probe_image(self.net), sync_safe=True, **setting)
            assert self.net._sync_gains is not None
            found.append(self.net._sync_gains[2])
        return found

    def _gaussian_table(self, conditional: GaussianConditional) -> str:
        prepared = conditional._scales()
        arrays = {**_native(conditional), "scales": prepared.table, "levels": prepared.levels[0]}
        for name, table in self.tables.items():
            # Slices have one table, as a rule.
            if table.keys() >= arrays.keys() and all(
                np.array_equal(self.arrays[table[key]], array) for key, array in arrays.items()
            ):
                return name
        name = "y" if "y" not in self.tables else f"y_{len(self.tables)}"
        self.tables[name] = {**self._table(name, arrays), "first": prepared.first}
        return name

    def _table(self, name: str, arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """Keep arrays of a table, and give their names."""
        self.arrays.update({f"{name}.{key}": np.array(array) for key, array in arrays.items()})
        return {key: f"{name}.{key}" for key in arrays}


def _native(model: Any) -> dict[str, np.ndarray]:
    """The tables of an entropy model."""
    return {
        "cdfs": model._quantized_cdf.to(torch.int32).numpy().copy(),
        "lengths": model._cdf_length.to(torch.int32).reshape(-1).numpy().copy(),
        "offsets": model._offset.to(torch.int32).reshape(-1).numpy().copy(),
    }


def _definer(net: nn.Module, name: str) -> type:
    """The class that a method of a model is of."""
    return next(each for each in type(net).__mro__ if name in vars(each))


def _codes_like(net: nn.Module, family: type, own: Sequence[str] = ()) -> bool:
    """Whether a model is of a family and its class codes as that does, by these methods, too."""
    names = ("compress", "decompress", "_code_latent", "_decode_latent", *own)
    return isinstance(net, family) and all(
        getattr(type(net), name) is getattr(family, name) for name in names
    )


def _check_positions(net: nn.Module, codec: nn.Module) -> None:
    """Refuse a codec of a latent that sees other positions: ValueError."""
    if isinstance(codec, _SPATIAL):
        told = f"its {type(codec).__name__} codes positions in the context of others"
        raise _no_words(net, f"{told}, {_WHOLE_MAPS}")


def _no_words(net: nn.Module, why: str) -> ValueError:
    return ValueError(
        f"{type(net).__name__} cannot be written as a bundle: {why}; bundles are for factorized "
        "priors, hyperpriors without spatial context, and slices with a Gaussian each"
    )
