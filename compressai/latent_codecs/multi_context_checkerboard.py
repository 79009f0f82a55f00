# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Latent codec of two passes over a checkerboard, each with contexts and networks of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn as nn
from torch import Tensor

from compressai.entropy_models import GaussianConditional
from compressai.entropy_models.session import active_coder
from compressai.latent_codecs.checkerboard import TwoPassLatentCodec
from compressai.latent_codecs.gaussian_conditional import GaussianConditionalLatentCodec
from compressai.ops import quantize_ste
from compressai.registry import register_module

__all__ = ["MultiContextCheckerboardLatentCodec"]

_STEPS = ("anchor", "non_anchor")
_SELECTED = 0.5

LRPInputBuilder = Callable[[Tensor, Tensor, Tensor], Tensor]


def _decided(selected: Tensor) -> Tensor:
    return selected if selected.dtype == torch.bool else selected >= _SELECTED


def _with_share(selected: Tensor, out: Tensor, slope: Tensor) -> Tensor:
    """The same values, as if they rose with the number that decided by this much."""
    if selected.dtype == torch.bool:
        return out
    return out + (selected - selected.detach()) * slope.detach()


def _chosen(selected: Tensor, values: Tensor, means: Tensor) -> Tensor:
    """Values where they are selected, else means."""
    out = torch.where(_decided(selected), values, means)
    return _with_share(selected, out, values - means)


def _coded_likelihoods(selected: Tensor, likelihoods: Tensor) -> Tensor:
    """Likelihoods where values are selected, else 1.

    As a share, it is the exponent of the likelihood, and so a factor of the bits.
    """
    out = torch.where(_decided(selected), likelihoods, torch.ones_like(likelihoods))
    # No likelihood is zero but for an entropy model without a bound.
    logarithm = likelihoods.clamp_min(torch.finfo(likelihoods.dtype).tiny).log()
    return _with_share(selected, out, out * logarithm)


