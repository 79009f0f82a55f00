# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Generalised divisive normalisation (GDN), its inverse, and the cheaper form without a root."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compressai.ops import NonNegativeParametrizer

__all__ = ["GDN", "GDN1"]


class GDN(nn.Module):
    r"""Divide every channel by a learned norm of all channels at the same place.

    .. math:: y_i = x_i \, (\beta_i + \sum_j \gamma_{ij} x_j^2)^{-1/2}

    With ``inverse=True`` the exponent is +1/2: the approximate inverse used in synthesis
    transforms. ``beta`` and ``gamma`` are stored through
    :class:`~compressai.ops.NonNegativeParametrizer`, so they never leave their range.

    Prefer bfloat16 to float16 for mixed precision: the square overflows float16 from ``|x| > 255``.

    Args:
        in_channels: number of channels C.
        inverse: multiply by the norm instead of dividing.
        beta_min: smallest ``beta``, which bounds the division.
        gamma_init: initial value of the diagonal of ``gamma``; ``beta`` starts at 1.

    Shape: ``(N, C, H, W)``, input and output alike.
    Raises:
        ValueError: (forward) input that is not 4-D.
    Source: Ballé et al. 2016, "Density modeling of images using a generalized normalization
    transformation", eq. 1 with exponents fixed to 2 and 1/2.
    """

    def __init__(
        self,
        in_channels: int,
        inverse: bool = False,
        beta_min: float = 1e-6,
        gamma_init: float = 0.1,
    ) -> None:
        super().__init__()
        self.inverse = bool(inverse)
        self.beta_reparam = NonNegativeParametrizer(minimum=beta_min)
        self.beta = nn.Parameter(self.beta_reparam.init(torch.ones(in_channels)))
        self.gamma_reparam = NonNegativeParametrizer()
        self.gamma = nn.Parameter(self.gamma_reparam.init(gamma_init * torch.eye(in_channels)))

    def _norm(self, magnitude: Tensor) -> Tensor:
        """Return ``beta + gamma @ magnitude`` at every place, ``(N, C, H, W)``."""
        if magnitude.dim() != 4:
            raise ValueError(f"x must be 4-D (N, C, H, W), got {magnitude.dim()} axes")
        beta = self.beta_reparam(self.beta)
        gamma = self.gamma_reparam(self.gamma)
        return F.conv2d(magnitude, gamma[:, :, None, None], beta)

    def forward(self, x: Tensor) -> Tensor:
        norm = self._norm(x**2)
        return x * (torch.sqrt(norm) if self.inverse else torch.rsqrt(norm))

    def extra_repr(self) -> str:
        return f"{self.beta.numel()}, inverse={self.inverse}"


class GDN1(GDN):
    r"""GDN with absolute values in place of squares and no root.

    .. math:: y_i = x_i \, / \, (\beta_i + \sum_j \gamma_{ij} |x_j|)

    Multiplied instead of divided with ``inverse=True``. Arguments, parameters, shapes and errors
    are those of :class:`GDN`.

    Source: Johnston et al. 2019, "Computationally efficient neural image compression", sec. 3.2.
    """

    def forward(self, x: Tensor) -> Tensor:
        norm = self._norm(x.abs())
        return x * norm if self.inverse else x / norm
