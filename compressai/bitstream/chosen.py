# SPDX-License-Identifier: BSD-3-Clause-Clear
"""A model that was chosen, by whatever engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from compressai.runtime.installed import installed_bundle

__all__ = ["ChosenModel", "chosen_bundle"]


@dataclass(frozen=True)
class ChosenModel:
    """A model that is ready to code, and what a file says about it; see ``CodedImage``.

    Attributes:
        net: a model of torch, or a :class:`~compressai.runtime.RuntimeModel`.
        model, quality, metric, random_weights: as in a file.
    """

    net: Any
    model: str
    quality: float | None
    metric: str | None
    random_weights: bool = False


def chosen_bundle(
    model: str,
    quality: float | None,
    metric: str,
    *,
    default_quality: float,
    plain: bool = False,
    threads: int | None = None,
) -> ChosenModel | None:
    """The model of a bundle that is at hand; ``None`` if torch has to code.

    Args:
        model, metric: which.
        quality: which; ``None`` for the default of a bundle of variable rate.
        default_quality: the one to take otherwise.
        plain: whether files are to be coded without synchrony.
        threads: of one network, see :class:`~compressai.runtime.RuntimeModel`.

    Raises:
        BundleError: the bundle is damaged or of another version.
        ImportError: onnxruntime is missing.
    """
    wanted = default_quality if quality is None else quality
    found = installed_bundle(model, wanted, metric, threads=threads)
    if found is None or found.identity.random_weights or (plain and not found.exact):
        return None
    if found.rates is None:
        quality = found.identity.quality
    elif quality is None:
        quality = found.rates.default
    return ChosenModel(found, found.identity.model, quality, found.identity.metric)
