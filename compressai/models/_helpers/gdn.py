# SPDX-License-Identifier: BSD-3-Clause-Clear
"""What the models by Ballé, Minnen and colleagues share: transforms with GDN, and form of rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch.nn as nn
from torch import Tensor

from compressai.layers import GDN
from compressai.models._loading import SizedModel
from compressai.models._state_dict import entry_size
from compressai.models.base import CompressionModel, TransformCodingModel
from compressai.models.utils import conv, deconv
from compressai.registry import ModelEntry, at_qualities, known_lambdas, numbered, register_entry

__all__ = ["BALLE", "MINNEN", "GdnModel", "register_sized"]

BALLE = "Ballé et al. 2018, Variational image compression with a scale hyperprior"
MINNEN = (
    "Minnen et al. 2018, Joint autoregressive and hierarchical priors for learned image compression"
)


class GdnModel(SizedModel, TransformCodingModel):
    """The analysis and synthesis transforms that these models share."""

    @staticmethod
    def _analysis(N: int, M: int, activation: Any = GDN) -> nn.Sequential:
        return nn.Sequential(
            conv(3, N),
            activation(N),
            conv(N, N),
            activation(N),
            conv(N, N),
            activation(N),
            conv(N, M),
        )

    @staticmethod
    def _synthesis(N: int, M: int, activation: Any = GDN) -> nn.Sequential:
        return nn.Sequential(
            deconv(M, N),
            activation(N, inverse=True),
            deconv(N, N),
            activation(N, inverse=True),
            deconv(N, N),
            activation(N, inverse=True),
            deconv(N, 3),
        )

    @classmethod
    def infer_arguments(cls, state_dict: Mapping[str, Tensor]) -> dict[str, Any]:
        return {
            "N": entry_size(state_dict, "g_a.0.weight", 0, cls),
            "M": entry_size(state_dict, "g_a.6.weight", 0, cls),
        }


def register_sized(
    name: str,
    model: type[CompressionModel],
    summary: str,
    paper: str,
    sizes: tuple[tuple[int, int], tuple[int, int], int],
    weights: tuple[str, str] | None = None,
    prefix: str | None = None,
    multiple: int = 64,
) -> None:
    """Enter a row: (N, M) up to a quality and above, and hashes of mse and ms-ssim weights."""
    (low, high, last) = sizes
    files = {}
    if weights is not None:
        files = {
            "mse": numbered(f"{prefix or name}-{{}}-{{}}.pth.tar", weights[0]),
            "ms-ssim": numbered(f"{name}-ms-ssim-{{}}-{{}}.pth.tar", weights[1]),
        }
    register_entry(
        ModelEntry(
            name=name,
            model=model,
            summary=summary,
            paper=paper,
            sizes=at_qualities((last, dict(zip("NM", low))), (8, dict(zip("NM", high)))),
            needs_quality=True,
            losses=known_lambdas(),
            weights=files,
            licence="BSD-3-Clause-Clear" if files else "",
            multiple=multiple,
            small={"N": 4, "M": 6},
        )
    )
