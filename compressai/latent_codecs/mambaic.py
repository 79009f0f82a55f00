# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Latent codec of slices in two checkerboard passes, whose parameters come from whole maps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn as nn
from torch import Tensor

from compressai.entropy_models import GaussianConditional
from compressai.entropy_models.session import Correction, active_coder
from compressai.latent_codecs.base import LatentCodec, check_batch
from compressai.latent_codecs.checkerboard import embed, unembed
from compressai.ops import quantize_ste
from compressai.registry import register_module

__all__ = ["MambaICLatentCodec"]

_PARITY = "even"

# Number of the slice and of the pass, scales, means, and what is done to the reconstruction.
Code = Callable[[int, int, Tensor, Tensor, Correction | None], Tensor]


@register_module("MambaICLatentCodec")
class MambaICLatentCodec(LatentCodec):
    """Codes slices one after another, each anchors first and then the rest.

    For slice k, with side information ``[side means | side scales]`` and earlier slices ``Y``::

        S      = mean_support_transforms[k]([side means | Y])
        hints  = [cc_mean_transforms[k](S)
                  | cc_scale_transforms[k](scale_support_transforms[k]([side scales | Y]))
                  | side means | side scales]              (of slice 0: [side means | side scales])
        [m|r]  = context_vss[k]([context | hints])
        means  = context_mean_transforms[k](m),  scales = context_scale_transforms[k](r)
        y_hat  = q + lrp_scale * tanh(lrp_transforms[k]([S | q]))

    The context of anchors (row + column even) is zero, that of the rest is
    ``context_prediction[k](anchors)``. All networks see whole maps: they are not pointwise.

    Args:
        mean_support_transforms: one network a slice, like all lists.
        scale_support_transforms, cc_mean_transforms, cc_scale_transforms: those of slice 0 have no
            influence; published weights hold them.
        context_prediction: masked convolutions from a slice to twice its width.
        context_vss: to twice the width of the slice, means first.
        context_mean_transforms, context_scale_transforms: keep the width of the slice.
        lrp_transforms: from support and slice to slice.
        gaussian_conditional: the entropy model of all slices; ``None`` builds one.
        num_slices: number of slices.
        max_support_slices: how many earlier slices a slice sees, the first ones; negative for all.
        lrp_scale: largest correction.

    Shape: ``y`` ``(N, C, H, W)`` with even ``W``, side information ``(N, D, H, W)``.

    Raises:
        ValueError: a list that has not one network a slice.

    Source: Zeng et al. 2025, "MambaIC: state space models for high-performance learned image
    compression".
    """

    def __init__(
        self,
        mean_support_transforms: Sequence[nn.Module],
        scale_support_transforms: Sequence[nn.Module],
        cc_mean_transforms: Sequence[nn.Module],
        cc_scale_transforms: Sequence[nn.Module],
        context_prediction: Sequence[nn.Conv2d],
        context_vss: Sequence[nn.Module],
        context_mean_transforms: Sequence[nn.Module],
        context_scale_transforms: Sequence[nn.Module],
        lrp_transforms: Sequence[nn.Module],
        gaussian_conditional: GaussianConditional | None = None,
        *,
        num_slices: int,
        max_support_slices: int = -1,
        lrp_scale: float = 0.5,
    ) -> None:
        super().__init__()
        for name, networks in (
            ("mean_support_transforms", mean_support_transforms),
            ("scale_support_transforms", scale_support_transforms),
            ("cc_mean_transforms", cc_mean_transforms),
            ("cc_scale_transforms", cc_scale_transforms),
            ("context_prediction", context_prediction),
            ("context_vss", context_vss),
            ("context_mean_transforms", context_mean_transforms),
            ("context_scale_transforms", context_scale_transforms),
            ("lrp_transforms", lrp_transforms),
        ):
            if len(networks) != num_slices:
                raise ValueError(
                    f"{name} must have num_slices={num_slices} networks, got {len(networks)}"
                )
            self.add_module(name, nn.ModuleList(networks))
        self.gaussian_conditional = gaussian_conditional or GaussianConditional(None)
        self.num_slices = num_slices
        self.max_support_slices = int(max_support_slices)
        self.lrp_scale = float(lrp_scale)

    @property
    def groups(self) -> list[int]:
        """Channels of each slice."""
        return [network.in_channels for network in self.context_prediction]

    def forward(self, y: Tensor, side_params: Tensor) -> dict[str, Any]:
        """Likelihoods and reconstruction.

        Args:
            y: ``(N, C, H, W)``.
            side_params: side information ``[means | scales]``, ``(N, D, H, W)``.

        Returns:
            ``{"likelihoods": {"y"}, "y_hat"}``. ``y_hat`` is rounded around the means, with the
            gradient of the identity; likelihoods are those of noisy values in training.

        Raises:
            ValueError: odd width.
        """
        slices = [unembed(y_k, _PARITY) for y_k in y.split(self.groups, dim=1)]
        steps: list[Tensor] = []

        def code(
            k: int, step: int, scales: Tensor, means: Tensor, correct: Correction | None
        ) -> Tensor:
            steps.append(torch.cat((scales, means), dim=1))
            return quantize_ste(slices[k][step] - means) + means

        y_hat = self._go_through(side_params, code)
        params = [embed(torch.stack(steps[i : i + 2]), _PARITY) for i in range(0, len(steps), 2)]
        scales, means = (
            torch.cat(parts, dim=1) for parts in zip(*(p.chunk(2, dim=1) for p in params))
        )
        _, likelihoods = self.gaussian_conditional(y, scales, means)
        return {"likelihoods": {"y": likelihoods}, "y_hat": y_hat}

    def compress(self, y: Tensor, side_params: Tensor) -> dict[str, Any]:
        """``{"strings": [anchors, rest] of each slice, "shape": [(C, H, W) of each], "y_hat"}``.

        Raises:
            ValueError: odd width, or values that are not finite.
        """
        slices = [unembed(y_k, _PARITY) for y_k in y.split(self.groups, dim=1)]
        strings: list[list[bytes]] = []

        def code(
            k: int, step: int, scales: Tensor, means: Tensor, correct: Correction | None
        ) -> Tensor:
            values = slices[k][step]
            # Behind these, the positions that are known: there is nothing to add to their means.
            values = torch.cat((values, means[..., values.size(-1) :]), dim=-1)
            step_strings, y_hat = self.gaussian_conditional.code(values, scales, means, correct)
            strings.append(step_strings)
            return y_hat

        y_hat = self._go_through(side_params, code)
        shape = [(channels, *y.shape[2:]) for channels in self.groups]
        return {"strings": strings, "shape": shape, "y_hat": y_hat}

    def decompress(
        self,
        strings: Sequence[Sequence[bytes]],
        shape: Sequence[Sequence[int]],
        side_params: Tensor,
    ) -> dict[str, Any]:
        """``{"y_hat"}``, perhaps ``"y_fine"``, see :class:`LatentCodec`.

        Args:
            strings: two lists a slice.
            shape: one a slice, ``(H, W)`` or ``(C, H, W)``.
            side_params: side information ``(N, D, H, W)``.

        Raises:
            ValueError: the numbers of lists, shapes or strings do not fit, or a string is damaged.
        """
        size = tuple(side_params.shape[2:])
        if (len(strings), len(shape)) != (2 * self.num_slices, self.num_slices) or any(
            tuple(one)[-2:] != size for one in shape
        ):
            raise ValueError(
                f"{len(strings)} lists of strings and shapes {list(map(tuple, shape))} do not fit "
                f"{self.num_slices} slices with side information of size {size}"
            )
        check_batch(strings, type(self).__name__)
        fine: list[Tensor] = []
        lost: list[Tensor] = []  # by rounding anchors

        def code(
            k: int, step: int, scales: Tensor, means: Tensor, correct: Correction | None
        ) -> Tensor:
            out = self.gaussian_conditional.decode(strings[2 * k + step], scales, means, correct)
            if "y_fine" in out:
                if step == 0:
                    lost.append(out["y_fine"] - out["y_hat"])
                else:
                    rest, anchors = out["y_fine"].chunk(2, dim=-1)
                    fine.append(_whole(torch.cat((rest, anchors + lost[k]), dim=-1)))
            return out["y_hat"]

        y_hat = self._go_through(side_params, code)
        return {"y_hat": y_hat, "y_fine": torch.cat(fine, dim=1)} if fine else {"y_hat": y_hat}

    def _go_through(self, side_params: Tensor, code: Code) -> Tensor:
        """The reconstruction, step by step."""
        done: list[Tensor] = []
        for k, channels in enumerate(self.groups):
            support, hints = self._support(k, side_params, done)
            n, _, height, width = side_params.shape
            blank = side_params.new_zeros((n, 2 * channels, height, width))
            anchors = code(k, 0, *self._predict(k, 0, blank, hints), None)
            map_of_anchors = embed(torch.stack((anchors, torch.zeros_like(anchors))), _PARITY)
            context = self.context_prediction[k](map_of_anchors)
            scales, means = self._predict(k, 1, context, hints)
            correct = partial(self._correct, k, support)
            if active_coder() is None:
                rest = code(k, 1, scales, means, None)
                done.append(correct(embed(torch.stack((anchors, rest)), _PARITY)))
            else:
                # The correction changes anchors, too, and what later slices see of them has to be
                # the same on both sides. So they are coded once more, as values that are certain.
                both = code(
                    k,
                    1,
                    torch.cat((scales, torch.zeros_like(scales)), dim=-1),
                    torch.cat((means, anchors), dim=-1),
                    lambda values, correct=correct: _side_by_side(correct(_whole(values))),
                )
                done.append(_whole(both))
        return torch.cat(done, dim=1)

    def _support(
        self, k: int, side_params: Tensor, done: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """The support of the means, and what a slice's parameters depend on besides context."""
        side_means, side_scales = side_params.chunk(2, dim=1)
        earlier = done if self.max_support_slices < 0 else done[: self.max_support_slices]
        support = self.mean_support_transforms[k](torch.cat((side_means, *earlier), dim=1))
        if k == 0:
            return support, side_params
        scale_support = self.scale_support_transforms[k](torch.cat((side_scales, *earlier), dim=1))
        means, scales = (
            self.cc_mean_transforms[k](support),
            self.cc_scale_transforms[k](scale_support),
        )
        return support, torch.cat((means, scales, side_params), dim=1)

    def _predict(self, k: int, step: int, context: Tensor, hints: Tensor) -> tuple[Tensor, Tensor]:
        """Scales and means at the positions of a pass."""
        means, scales = self.context_vss[k](torch.cat((context, hints), dim=1)).chunk(2, dim=1)
        maps = self.context_scale_transforms[k](scales), self.context_mean_transforms[k](means)
        scales, means = (unembed(x, _PARITY)[step] for x in maps)
        return scales, means

    def _correct(self, k: int, support: Tensor, values: Tensor) -> Tensor:
        error = self.lrp_transforms[k](torch.cat((support, values), dim=1))
        return values + self.lrp_scale * torch.tanh(error)


def _whole(both: Tensor) -> Tensor:
    """A map of its rest and its anchors, side by side."""
    rest, anchors = both.chunk(2, dim=-1)
    return embed(torch.stack((anchors, rest)), _PARITY)


def _side_by_side(whole: Tensor) -> Tensor:
    """Inverse of :func:`_whole`."""
    anchors, rest = unembed(whole, _PARITY)
    return torch.cat((rest, anchors), dim=-1)
