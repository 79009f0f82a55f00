# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Variable-rate image models by name: one model each, for all rates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from compressai.models import (
    JointAutoregressiveHierarchicalPriorsVbr,
    MeanScaleHyperpriorVbr,
    ScaleHyperpriorVbr,
)
from compressai.models.base import CompressionModel
from compressai.zoo.weights import load_into, load_weights, published_weights

__all__ = ["bmshj2018_hyperprior_vbr", "mbt2018_mean_vbr", "mbt2018_vbr"]

METRICS = ("mse",)

model_architectures: dict[str, type[CompressionModel]] = {
    "bmshj2018-hyperprior-vbr": ScaleHyperpriorVbr,
    "mbt2018-mean-vbr": MeanScaleHyperpriorVbr,
    "mbt2018-vbr": JointAutoregressiveHierarchicalPriorsVbr,
}

# Constructor arguments N and M.
cfgs: dict[str, tuple[int, int]] = dict.fromkeys(model_architectures, (192, 320))


def _load_model(
    architecture: str,
    metric: str,
    pretrained: bool = False,
    progress: bool = True,
    **kwargs: Any,
) -> CompressionModel:
    if architecture not in model_architectures:
        raise ValueError(
            f"architecture must be one of {sorted(model_architectures)}, got {architecture!r}"
        )
    if metric not in METRICS:
        raise ValueError(f"metric must be one of {list(METRICS)}, got {metric!r}")
    cls = model_architectures[architecture]
    if not pretrained:
        return cls(**{**dict(zip(("N", "M"), cfgs[architecture])), **kwargs})
    if kwargs:
        raise TypeError(f"pretrained weights fix the architecture, {sorted(kwargs)} have no use")
    file_name = published_weights()[architecture][metric]["-"]
    # The weights tell whether the bottleneck has a variable step.
    return load_into(cls.from_state_dict, load_weights(file_name, progress))


def _entry(architecture: str, paper: str) -> Callable[..., CompressionModel]:
    def build(
        quality: int = 0,
        metric: str = "mse",
        pretrained: bool = False,
        progress: bool = True,
        **kwargs: Any,
    ) -> CompressionModel:
        return _load_model(architecture, metric, pretrained, progress, **kwargs)

    build.__name__ = build.__qualname__ = architecture.replace("-", "_")
    build.__doc__ = f"""{paper}

    Args:
        quality: without effect, for calls that suit all models: the rate is chosen at each
            ``compress``.
        metric: distortion that the weights were trained for, ``"mse"``.
        pretrained: load published weights, see :mod:`compressai.zoo.weights`.
        progress: show the progress of a download.
        kwargs: arguments of the model's class, such as ``N`` or ``vr_entbttlnck``.

    Returns:
        :class:`~compressai.models.{model_architectures[architecture].__name__}`.

    Raises:
        ValueError: unknown ``metric``.
        RuntimeError: the weights are not available.
    """
    return build


bmshj2018_hyperprior_vbr = _entry(
    "bmshj2018-hyperprior-vbr",
    "Scale hyperprior of variable rate. Kamisli et al. 2024, Variable-rate learned image "
    "compression with multi-objective optimization and quantization-reconstruction offsets.",
)
mbt2018_mean_vbr = _entry(
    "mbt2018-mean-vbr", "Mean-scale hyperprior of variable rate. Kamisli et al. 2024, as above."
)
mbt2018_vbr = _entry(
    "mbt2018-vbr",
    "Hyperprior with autoregressive context, of variable rate. Kamisli et al. 2024, as above.",
)
