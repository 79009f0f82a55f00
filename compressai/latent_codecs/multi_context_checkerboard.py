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
from compressai.latent_codecs.base import LatentCodec, join
from compressai.latent_codecs.checkerboard import check_halves, embed, unembed
from compressai.latent_codecs.gaussian_conditional import GaussianConditionalLatentCodec
from compressai.ops import quantize_ste
from compressai.registry import register_module

__all__ = ["MultiContextCheckerboardLatentCodec"]

_STEPS = ("anchor", "non_anchor")
_SELECTED = 0.5

LRPInputBuilder = Callable[[Tensor, Tensor, Tensor], Tensor]


@register_module("MultiContextCheckerboardLatentCodec")
class MultiContextCheckerboardLatentCodec(LatentCodec):
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
            all values are coded, for a selection is not the same on all machines.
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

    @property
    def latent_codec(self) -> dict[str, nn.Module]:
        """The inner codec, under ``"y"``."""
        return {"y": self.y}

    def __getitem__(self, key: str) -> nn.Module:
        return self.latent_codec[key]

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
        y_halves = unembed(y, self.anchor_parity)
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
            if step == 0:
                anchors = self._placed(0, halves[0])
        likelihoods = self.y(y, embed(torch.stack(params), self.anchor_parity))["likelihoods"]["y"]
        if self.selective_predictor is not None:
            coded = embed(torch.stack(selections), self.anchor_parity)
            likelihoods = torch.where(coded, likelihoods, torch.ones_like(likelihoods))
        return {
            "likelihoods": {"y": likelihoods},
            "y_hat": embed(torch.stack(halves), self.anchor_parity),
        }

    def compress(self, y: Tensor, side_params: Tensor) -> dict[str, Any]:
        """``{"strings": [anchors, rest], "shape": (C, H, W), "y_hat"}``.

        Raises:
            ValueError: odd width, or values that are not finite.
        """
        y_halves = unembed(y, self.anchor_parity)
        anchors = torch.zeros_like(y)
        strings: list[list[bytes]] = []
        halves: list[Tensor] = []
        for step, values in enumerate(y_halves):
            params = self._params(step, side_params, anchors)
            scales, means = params.chunk(2, dim=1)
            selected = self._coding_selection(step, side_params, scales, means)
            correct = self._corrected(step, side_params, params, anchors, selected)
            if selected is None:
                step_strings, y_hat = self._conditional.code(values, scales, means, correct)
            else:
                step_strings, y_hat = self._code_selected(values, scales, means, selected)
                y_hat = correct(y_hat)
            strings.append(step_strings)
            halves.append(y_hat)
            if step == 0:
                anchors = self._placed(0, y_hat)
        return {
            "strings": strings,
            "shape": y.shape[1:],
            "y_hat": embed(torch.stack(halves), self.anchor_parity),
        }

    def decompress(
        self,
        strings: Sequence[Sequence[bytes]],
        shape: Sequence[int],
        side_params: Tensor,
    ) -> dict[str, Any]:
        """``{"y_hat"}``, perhaps ``"y_fine"``, see :class:`LatentCodec`.

        Args:
            strings: two lists, of the anchors and of the rest.
            shape: ``(C, H, W)``.
            side_params: side information ``(N, D, H, W)``.

        Raises:
            ValueError: not two lists of one length, the sizes do not fit, or a string is damaged.
        """
        check_halves(strings, type(self).__name__)
        channels, height, width = shape
        if tuple(side_params.shape[2:]) != (height, width):
            raise ValueError(
                f"shape {tuple(shape)} does not fit side information of size "
                f"{tuple(side_params.shape[2:])}"
            )
        anchors = side_params.new_zeros((len(side_params), channels, height, width))
        outs: list[dict[str, Tensor]] = []
        for step in range(2):
            params = self._params(step, side_params, anchors)
            scales, means = params.chunk(2, dim=1)
            selected = self._coding_selection(step, side_params, scales, means)
            correct = self._corrected(step, side_params, params, anchors, selected)
            if selected is None:
                outs.append(self._conditional.decode(strings[step], scales, means, correct))
            else:
                y_hat = self._decode_selected(strings[step], scales, means, selected)
                outs.append({"y_hat": correct(y_hat)})
            if step == 0:
                anchors = self._placed(0, outs[0]["y_hat"])
        return join(outs, lambda halves: embed(torch.stack(halves), self.anchor_parity))

    # -- steps ----------------------------------------------------------------------------------

    @property
    def _conditional(self) -> GaussianConditional:
        return self.y.gaussian_conditional

    def _placed(self, step: int, half: Tensor) -> Tensor:
        """A half on a whole map, with zeros at the positions of the other one."""
        halves = [torch.zeros_like(half)] * 2
        halves[step] = half
        return embed(torch.stack(halves), self.anchor_parity)

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
        return head(unembed(torch.cat(parts, dim=1), self.anchor_parity)[step])

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
                half = torch.where(selected, half, means)
            if predictor is None:
                return half
            seen = self._placed(step, half) + anchors
            if self.lrp_input_builder is None:
                support = torch.cat((side_params, seen), dim=1)
            else:
                support = self.lrp_input_builder(side_params, self._placed(step, params), seen)
            error = unembed(predictor(support), self.anchor_parity)[step]
            if self.lrp_activation is not None:
                error = self.lrp_activation(error)
            out = half + self.lrp_scale * error
            return out if selected is None else torch.where(selected, out, means)

        return correct

    # -- skipping -------------------------------------------------------------------------------

    def _selection(
        self, step: int, side_params: Tensor, scales: Tensor, means: Tensor
    ) -> Tensor | None:
        """Where the values of a half are coded; ``None`` for everywhere."""
        if self.selective_predictor is None:
            return None
        found = self.selective_predictor(
            side_params=side_params,
            scales=self._placed(step, scales),
            means=self._placed(step, means),
            step=_STEPS[step],
        )
        found = found["selective_map"] if isinstance(found, Mapping) else found
        found = found if found.dtype == torch.bool else found >= _SELECTED
        size = (*means.shape[:3], 2 * means.size(3))
        return unembed(found.expand(size), self.anchor_parity)[step]

    def _coding_selection(self, *args: Any) -> Tensor | None:
        return None if active_coder() is not None else self._selection(*args)

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
