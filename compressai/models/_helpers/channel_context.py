# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The head that predicts mean and scale of a slice from side information and earlier slices."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn as nn
from torch import Tensor

from compressai.latent_codecs._slice_helpers import make_entropy_transform

__all__ = ["MeanScaleContextHead", "SupportTransformFactory", "build_mean_scale_head"]

SupportTransformFactory = Callable[[int, int], nn.Module]


class MeanScaleContextHead(nn.Module):
    """Two predictors side by side: ``[scale_cc(b') | mean_cc(a')]``.

    The input ``x`` begins with side information for means and for scales, ``side_split = s``
    channels each; the rest are earlier slices::

        a = [x[:, :s] | x[:, 2 s:]]      a' = mean_support_transform(a)
        b = [x[:, s:2 s] | x[:, 2 s:]]   b' = scale_support_transform(b)

    With ``side_split=0`` both are ``x`` itself.

    Args:
        mean_cc: network from ``a'`` to means.
        scale_cc: network from ``b'`` to scales.
        mean_support_transform: network applied to ``a``; ``None`` is the identity.
        scale_support_transform: network applied to ``b``; ``None`` is the identity.
        side_split: see above.
        emit_mean_support: append ``a`` (``True`` or ``"pre"``) or ``a'`` (``"post"``) to the
            output, for a residual prediction to see; ``False`` appends nothing.

    Shape: ``(N, C, H, W)`` to ``(N, D, H, W)``, ``D`` twice the width of a slice, and that of
    ``a`` on top if it is emitted.

    Raises:
        ValueError: unknown ``emit_mean_support``, or one without ``side_split``.

    Source: Minnen and Singh 2020, "Channel-wise autoregressive entropy models for learned image
    compression", figure 2; transforms of the support: Liu et al. 2023.
    """

    def __init__(
        self,
        mean_cc: nn.Module,
        scale_cc: nn.Module,
        mean_support_transform: nn.Module | None = None,
        scale_support_transform: nn.Module | None = None,
        *,
        side_split: int = 0,
        emit_mean_support: bool | str = False,
    ) -> None:
        super().__init__()
        if emit_mean_support is True:
            emit_mean_support = "pre"
        if emit_mean_support not in (False, "pre", "post"):
            raise ValueError(
                f"emit_mean_support must be False, True, 'pre' or 'post', got {emit_mean_support!r}"
            )
        if emit_mean_support and side_split <= 0:
            raise ValueError(
                "emit_mean_support needs side information that is split, got "
                f"side_split={side_split}"
            )
        self.mean_cc = mean_cc
        self.scale_cc = scale_cc
        self.mean_support_transform = mean_support_transform or nn.Identity()
        self.scale_support_transform = scale_support_transform or nn.Identity()
        self.side_split = int(side_split)
        self.emit_mean_support = emit_mean_support

    def forward(self, x: Tensor) -> Tensor:
        mean_support, scale_support = self._split(x)
        transformed = self.mean_support_transform(mean_support)
        scale = self.scale_cc(self.scale_support_transform(scale_support))
        out = [scale, self.mean_cc(transformed)]
        if self.emit_mean_support:
            out.append(mean_support if self.emit_mean_support == "pre" else transformed)
        return torch.cat(out, dim=1)

    def _split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        s = self.side_split
        if s <= 0:
            return x, x
        means, scales, earlier = x[:, :s], x[:, s : 2 * s], x[:, 2 * s :]
        return torch.cat((means, earlier), dim=1), torch.cat((scales, earlier), dim=1)

    def extra_repr(self) -> str:
        return f"side_split={self.side_split}, emit_mean_support={self.emit_mean_support!r}"


def build_mean_scale_head(
    slice_ch: int,
    support_ch: int,
    *,
    widths: Sequence[int] = (224, 128),
    support_transform_factory: SupportTransformFactory | None = None,
    side_split: int = 0,
    emit_mean_support: bool | str = False,
    kernel_size: int = 3,
) -> MeanScaleContextHead:
    """Make a head with predictors of :func:`make_entropy_transform`.

    Args:
        slice_ch: width of the slice.
        support_ch: width of the head's whole input, ``2 * side_split`` and earlier slices.
        widths: hidden widths of both predictors.
        support_transform_factory: ``(channels in, channels out) -> network``, called twice, for
            the means and for the scales.
        side_split: as in :class:`MeanScaleContextHead`.
        emit_mean_support: as in :class:`MeanScaleContextHead`.
        kernel_size: of the predictors' convolutions behind the first.

    Returns:
        The head.

    Raises:
        ValueError: ``support_ch`` is too small for ``side_split``, and as
            :class:`MeanScaleContextHead`.
    """
    inner = support_ch - side_split
    if support_ch < 2 * side_split or inner <= 0:
        raise ValueError(
            f"support_ch must be positive and at least 2 * side_split, got "
            f"support_ch={support_ch}, side_split={side_split}"
        )
    transforms = [
        None if support_transform_factory is None else support_transform_factory(inner, inner)
        for _ in ("mean", "scale")
    ]
    return MeanScaleContextHead(
        make_entropy_transform(inner, slice_ch, widths=widths, kernel_size=kernel_size),
        make_entropy_transform(inner, slice_ch, widths=widths, kernel_size=kernel_size),
        *transforms,
        side_split=side_split,
        emit_mean_support=emit_mean_support,
    )
