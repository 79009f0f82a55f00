# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Variable-rate hyperprior models: one set of weights, any rate.

A gain multiplies the latent and its predicted distribution before coding, so it sets the step of
the quantiser. A small network shifts the decoded magnitudes to where the values lie on average,
another chooses the step of the side information. Stage 1 of all three models is the fixed-rate
model that they inherit from; stage 2 is the variable rate.

Source of all: Kamisli, Racapé, Choi 2024, "Variable-rate learned image compression with
multi-objective optimization and quantization-reconstruction offsets".
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn as nn
from torch import Tensor

from compressai.entropy_models import EntropyBottleneckVbr
from compressai.entropy_models.synchrony import DEFAULT_TOLERANCE
from compressai.latent_codecs._positions import ScanRate, concatenate
from compressai.latent_codecs.rasterscan import scan_compress, scan_decompress
from compressai.models._level_gains import LevelGains
from compressai.models.base import Strings, coding
from compressai.models.google import (
    JointAutoregressiveHierarchicalPriors,
    MeanScaleHyperprior,
    ScaleHyperprior,
)
from compressai.ops import LowerBound, quantize_ste
from compressai.registry import ModelEntry, register_entry, register_model

__all__ = [
    "JointAutoregressiveHierarchicalPriorsVbr",
    "MeanScaleHyperpriorVbr",
    "ScaleHyperpriorVbr",
]

_GAINS = (0.10000, 0.13944, 0.19293, 0.26874, 0.37268, 0.51801, 0.71957, 1.00000)


def _three_layers(inputs: int, hidden: int) -> tuple[nn.Module, ...]:
    return (
        nn.Linear(inputs, hidden),
        nn.ReLU(),
        nn.Linear(hidden, hidden),
        nn.ReLU(),
        nn.Linear(hidden, 1),
    )


def _is_variable(stage: int) -> bool:
    if stage not in (1, 2):
        raise ValueError(f"stage must be 1 (fixed rate) or 2 (variable rate), got {stage!r}")
    return stage == 2


