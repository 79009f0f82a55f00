# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Video models by name and quality."""

from __future__ import annotations

from typing import Any

from compressai.models.video import ScaleSpaceFlow
from compressai.zoo.weights import load_into, load_weights, published_weights

__all__ = ["ssf2020"]

METRICS = ("mse", "ms-ssim")
QUALITIES = range(1, 10)

model_architectures: dict[str, type[ScaleSpaceFlow]] = {"ssf2020": ScaleSpaceFlow}


def _load_model(
    architecture: str,
    metric: str,
    quality: int,
    pretrained: bool = False,
    progress: bool = True,
    **kwargs: Any,
) -> ScaleSpaceFlow:
    if architecture not in model_architectures:
        raise ValueError(
            f"architecture must be one of {sorted(model_architectures)}, got {architecture!r}"
        )
    if metric not in METRICS:
        raise ValueError(f"metric must be one of {list(METRICS)}, got {metric!r}")
    if quality not in QUALITIES:
        raise ValueError(
            f"quality must be an integer from {QUALITIES[0]} to {QUALITIES[-1]}, got {quality!r}"
        )
    cls = model_architectures[architecture]
    if not pretrained:
        return cls(**kwargs)
    if kwargs:
        raise TypeError(f"pretrained weights fix the architecture, {sorted(kwargs)} have no use")
    file_name = published_weights()[architecture].get(metric, {}).get(str(int(quality)))
    if file_name is None:
        raise RuntimeError(
            f"no weights were published for {architecture}, metric {metric}, quality {quality}"
        )
    return load_into(cls.from_state_dict, load_weights(file_name, progress))


def ssf2020(
    quality: int,
    metric: str = "mse",
    pretrained: bool = False,
    progress: bool = True,
    **kwargs: Any,
) -> ScaleSpaceFlow:
    """Scale-space flow. Agustsson et al. 2020, Scale-space flow for end-to-end optimized video
    compression.

    Args:
        quality: 1 (lowest) to 9; chooses the weights, all qualities have the same architecture.
        metric: distortion that the weights were trained for, ``"mse"`` or ``"ms-ssim"``.
        pretrained: load published weights, see :mod:`compressai.zoo.weights`; there are some for
            ``"mse"`` only.
        progress: show the progress of a download.
        kwargs: arguments of the model's class, such as ``num_levels``.

    Returns:
        :class:`~compressai.models.video.ScaleSpaceFlow`.

    Raises:
        ValueError: unknown ``metric`` or ``quality``.
        RuntimeError: the weights are not available.
    """
    return _load_model("ssf2020", metric, quality, pretrained, progress, **kwargs)
