# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Latent codec that codes half of the positions first and the other half in their context."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn as nn
from torch import Tensor

from compressai.latent_codecs.base import LatentCodec, check_batch, join
from compressai.ops import quantize_ste
from compressai.registry import register_module

__all__ = ["CheckerboardLatentCodec", "TwoPassLatentCodec"]

_METHODS = ("onepass", "twopass", "twopass_faster")


class TwoPassLatentCodec(LatentCodec):
    """Base of codecs of two passes over a checkerboard: anchors, and the rest in their context.

    A half is a tensor of half the width. What is known of a latent when a half is coded, nothing or
    the anchors, is a whole map with zeros elsewhere. A subclass sets ``y``, the inner codec, and
    ``anchor_parity``, and overrides :meth:`_code_half` and :meth:`_decode_half`.
    """

    anchor_parity: str

    @property
    def latent_codec(self) -> dict[str, nn.Module]:
        """The inner codec, under ``"y"``."""
        return {"y": self.y}

    def __getitem__(self, key: str) -> nn.Module:
        return self.latent_codec[key]

    def compress(self, y: Tensor, side_params: Tensor) -> dict[str, Any]:
        """``{"strings": [anchors, rest], "shape": (C, H, W), "y_hat"}``.

        Raises:
            ValueError: odd width, or values that are not finite.
        """
        y_halves = self.unembed(y)
        outs: list[dict[str, Any]] = []
        known = torch.zeros_like(y)
        for step, values in enumerate(y_halves):
            outs.append(self._code_half(step, values, side_params, known))
            known = self.placed(0, outs[0]["y_hat"])
        return {
            "strings": [out["strings"] for out in outs],
            "shape": y.shape[1:],
            "y_hat": self.embed(torch.stack([out["y_hat"] for out in outs])),
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
        if len(strings) != 2:
            raise ValueError(f"strings must hold anchors and rest, got {len(strings)} list(s)")
        check_batch(strings, type(self).__name__)
        if tuple(shape[1:]) != tuple(side_params.shape[2:]):
            raise ValueError(
                f"shape {tuple(shape)} does not fit side information of size "
                f"{tuple(side_params.shape[2:])}"
            )
        outs: list[dict[str, Tensor]] = []
        known = side_params.new_zeros((len(side_params), *shape))
        for step in range(2):
            outs.append(self._decode_half(step, strings[step], side_params, known))
            known = self.placed(0, outs[0]["y_hat"])
        return join(outs, lambda halves: self.embed(torch.stack(halves)))

    def _code_half(
        self, step: int, values: Tensor, side_params: Tensor, known: Tensor
    ) -> dict[str, Any]:
        """``{"strings": one an item, "y_hat"}`` of a half."""
        raise NotImplementedError

    def _decode_half(
        self, step: int, strings: Sequence[bytes], side_params: Tensor, known: Tensor
    ) -> dict[str, Tensor]:
        """``{"y_hat"}`` of a half, perhaps ``"y_fine"``."""
        raise NotImplementedError

    def placed(self, step: int, half: Tensor) -> Tensor:
        """A half on a whole map, with zeros at the positions of the other one."""
        halves = [torch.zeros_like(half)] * 2
        halves[step] = half
        return self.embed(torch.stack(halves))

    def unembed(self, y: Tensor) -> Tensor:
        """Take a checkerboard apart, see :func:`unembed`."""
        return unembed(y, self.anchor_parity)

    def embed(self, halves: Tensor) -> Tensor:
        """Inverse of :meth:`unembed`."""
        return embed(halves, self.anchor_parity)


@register_module("CheckerboardLatentCodec")
class CheckerboardLatentCodec(TwoPassLatentCodec):
    """Two passes over a checkerboard: anchors first, then the rest, which sees the anchors.

    Each half is held as a tensor of half the width ("unembedded"), so that nothing is computed
    for positions that a pass does not code. ``entropy_parameters`` must therefore be pointwise.
    Encoder, decoder and the evaluation of ``"twopass"`` run the very same operations.

    Args:
        latent_codec: ``{"y": codec}``; the codec must know scales and means, as
            :class:`~compressai.latent_codecs.GaussianConditionalLatentCodec` does.
        entropy_parameters: pointwise network from ``[context | side information]`` to the side
            information of the codec.
        context_prediction: a
            :class:`~compressai.layers.CheckerboardMaskedConv2d`, from ``y_hat`` to context.
        anchor_parity: anchors are the positions where row + column is ``"even"`` or ``"odd"``.
        forward_method: how :meth:`forward` computes: ``"twopass"`` as the coder does;
            ``"twopass_faster"`` the same with the values of the rest from the inner codec;
            ``"onepass"`` with a context of plainly rounded (in training: noisy) values.

    Raises:
        KeyError: ``anchor_parity`` is neither.
        ValueError: unknown ``forward_method``, or keys of ``latent_codec`` other than ``"y"``.

    Source: He et al. 2021, "Checkerboard context model for efficient learned image compression".
    """

    def __init__(
        self,
        latent_codec: Mapping[str, nn.Module],
        entropy_parameters: nn.Module | None = None,
        context_prediction: nn.Module | None = None,
        anchor_parity: str = "even",
        forward_method: str = "twopass",
    ) -> None:
        super().__init__()
        if set(latent_codec) != {"y"}:
            raise ValueError(f"latent_codec must have the key 'y' only, got {sorted(latent_codec)}")
        if anchor_parity not in ("even", "odd"):
            raise KeyError(f"anchor_parity must be 'even' or 'odd', got {anchor_parity!r}")
        if forward_method not in _METHODS:
            raise ValueError(f"forward_method must be one of {_METHODS}, got {forward_method!r}")
        self.anchor_parity = anchor_parity
        self.non_anchor_parity = "odd" if anchor_parity == "even" else "even"
        self.forward_method = forward_method
        self.entropy_parameters = (
            nn.Identity() if entropy_parameters is None else entropy_parameters
        )
        self.context_prediction = (
            nn.Identity() if context_prediction is None else context_prediction
        )
        self.y = latent_codec["y"]

    def merge(self, *args: Tensor) -> Tensor:
        """Join context and side information; may be replaced on an instance."""
        return torch.cat(args, dim=1)

    def forward(self, y: Tensor, side_params: Tensor) -> dict[str, Any]:
        """Likelihoods and reconstruction.

        Args:
            y: ``(N, C, H, W)`` with even ``W``.
            side_params: side information ``(N, D, H, W)``.

        Returns:
            ``{"likelihoods": {"y"}, "y_hat"}``.

        Raises:
            ValueError: odd width, or unknown ``forward_method``.
        """
        if self.forward_method == "onepass":
            return self._forward_onepass(y, side_params)
        if self.forward_method in ("twopass", "twopass_faster"):
            return self._forward_twopass(y, side_params)
        raise ValueError(f"forward_method must be one of {_METHODS}, got {self.forward_method!r}")

    def _forward_onepass(self, y: Tensor, side_params: Tensor) -> dict[str, Any]:
        mode = "noise" if self.training else "dequantize"
        y_hat = self.y.gaussian_conditional.quantize(y, mode)
        _, rest = self.unembed(self.context_prediction(y_hat))
        context = self.embed(torch.stack((torch.zeros_like(rest), rest)))
        params = self.entropy_parameters(self.merge(context, side_params))
        out = self.y(y, params)
        return {"likelihoods": {"y": out["likelihoods"]["y"]}, "y_hat": y_hat}

    def _forward_twopass(self, y: Tensor, side_params: Tensor) -> dict[str, Any]:
        halves: list[Tensor] = []
        params: list[Tensor] = []
        known = torch.zeros_like(y)
        for step, values in enumerate(self.unembed(y)):
            params.append(self._step_params(step, side_params, known))
            _, means = self.y._chunk(self.y.entropy_parameters(params[step]))
            halves.append(quantize_ste(values - means) + means)
            known = self.placed(0, halves[0])
        out = self.y(y, self.embed(torch.stack(params)))
        if self.forward_method == "twopass_faster":
            halves[1] = self.unembed(out["y_hat"])[1]
        return {
            "likelihoods": {"y": out["likelihoods"]["y"]},
            "y_hat": self.embed(torch.stack(halves)),
        }

    def _step_params(self, step: int, side_params: Tensor, known: Tensor) -> Tensor:
        """Side information of the inner codec for one half, given the anchors or nothing."""
        side = self.unembed(side_params)[step]
        if step == 0:
            # The anchors' context is zero, without the bias of the context network.
            n, _, h, w = side.shape
            context = side.new_zeros((n, self._context_channels(known.size(1)), h, w))
        else:
            context = self.unembed(self.context_prediction(known))[1]
        return self.entropy_parameters(self.merge(context, side))

    def _context_channels(self, channels: int) -> int:
        known = getattr(self.context_prediction, "out_channels", None)
        if known is not None:
            return known
        probe = next(self.parameters()).new_zeros((1, channels, 8, 8))
        return self.context_prediction(probe).size(1)

    def _code_half(
        self, step: int, values: Tensor, side_params: Tensor, known: Tensor
    ) -> dict[str, Any]:
        out = self.y.compress(values, self._step_params(step, side_params, known))
        if len(out["strings"]) != 1:
            raise ValueError("the inner codec must code in one step")
        return {**out, "strings": out["strings"][0]}

    def _decode_half(
        self, step: int, strings: Sequence[bytes], side_params: Tensor, known: Tensor
    ) -> dict[str, Tensor]:
        params = self._step_params(step, side_params, known)
        return self.y.decompress([strings], params.shape[2:], params)


def unembed(y: Tensor, anchor_parity: str) -> Tensor:
    """Take a checkerboard apart.

    Args:
        y: ``(N, C, H, W)`` with even ``W``.
        anchor_parity: ``"even"`` or ``"odd"``, of row + column of anchors.

    Returns:
        ``(2, N, C, H, W / 2)``, anchors first; each row keeps its order.

    Raises:
        ValueError: odd width.
    """
    n, c, h, w = y.shape
    if w % 2:
        raise ValueError(f"the checkerboard needs an even width, got {tuple(y.shape)}")
    first = 0 if anchor_parity == "even" else 1
    halves = y.new_zeros((2, n, c, h, w // 2))
    for half in range(2):
        for parity in range(2):
            column = (first + half + parity) % 2
            halves[half, ..., parity::2, :] = y[..., parity::2, column::2]
    return halves


def embed(halves: Tensor, anchor_parity: str) -> Tensor:
    """Inverse of :func:`unembed`.

    Args:
        halves: ``(2, N, C, H, W / 2)``.
        anchor_parity: as there.

    Returns:
        ``(N, C, H, W)``.
    """
    _, n, c, h, w = halves.shape
    first = 0 if anchor_parity == "even" else 1
    y = halves.new_zeros((n, c, h, 2 * w))
    for half in range(2):
        for parity in range(2):
            column = (first + half + parity) % 2
            y[..., parity::2, column::2] = halves[half, ..., parity::2, :]
    return y