@register_model("bmshj2018-hyperprior-vbr")
class ScaleHyperpriorVbr(LevelGains, ScaleHyperprior):
    """:class:`ScaleHyperprior` whose rate is chosen at each call.

    The gain of a call is entry ``s`` of the parameter ``Gain`` (8 levels, low to high rate), or
    ``inputscale`` if that is not 0: any gain between the levels gives a rate between theirs. The
    decoder needs the ``stage``, ``s`` and ``inputscale`` of the encoder; strings do not hold them.

    With ``vr_entbttlnck`` the side information has a step of its own for each gain, and the tables
    of its bottleneck should be built for the gain that is to be coded:
    ``net.update(force=True, scale=net.Gain[s])``, with the encoder and the decoder alike. As in
    CompressAI, :meth:`aux_loss` leaves this bottleneck out (it is 0 then): train its quantiles
    with ``net.entropy_bottleneck.loss()``, or solve for them with
    ``net.update(force=True, solve_quantiles=True)``.

    Args:
        N: channels of the transforms and of the side information ``z``.
        M: channels of the latent ``y``.
        vr_entbttlnck: quantise ``z`` with a variable step, too.
        kwargs: handed to :class:`CompressionModel`.

    Attributes:
        lmbda: Lagrangian multipliers (MSE) that the levels are trained for.
        levels: number of levels.
        no_quantoffset: set to ``True`` to decode to the centres of the quantiser's bins.

    Shape: as :class:`ScaleHyperprior`.

    Source: Kamisli, Racapé, Choi 2024, "Variable-rate learned image compression with
    multi-objective optimization and quantization-reconstruction offsets".
    """

    lmbda = (0.0018, 0.0035, 0.0067, 0.0130, 0.025, 0.0483, 0.0932, 0.18)
    levels = len(_GAINS)

    def __init__(self, N: int, M: int, vr_entbttlnck: bool = False, **kwargs: Any) -> None:
        super().__init__(N, M, **kwargs)
        self.no_quantoffset = False
        self.vr_entbttlnck = bool(vr_entbttlnck)
        self.Gain = nn.Parameter(torch.tensor(_GAINS))
        self.QuantABCD = nn.Sequential(*_three_layers(2, 12))
        if self.vr_entbttlnck:
            self.entropy_bottleneck = EntropyBottleneckVbr(N)
            self.gayn2zqstep = nn.Sequential(*_three_layers(1, 10), nn.Softplus())
            self.lower_bound_zqstep = LowerBound(0.5)

    @property
    def has_tables_by_level(self) -> bool:
        """Whether each level has tables of its own, which :meth:`update_for_level` builds."""
        return self.vr_entbttlnck

    def update_for_level(self, s: int) -> None:
        """Build the tables for the gain of a level.

        Args:
            s: the level, from 0.
        """
        self.update(force=True, scale=self.Gain[s].detach())

    # -- what follows from the gain ----------------------------------------------------------------

    def _z_step(self, gain: Tensor) -> Tensor | None:
        """Step of the side information, 0-dimensional; ``None`` if it is fixed."""
        if not self.vr_entbttlnck:
            return None
        return self.lower_bound_zqstep(self.gayn2zqstep(1 / gain.reshape(1)))[0]

    def _z_arguments(self, gain: Tensor) -> dict[str, Tensor]:
        step = self._z_step(gain)
        return {} if step is None else {"qs": step}

    def _dequantize_y(
        self, symbols: Tensor, scales: Tensor, means: Tensor | None, gain: Tensor
    ) -> Tensor:
        """Values of symbols; ``scales`` are those before the gain."""
        if not self.no_quantoffset:
            bounded = self.gaussian_conditional.lower_bound_scale(scales * gain)
            symbols = symbols + torch.sign(symbols) * _magnitude_offset(
                self.QuantABCD, bounded, gain
            )
        values = symbols / gain
        return values if means is None else values + means

    # -- training and evaluation -----------------------------------------------------------------

    def forward(
        self, x: Tensor, stage: int = 2, s: int = 1, inputscale: float | Tensor = 0
    ) -> dict[str, Any]:
        """Reconstruction and likelihoods.

        Args:
            x: ``(N, 3, H, W)`` in [0, 1].
            stage: 1 for the fixed rate, 2 for the variable rate.
            s: level, clamped to those that exist.
            inputscale: gain in place of ``Gain[s]``, unless it is 0. In training only the levels
                are used and this has no effect.

        Returns:
            ``{"x_hat", "likelihoods": {"y", "z"}}``; ``x_hat`` is not clamped.

        Raises:
            ValueError: unknown ``stage``, bad ``inputscale``, or the sides do not fit.
        """
        if not _is_variable(stage):
            return super().forward(x)
        gain = self._forward_gain(s, inputscale)
        y = self._latent(x)
        z_hat, z_likelihoods = self._forward_z(self._hyper_analysis(y), gain)
        y_hat, y_likelihoods = self._forward_y(y, z_hat, gain)
        return {
            "x_hat": self.g_s(y_hat),
            "likelihoods": {"y": y_likelihoods, "z": z_likelihoods},
        }

    def lagrangian_multiplier(self, s: int = 1, **arguments: Any) -> float:
        """As :meth:`CompressionModel.lagrangian_multiplier`; ``s`` as in :meth:`compress`."""
        return float(self.lmbda[max(0, min(int(s), self.levels - 1))])

    def quantizer_steps(
        self, s: int = 1, inputscale: float | Tensor = 0, **arguments: Any
    ) -> tuple[float | Tensor, float | Tensor]:
        """As :meth:`CompressionModel.quantizer_steps`; arguments as in :meth:`compress`."""
        return 1 / float(self._coding_gain(s, inputscale)), 1.0

    def _forward_z(self, z: Tensor, gain: Tensor) -> tuple[Tensor, Tensor]:
        step = self._z_arguments(gain)
        _, likelihoods = self.entropy_bottleneck(z, **step)
        medians = self.entropy_bottleneck._expanded_medians(1, z.dim() - 2)
        qs = step.get("qs", 1)
        # What is synthesised is rounded in training, too; noise is for the rate only.
        return quantize_ste((z - medians) / qs) * qs + medians, likelihoods

    def _forward_y(self, y: Tensor, z_hat: Tensor, gain: Tensor) -> tuple[Tensor, Tensor]:
        scales, means = self._scales_means(z_hat)
        scaled_means = None if means is None else means * gain
        _, likelihoods = self.gaussian_conditional(y * gain, scales * gain, means=scaled_means)
        symbols = quantize_ste((y if means is None else y - means) * gain)
        return self._dequantize_y(symbols, scales, means, gain), likelihoods

    # -- coding ----------------------------------------------------------------------------------

    @coding
    def compress(
        self,
        x: Tensor,
        stage: int = 2,
        s: int = 1,
        inputscale: float | Tensor = 0,
        *,
        sync_safe: bool = False,
        tolerance: float = DEFAULT_TOLERANCE,
        verify: bool = False,
    ) -> dict[str, Any]:
        """As :meth:`TransformCodingModel.compress`, at a rate.

        Args:
            stage: 1 for the fixed rate, 2 for the variable rate.
            s: level, from 0 (lowest rate) to 7.
            inputscale: gain in place of ``Gain[s]``, unless it is 0; a number or a tensor of one.
            x, sync_safe, tolerance, verify: as there.

        Raises:
            ValueError: as there, unknown ``stage`` or ``s``, or bad ``inputscale``.
        """
        code, _, setting = self._at_rate(stage, s, inputscale)
        return self._compress(x, code, sync_safe, tolerance, setting)

    @coding
    def decompress(
        self,
        strings: Strings,
        shape: Sequence[int],
        stage: int = 2,
        s: int = 1,
        inputscale: float | Tensor = 0,
        *,
        sync_safe: bool = False,
        latent_hash: Sequence[bytes] | None = None,
    ) -> dict[str, Tensor]:
        """As :meth:`TransformCodingModel.decompress`, with what :meth:`compress` got."""
        _, decode, _ = self._at_rate(stage, s, inputscale)
        return self._decompress(decode(strings, shape))

    def _at_rate(
        self, stage: int, s: int, inputscale: float | Tensor
    ) -> tuple[Callable[..., Any], Callable[..., Any], tuple[Any, ...]]:
        """What codes a latent at a rate, what decodes it, and what tells the rate from others."""
        if not _is_variable(stage):
            return self._code_latent, self._decode_latent, ()
        gain = self._coding_gain(s, inputscale)
        z_step = partial(self._z_arguments, gain)
        return (
            partial(self._code_latent, code_y=partial(self._code_with, gain), z_step=z_step),
            partial(self._decode_latent, decode_y=partial(self._decode_with, gain), z_step=z_step),
            (stage, float(gain)),
        )

    def _code_with(self, gain: Tensor, y: Tensor, params: Tensor) -> tuple[list[bytes], Tensor]:
        scales, means = self._split_parameters(params)
        residual = y * gain if means is None else y * gain - means * gain
        correct = partial(self._dequantize_y, scales=scales, means=means, gain=gain)
        return self.gaussian_conditional.code(residual, scales * gain, correct=correct)

    def _decode_with(
        self, gain: Tensor, strings: Sequence[bytes], params: Tensor
    ) -> tuple[Tensor, Tensor]:
        scales, means = self._split_parameters(params)
        correct = partial(self._dequantize_y, scales=scales, means=means, gain=gain)
        out = self.gaussian_conditional.decode(strings, scales * gain, correct=correct)
        return out["y_hat"], out.get("y_fine", out["y_hat"])

    def update(
        self,
        scale_table: Sequence[float] | Tensor | None = None,
        force: bool = False,
        scale: float | Tensor | None = None,
        update_quantiles: bool = False,
        solve_quantiles: bool = False,
    ) -> bool:
        """Build the tables of all entropy models; see :meth:`CompressionModel.update`.

        Args:
            scale_table, force, update_quantiles, solve_quantiles: as there.
            scale: gain whose step a bottleneck with variable step gets its tables for; ``None``
                takes step 1. A bottleneck with fixed step needs and uses none.

        Returns:
            Whether any table was built.
        """
        solve = update_quantiles or solve_quantiles
        updated = super().update(scale_table, force, solve_quantiles=solve)
        if self.vr_entbttlnck:
            step: float | Tensor = 1.0
            if scale is not None:
                with torch.no_grad():
                    step = self._z_step(torch.as_tensor(scale).to(self.Gain))
            updated |= self.entropy_bottleneck.update_variable(force, step, solve)
        return updated

    # -- weights ---------------------------------------------------------------------------------

    @classmethod
    def from_state_dict(
        cls, state_dict: Mapping[str, Any], vr_entbttlnck: bool | None = None
    ) -> ScaleHyperpriorVbr:
        """Build a model of the size that a state dict has, and load it.

        Args:
            state_dict: weights, or a checkpoint that holds them. The entry ``QuantOffset`` of
                earlier releases is left out.
            vr_entbttlnck: whether the bottleneck has a variable step; by default the weights tell.

        Returns:
            The model.

        Raises:
            ValueError: the weights are of another model.
            RuntimeError: they are of the other kind of bottleneck.
        """
        told = {} if vr_entbttlnck is None else {"vr_entbttlnck": vr_entbttlnck}
        return super().from_state_dict(state_dict, **told)

    @classmethod
    def infer_arguments(cls, state_dict: Mapping[str, Tensor]) -> dict[str, Any]:
        variable = "gayn2zqstep.0.weight" in state_dict
        return {**super().infer_arguments(state_dict), "vr_entbttlnck": variable}

    @classmethod
    def _native(cls, state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
        state_dict.pop("QuantOffset", None)
        return state_dict


@register_model("mbt2018-mean-vbr")
class MeanScaleHyperpriorVbr(ScaleHyperpriorVbr, MeanScaleHyperprior):
    """:class:`MeanScaleHyperprior` whose rate is chosen at each call.

    Args:
        N: channels of the transforms and of ``z``.
        M: channels of the latent ``y``.
        vr_entbttlnck, kwargs: as in :class:`ScaleHyperpriorVbr`, which says all else.

    Source: Kamisli, Racapé, Choi 2024, "Variable-rate learned image compression with
    multi-objective optimization and quantization-reconstruction offsets".
    """

    def __init__(
        self, N: int = 192, M: int = 320, vr_entbttlnck: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(N, M, vr_entbttlnck, **kwargs)


@register_model("mbt2018-vbr")
class JointAutoregressiveHierarchicalPriorsVbr(
    ScaleHyperpriorVbr, JointAutoregressiveHierarchicalPriors
):
    """:class:`JointAutoregressiveHierarchicalPriors` whose rate is chosen at each call.

    See :class:`ScaleHyperpriorVbr`. The context sees the gain, the step of ``z`` is fixed. In
    stage 2, :meth:`forward` takes its context from the values that the decoder will see. In stage
    1 the coder still multiplies scales by the gain of ``s`` or ``inputscale`` to choose table
    rows, as in CompressAI, whose strings must be read.

    Args:
        N: channels of the transforms and of ``z``.
        M: channels of the latent ``y``.
        kwargs: handed to :class:`CompressionModel`.

    Attributes:
        scl2ctx: set to ``False`` to hide the gain from the context.
        ste_recursive: must be true; other ways to train are not there.

    Source: Kamisli, Racapé, Choi 2024, "Variable-rate learned image compression with
    multi-objective optimization and quantization-reconstruction offsets".
    """

    def __init__(self, N: int = 192, M: int = 320, **kwargs: Any) -> None:
        super().__init__(N, M, vr_entbttlnck=False, **kwargs)
        self.ste_recursive = True
        self.scl2ctx = True
        self.scale_to_context = nn.Linear(1, 2 * M)

    def _forward_y(self, y: Tensor, z_hat: Tensor, gain: Tensor) -> tuple[Tensor, Tensor]:
        if not self.ste_recursive:
            raise ValueError("ste_recursive must be true, got False")
        params = self.h_s(z_hat)
        with torch.no_grad():
            decoded = self._decoded_values(y, params, gain)
        # With rounding taken for the identity, a decoded value follows y and (but for the
        # reconstruction offset's dependence on the scale, left out here) nothing else.
        scales, means = self._predict(decoded + (y - y.detach()), params, gain)
        residual = (y - means) * gain
        _, likelihoods = self.gaussian_conditional(residual, scales * gain)
        return self._dequantize_y(quantize_ste(residual), scales, means, gain), likelihoods

    def _decoded_values(self, y: Tensor, params: Tensor, gain: Tensor) -> Tensor:
        """What the scan of the coder gives, without a scan.

        All positions are predicted at once from the values of the pass before. A position is right
        one pass after all that it depends on, so the passes end; mostly nothing changes after the
        first few (Song et al. 2021, "Accelerating feedforward computation via parallel nonlinear
        equation solving").
        """
        height, width = y.shape[-2:]
        reach = self.context_prediction.kernel_size[0] // 2
        y_hat = y
        for _ in range(width + (reach + 1) * (height - 1)):
            before = y_hat
            scales, means = self._predict(before, params, gain)
            y_hat = self._dequantize_y(torch.round((y - means) * gain), scales, means, gain)
            # Far below a step of the quantiser: all symbols stay, only the last digits still move.
            if torch.allclose(y_hat, before, rtol=1e-6, atol=1e-5):
                break
        return y_hat

    def _predict(self, y_hat: Tensor, params: Tensor, gain: Tensor) -> tuple[Tensor, Tensor]:
        context = self.context_prediction(y_hat)
        if self.scl2ctx:
            context = context + self.scale_to_context(gain.reshape(1))[:, None, None]
        scales, means = self.entropy_parameters(concatenate(params, context)).chunk(2, 1)
        return scales, means

    def _at_rate(
        self, stage: int, s: int, inputscale: float | Tensor
    ) -> tuple[Callable[..., Any], Callable[..., Any], tuple[Any, ...]]:
        gain = self._coding_gain(s, inputscale)
        rate = self._scan_rate(stage, gain)
        return (
            partial(self._code_latent, code_y=partial(scan_compress, self, rate=rate)),
            partial(self._decode_latent, decode_y=partial(scan_decompress, self, rate=rate)),
            (stage, float(gain)),
        )

    def _scan_rate(self, stage: int, gain: Tensor) -> ScanRate:
        value = float(gain)
        if not _is_variable(stage):
            return ScanRate(index_scale=value)
        context = self.scale_to_context(gain.reshape(1)) if self.scl2ctx else None
        network, cpu_gain = self.QuantABCD, gain.cpu().float()
        weight = network[0].weight
        if weight.device.type != "cpu" or weight.dtype != torch.float32:
            network = copy.deepcopy(network).cpu().float()
        return ScanRate(
            index_scale=value,
            gain=value,
            context_offset=None if context is None else context.detach().cpu().float(),
            reconstruction_offset=None
            if self.no_quantoffset
            else lambda scales: _magnitude_offset(network, scales, cpu_gain),
        )

    @classmethod
    def infer_arguments(cls, state_dict: Mapping[str, Tensor]) -> dict[str, Any]:
        arguments = super().infer_arguments(state_dict)
        del arguments["vr_entbttlnck"]
        return arguments


def _magnitude_offset(network: nn.Module, scales: Tensor, gain: Tensor) -> Tensor:
    """What to add to the magnitudes of symbols other than 0: ``-network([scale, gain])``."""
    inputs = torch.stack((scales, gain.expand_as(scales)), dim=-1)
    # Past its hooks: what synchronised coding guards are the networks that predict distributions.
    return -network.forward(inputs).squeeze(-1)


# -- rows --------------------------------------------------------------------------------------

_PAPER = (
    "Kamisli et al. 2024, Variable-rate learned image compression with multi-objective "
    "optimization and quantization-reconstruction offsets"
)


def _register(name: str, model: type[nn.Module], summary: str, weights: str) -> None:
    register_entry(
        ModelEntry(
            name=name,
            model=model,
            summary=summary,
            paper=_PAPER,
            arguments={"N": 192, "M": 320},
            metrics=("mse",),
            weights={"mse": {"-": weights}},
            licence="BSD-3-Clause-Clear",
            small={"N": 4, "M": 6},
        )
    )


_register(
    "bmshj2018-hyperprior-vbr",
    ScaleHyperpriorVbr,
    "Scale hyperprior of variable rate",
    "bmshj2018-hyperprior-mse-vbr-cddd26be.pth.tar",
)
_register(
    "mbt2018-mean-vbr",
    MeanScaleHyperpriorVbr,
    "Mean-scale hyperprior of variable rate",
    "mbt2018-mean-mse-vbr-45d095e9.pth.tar",
)
_register(
    "mbt2018-vbr",
    JointAutoregressiveHierarchicalPriorsVbr,
    "Hyperprior with autoregressive context, of variable rate",
    "mbt2018-mse-vbr-f12581a1.pth.tar",
)
