# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The causal context adjustment loss, which moves information into early slices."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from compressai.losses.rate_distortion import RateDistortionLoss
from compressai.registry import register_criterion

__all__ = ["CCARateDistortionLoss"]


@register_criterion("CCARateDistortionLoss")
class CCARateDistortionLoss(RateDistortionLoss):
    r"""Rate-distortion loss with the terms of causal context adjustment.

    With :math:`P = N H W` pixels, likelihoods :math:`p_y, p_z` of the model, :math:`p_c`
    (``y_cca``, every slice predicted without the slice before it) and :math:`p_a` (``y_aux``, a
    factorized prior) of the auxiliary model, and the distortion :math:`D` of
    :class:`~compressai.losses.RateDistortionLoss`:

    .. math::

        L &= \lambda D + \beta R + \alpha L_\text{cca} + L_\text{aux} \\
        R &= -\tfrac{1}{P} \left( \sum \log_2 p_y + \sum \log_2 p_z \right) \\
        L_\text{cca} &= -\tfrac{1}{P} \left( \sum \log_2 p_y - \sum \log_2 p_c \right) \\
        L_\text{aux} &= -\tfrac{1}{P} \sum p_c \log_2 p_a

    - ``bpp_loss`` is :math:`R`, the ideal code length in bits per pixel.
    - ``cca_loss`` is :math:`L_\text{cca}`, the bits that the slice just before saves, negated:
      lowering it makes every slice as useful as can be for the next.
    - ``aux2_loss`` is :math:`L_\text{aux}`, a cross-entropy that ties the factorized prior to the
      rest of the auxiliary model.

    The published models were trained with ``lmbda`` 0.05 and a ``beta`` for each rate point.

    Args:
        lmbda: weight :math:`\lambda` of the distortion.
        metric: ``"mse"`` or ``"ms-ssim"``.
        return_type: ``"all"`` for a dictionary, or the name of the one entry to return.
        alpha: weight :math:`\alpha` of the adjustment.
        beta: weight :math:`\beta` of the rate.

    Raises:
        NotImplementedError: unknown ``metric``.
        ValueError: ``return_type`` is neither ``"all"`` nor an entry of the result.

    Source: Han et al. 2024, "Causal context adjustment loss for learned image compression".
    """

    _more_entries = ("cca_loss", "aux2_loss")

    def __init__(
        self,
        lmbda: float = 0.01,
        metric: str = "mse",
        return_type: str = "all",
        alpha: float = 1.0,
        beta: float = 1.0,
    ) -> None:
        super().__init__(lmbda, metric, return_type)
        self.alpha = alpha
        self.beta = beta

    def forward(self, output: Mapping[str, Any], target: Tensor) -> dict[str, Tensor] | Tensor:
        """Compare a model's output with the image it was given.

        Args:
            output: ``"x_hat"`` ``(N, 3, H, W)``, ``"likelihoods"`` with ``"y"`` and others, and
                ``"aux_likelihoods"`` with ``"y_aux"`` and ``"y_cca"``, shaped like that of ``y``.
            target: the image, ``(N, 3, H, W)``, range [0, 1].

        Returns:
            ``bpp_loss``, ``mse_loss`` or ``ms_ssim_loss``, ``cca_loss``, ``aux2_loss`` and
            ``loss``, all 0-d tensors; or the single one named by ``return_type``.

        Raises:
            KeyError: the auxiliary likelihoods are missing.
            ValueError: as :class:`~compressai.losses.RateDistortionLoss`.
        """
        auxiliary = output.get("aux_likelihoods") or {}
        missing = [name for name in ("y_aux", "y_cca") if name not in auxiliary]
        if missing:
            raise KeyError(
                f"the output's aux_likelihoods lack {missing}: build the model with "
                "cca_training=True (CCAModel) or use_cca=True (other channel-slice models)"
            )
        out, distortion = self._rate_and_distortion(output, target)
        num_samples, _, height, width = target.shape
        bits_per_nat = -1 / (math.log(2) * num_samples * height * width)
        p_y, p_c, p_a = output["likelihoods"]["y"], auxiliary["y_cca"], auxiliary["y_aux"]
        # Differences before the sum: two large sums would leave few digits.
        out["cca_loss"] = (p_y.log() - p_c.log()).sum() * bits_per_nat
        out["aux2_loss"] = (p_c * p_a.log()).sum() * bits_per_nat
        out["loss"] = (
            self.lmbda * distortion
            + self.beta * out["bpp_loss"]
            + self.alpha * out["cca_loss"]
            + out["aux2_loss"]
        )
        return self._wanted(out)
