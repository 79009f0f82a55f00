# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The rate-distortion Lagrangian of image models."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping
from typing import Any

import torch
from pytorch_msssim import ms_ssim
from torch import Tensor, nn

from compressai.registry import register_criterion

__all__ = ["RateDistortionLoss"]

# Four halvings must leave more than an 11x11 window.
_MS_SSIM_MIN_SIZE = 161


@register_criterion("RateDistortionLoss")
class RateDistortionLoss(nn.Module):
    """Rate plus weighted distortion, ``R + lmbda * D``.

    ``R`` is the ideal code length ``-sum(log2 p) / (N H W)`` in bits per pixel. ``D`` is
    ``255**2 * MSE`` for metric ``"mse"`` and ``1 - MS-SSIM`` for ``"ms-ssim"``.

    Args:
        lmbda: weight of the distortion: a finite number, at least 0, or a tensor,
            whose values are not checked.
        metric: ``"mse"`` or ``"ms-ssim"``. The latter needs images larger than 160 x 160.
        return_type: ``"all"`` for a dictionary, or the name of the one entry to return.

    Raises:
        NotImplementedError: unknown ``metric``.
        TypeError: ``lmbda`` is neither a number nor a tensor.
        ValueError: ``lmbda`` is negative or not finite; ``return_type`` is neither ``"all"`` nor an
            entry of the result.

    Source: Ballé et al. 2017, equation 4; multipliers of the published models in the table of
    the model zoo.
    """

    _more_entries: tuple[str, ...] = ()  # what a subclass adds to the result

    def __init__(self, lmbda: float = 0.01, metric: str = "mse", return_type: str = "all") -> None:
        super().__init__()
        if not isinstance(lmbda, (numbers.Real, Tensor)):
            raise TypeError(f"lmbda must be a number or a tensor, got {type(lmbda).__name__}")
        # A negative weight trains towards the worst image, without a sign of it in the log.
        if isinstance(lmbda, numbers.Real) and not 0 <= lmbda < math.inf:
            raise ValueError(f"lmbda must be finite and at least 0, got {lmbda}")
        if metric == "mse":
            self.metric: Any = nn.MSELoss()
            self._distortion_key = "mse_loss"
        elif metric == "ms-ssim":
            self.metric = ms_ssim
            self._distortion_key = "ms_ssim_loss"
        else:
            raise NotImplementedError(f"metric must be 'mse' or 'ms-ssim', got {metric!r}")

        choices = ("all", "loss", "bpp_loss", self._distortion_key, *self._more_entries)
        if return_type not in choices:
            raise ValueError(
                f"return_type must be one of {choices} for metric {metric!r}, got {return_type!r}"
            )
        self.lmbda = lmbda
        self.return_type = return_type

    def forward(self, output: Mapping[str, Any], target: Tensor) -> dict[str, Tensor] | Tensor:
        """Compare a model's output with the image it was given.

        Args:
            output: ``"x_hat"`` of shape ``(N, 3, H, W)`` and ``"likelihoods"``, a mapping of
                names to tensors of any shape with values in (0, 1].
            target: the image, ``(N, 3, H, W)``, range [0, 1].

        Returns:
            ``bpp_loss``, ``mse_loss`` (range [0, 1], not scaled) or ``ms_ssim_loss`` (the MS-SSIM
            itself, 1 is best) and ``loss``, all 0-d tensors; or the single one named by
            ``return_type``.

        Raises:
            ValueError: shapes differ, or the image is too small for MS-SSIM.
        """
        out, distortion = self._rate_and_distortion(output, target)
        out["loss"] = self.lmbda * distortion + out["bpp_loss"]
        return self._wanted(out)

    def _wanted(self, out: dict[str, Tensor]) -> dict[str, Tensor] | Tensor:
        return out if self.return_type == "all" else out[self.return_type]

    def _rate_and_distortion(
        self, output: Mapping[str, Any], target: Tensor
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Entries of the result before the sum, and the distortion that ``lmbda`` weights."""
        x_hat = output["x_hat"]
        if x_hat.shape != target.shape:
            raise ValueError(
                "x_hat must have the shape of target, "
                f"got {tuple(x_hat.shape)} and {tuple(target.shape)}"
            )
        num_samples, _, height, width = target.shape
        bits_per_nat = -1 / (math.log(2) * num_samples * height * width)
        rate = torch.zeros((), device=target.device)
        for likelihood in output["likelihoods"].values():
            rate = rate + likelihood.log().sum() * bits_per_nat

        out = {"bpp_loss": rate}
        if self._distortion_key == "mse_loss":
            out["mse_loss"] = self.metric(x_hat, target)
            distortion = 255**2 * out["mse_loss"]
        else:
            if min(height, width) < _MS_SSIM_MIN_SIZE:
                raise ValueError(
                    f"MS-SSIM needs a height and width of at least {_MS_SSIM_MIN_SIZE}, "
                    f"got {height} x {width}"
                )
            out["ms_ssim_loss"] = self.metric(x_hat, target, data_range=1)
            distortion = 1 - out["ms_ssim_loss"]
        return out, distortion