@register_module("MultiContextCheckerboardLatentCodec")
class MultiContextCheckerboardLatentCodec(TwoPassLatentCodec):
    """Anchors first, then the rest in their context, with networks for each of the two.

    The head of a step gets ``[spatial context | side information | intra-channel context]``; a
    context that is ``None`` is left out. Heads must be pointwise: they run on maps of half the
    width. All other networks see whole maps, with zeros where nothing is known.

    Args:
        entropy_parameters_anchor: head of the anchors, to ``[scales | means]``.
        entropy_parameters_nonanchor: head of the rest.
        latent_codec: ``{"y": codec}`` that knows scales and means; ``None`` builds a
            :class:`~compressai.latent_codecs.GaussianConditionalLatentCodec`.
        scale_table, gaussian_conditional: arguments of that one.
        spatial_context_anchor: network of a map of zeros.
        spatial_context_nonanchor: network of the anchors. A spatial context with a true attribute
            ``requires_side_params`` gets the side information as ``side_params``, too.
        intra_channel_context_nonanchor: network of side information and anchors.
        selective_predictor: tells where values are coded. It is called with ``side_params``,
            ``scales``, ``means`` and ``step`` (``"anchor"`` or ``"non_anchor"``), and gives a map,
            or ``{"selective_map": map}``, of booleans, or of numbers of which 0.5 and more count
            as true. Elsewhere the mean stands for the value, at no cost. In synchronised coding
            all values are coded, for a selection is not the same on all machines. In training,
            numbers get the gradient that they had if they were shares: of the value against the
            mean, and of the bits (a straight-through estimator; the values do not change).
        lrp_anchor, lrp_nonanchor: networks that predict the rounding error.
        lrp_input_builder: ``(side information, [scales | means] of the step, y_hat) -> input`` of
            these; ``None`` gives ``[side information | y_hat]``.
        lrp_activation: what bounds a predicted error; ``None`` if the network does.
        lrp_scale: what it is multiplied by then.
        anchor_parity: anchors are the positions where row + column is ``"even"`` or ``"odd"``.
        quantizer: only ``"ste"``: values are rounded around the means with the gradient of the
            identity.
        kwargs: arguments of the inner codec that is built.

    Raises:
        ValueError: another ``anchor_parity`` or ``quantizer``, or keys of ``latent_codec`` other
            than ``"y"``.

    Source: Jiang et al. 2023, "MLIC: multi-reference entropy model for learned image compression".
    """

    def __init__(
        self,
        *,
        entropy_parameters_anchor: nn.Module,
        entropy_parameters_nonanchor: nn.Module,
        latent_codec: Mapping[str, nn.Module] | None = None,
        scale_table: list[float] | tuple[float, ...] | None = None,
        gaussian_conditional: GaussianConditional | None = None,
        spatial_context_anchor: nn.Module | None = None,
        spatial_context_nonanchor: nn.Module | None = None,
        intra_channel_context_nonanchor: nn.Module | None = None,
        selective_predictor: nn.Module | None = None,
        lrp_anchor: nn.Module | None = None,
        lrp_nonanchor: nn.Module | None = None,
        lrp_input_builder: LRPInputBuilder | None = None,
        lrp_activation: Callable[[Tensor], Tensor] | None = torch.tanh,
        lrp_scale: float = 0.5,
        anchor_parity: str = "even",
        quantizer: str = "ste",
        **kwargs: Any,
    ) -> None:
        super().__init__()
        if anchor_parity not in ("even", "odd"):
            raise ValueError(f"anchor_parity must be 'even' or 'odd', got {anchor_parity!r}")
        if quantizer != "ste":
            raise ValueError(f"quantizer must be 'ste', got {quantizer!r}")
        if latent_codec is None:
            latent_codec = {
                "y": GaussianConditionalLatentCodec(scale_table, gaussian_conditional, **kwargs)
            }
        elif set(latent_codec) != {"y"}:
            raise ValueError(f"latent_codec must have the key 'y' only, got {sorted(latent_codec)}")
        self.anchor_parity = anchor_parity
        self.quantizer = quantizer
        self.entropy_parameters_anchor = entropy_parameters_anchor
        self.entropy_parameters_nonanchor = entropy_parameters_nonanchor
        self.spatial_context_anchor = spatial_context_anchor
        self.spatial_context_nonanchor = spatial_context_nonanchor
        self.intra_channel_context_nonanchor = intra_channel_context_nonanchor
        self.selective_predictor = selective_predictor
        self.lrp_anchor = lrp_anchor
        self.lrp_nonanchor = lrp_nonanchor
        self.lrp_input_builder = lrp_input_builder
        self.lrp_activation = lrp_activation
        self.lrp_scale = float(lrp_scale)
        self.y = latent_codec["y"]

    def forward(self, y: Tensor, side_params: Tensor) -> dict[str, Any]:
        """Likelihoods and reconstruction.

        Args:
            y: ``(N, C, H, W)`` with even ``W``.
            side_params: side information ``(N, D, H, W)``.

        Returns:
            ``{"likelihoods": {"y"}, "y_hat"}``.

        Raises:
            ValueError: odd width.
        """
        y_halves = self.unembed(y)
        anchors = torch.zeros_like(y)
        params, halves, selections = [], [], []
        for step, values in enumerate(y_halves):
            params.append(self._params(step, side_params, anchors))
            scales, means = params[step].chunk(2, dim=1)
            quantised = quantize_ste(values - means) + means
            selections.append(self._selection(step, side_params, scales, means))
            halves.append(
                self._corrected(step, side_params, params[step], anchors, selections[step])(
                    quantised
                )
            )
            anchors = self.placed(0, halves[0])
        likelihoods = self.y(y, self.embed(torch.stack(params)))["likelihoods"]["y"]
        if self.selective_predictor is not None:
            coded = self.embed(torch.stack(selections))
            likelihoods = _coded_likelihoods(coded, likelihoods)
        return {
            "likelihoods": {"y": likelihoods},
            "y_hat": self.embed(torch.stack(halves)),
        }

    def _code_half(
        self, step: int, values: Tensor, side_params: Tensor, known: Tensor
    ) -> dict[str, Any]:
        scales, means, selected, correct = self._half(step, side_params, known)
        if selected is None:
            strings, y_hat = self._conditional.code(values, scales, means, correct)
        else:
            strings, y_hat = self._code_selected(values, scales, means, selected)
            y_hat = correct(y_hat)
        return {"strings": strings, "y_hat": y_hat}

    def _decode_half(
        self, step: int, strings: Sequence[bytes], side_params: Tensor, known: Tensor
    ) -> dict[str, Tensor]:
        scales, means, selected, correct = self._half(step, side_params, known)
        if selected is None:
            return self._conditional.decode(strings, scales, means, correct)
        return {"y_hat": correct(self._decode_selected(strings, scales, means, selected))}

    # -- steps ----------------------------------------------------------------------------------

    @property
    def _conditional(self) -> GaussianConditional:
        return self.y.gaussian_conditional

    def _half(
        self, step: int, side_params: Tensor, known: Tensor
    ) -> tuple[Tensor, Tensor, Tensor | None, Callable[[Tensor], Tensor]]:
        """Scales, means, where values are coded, and what corrects them, for coding a half."""
        params = self._params(step, side_params, known)
        scales, means = params.chunk(2, dim=1)
        # In synchrony all are coded.
        in_synchrony = active_coder() is not None
        selected = None if in_synchrony else self._selection(step, side_params, scales, means)
        selected = None if selected is None else _decided(selected)
        return scales, means, selected, self._corrected(step, side_params, params, known, selected)

    def _params(self, step: int, side_params: Tensor, anchors: Tensor) -> Tensor:
        """``[scales | means]`` of a half. Anchors are those decoded, zeros before."""
        spatial, intra, head = (
            (self.spatial_context_anchor, None, self.entropy_parameters_anchor),
            (
                self.spatial_context_nonanchor,
                self.intra_channel_context_nonanchor,
                self.entropy_parameters_nonanchor,
            ),
        )[step]
        parts = [side_params]
        if spatial is not None:
            side = getattr(spatial, "requires_side_params", False)
            extra = {"side_params": side_params} if side else {}
            parts.insert(0, spatial(anchors, **extra))
        if intra is not None:
            parts.append(intra(side_params, anchors))
        return head(self.unembed(torch.cat(parts, dim=1))[step])

    def _corrected(
        self,
        step: int,
        side_params: Tensor,
        params: Tensor,
        anchors: Tensor,
        selected: Tensor | None,
    ) -> Callable[[Tensor], Tensor]:
        """From the quantised values of a half to its reconstruction."""
        predictor = (self.lrp_anchor, self.lrp_nonanchor)[step]
        means = params.chunk(2, dim=1)[1]

        def correct(half: Tensor) -> Tensor:
            if selected is not None:
                half = _chosen(selected, half, means)
            if predictor is None:
                return half
            seen = self.placed(step, half) + anchors
            if self.lrp_input_builder is None:
                support = torch.cat((side_params, seen), dim=1)
            else:
                support = self.lrp_input_builder(side_params, self.placed(step, params), seen)
            error = self.unembed(predictor(support))[step]
            if self.lrp_activation is not None:
                error = self.lrp_activation(error)
            out = half + self.lrp_scale * error
            return out if selected is None else _chosen(selected, out, means)

        return correct

    # -- skipping -------------------------------------------------------------------------------

    def _selection(
        self, step: int, side_params: Tensor, scales: Tensor, means: Tensor
    ) -> Tensor | None:
        """Where the values of a half are coded; ``None`` for everywhere.

        In training, the numbers that decide; else booleans.
        """
        if self.selective_predictor is None:
            return None
        found = self.selective_predictor(
            side_params=side_params,
            scales=self.placed(step, scales),
            means=self.placed(step, means),
            step=_STEPS[step],
        )
        found = found["selective_map"] if isinstance(found, Mapping) else found
        if not self.training:
            found = _decided(found)
        size = (*means.shape[:3], 2 * means.size(3))
        return self.unembed(found.expand(size))[step]

    def _code_selected(
        self, values: Tensor, scales: Tensor, means: Tensor, selected: Tensor
    ) -> tuple[list[bytes], Tensor]:
        strings, y_hat = [], means.clone()
        for i, chosen in enumerate(selected):
            if not bool(chosen.any()):
                strings.append(b"")
                continue
            parts = [t[i][chosen][None] for t in (values, scales, means)]
            (string,), found = self._conditional.code(*parts)
            strings.append(string)
            y_hat[i][chosen] = found[0]
        return strings, y_hat

    def _decode_selected(
        self, strings: Sequence[bytes], scales: Tensor, means: Tensor, selected: Tensor
    ) -> Tensor:
        y_hat = means.clone()
        for i, (string, chosen) in enumerate(zip(strings, selected)):
            if not bool(chosen.any()):
                if string:
                    raise ValueError("the string is damaged: it holds values that are not coded")
                continue
            parts = [t[i][chosen][None] for t in (scales, means)]
            y_hat[i][chosen] = self._conditional.decode([string], *parts)["y_hat"][0]
        return y_hat
