# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Convolutions that see only part of their window: what a decoder knows already."""

from __future__ import annotations

from typing import Any, NoReturn

import torch
from torch import Tensor, nn

__all__ = ["CheckerboardMaskedConv2d", "MaskedConv2d"]


class MaskedConv2d(nn.Conv2d):
    """Convolution that sees the positions before its centre in raster order.

    The stored ``weight`` is never changed: the mask is applied to a copy in each call, so the
    module is thread-safe, can be compiled and exported, and masked entries get no gradient.
    :attr:`masked_weight` is what is effectively used.

    Args:
        args: positional arguments of :class:`torch.nn.Conv2d`.
        mask_type: ``"A"`` leaves out the centre, ``"B"`` includes it.
        kwargs: keyword arguments of :class:`torch.nn.Conv2d`.

    Shape: as :class:`torch.nn.Conv2d`. The buffer ``mask`` has the shape and dtype of ``weight``
    and holds 0 and 1.
    Raises:
        ValueError: unknown ``mask_type``.
        RuntimeError: on ``torch.jit.script``, which is not supported; use ``torch.compile``.
    Source: van den Oord et al. 2016, "Conditional image generation with PixelCNN decoders",
    sec. 2; Minnen et al. 2018, "Joint autoregressive and hierarchical priors".
    """

    mask: Tensor

    def __init__(self, *args: Any, mask_type: str = "A", **kwargs: Any) -> None:
        if mask_type not in ("A", "B"):
            raise ValueError(f"mask_type must be 'A' or 'B', got mask_type={mask_type!r}")
        super().__init__(*args, **kwargs)
        self.mask_type = mask_type
        window = self._window_mask()
        self.register_buffer("mask", window.to(self.weight).expand_as(self.weight).clone())

    def _window_mask(self) -> Tensor:
        """Return the mask of one window, ``(kernel height, kernel width)``."""
        height, width = self.kernel_size
        mask = torch.zeros(height, width)
        mask[: height // 2] = 1
        mask[height // 2, : width // 2 + (self.mask_type == "B")] = 1
        return mask

    @property
    def masked_weight(self) -> Tensor:
        """``weight * mask``, shape of ``weight``, differentiable with respect to ``weight``."""
        return self.weight * self.mask

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, self.masked_weight, self.bias)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, mask_type={self.mask_type!r}"

    def __prepare_scriptable__(self) -> NoReturn:
        raise RuntimeError(
            f"{type(self).__name__} does not support torch.jit.script; use torch.compile"
        )


class CheckerboardMaskedConv2d(MaskedConv2d):
    """Convolution that sees every other position, as the squares of one colour on a chessboard.

    Within the window the mask is 1 where row + column is odd. The centre is 0 for mask type A and
    1 for type B. Arguments, buffer, shapes and errors are those of :class:`MaskedConv2d`.

    Source: He et al. 2021, "Checkerboard context model for efficient learned image compression".
    """

    def _window_mask(self) -> Tensor:
        height, width = self.kernel_size
        rows, columns = torch.arange(height)[:, None], torch.arange(width)[None, :]
        mask = ((rows + columns) % 2).to(torch.float32)
        mask[height // 2, width // 2] = float(self.mask_type == "B")
        return mask
