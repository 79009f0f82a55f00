# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Models that were chosen, by whatever engine."""

from __future__ import annotations

import dataclasses
import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from compressai.bitstream.errors import WrongWeightsError
from compressai.runtime.installed import (
    bundle_file,
    bundle_of_file,
    has_all_rates,
    installed_bundle,
)

if TYPE_CHECKING:
    from compressai.bitstream.container import CodedImage
    from compressai.runtime.model import RuntimeModel

__all__ = [
    "ChosenModel",
    "Ladder",
    "chosen_bundle",
    "decoding_bundle",
    "ladder_of_bundles",
    "rates_of",
]


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
        quality: which; ``None`` for the default of a bundle that has a scale.
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
        quality = found.rates.default if found.levels is None else wanted
    return ChosenModel(found, found.identity.model, quality, found.identity.metric)


def decoding_bundle(
    coded: CodedImage, *, needed: bool = False, threads: int | None = None
) -> RuntimeModel | None:
    """The model of a bundle that decodes a file.

    Args:
        coded: the file.
        needed: whether it must be a bundle, as it must where torch is not installed.
        threads: of one network.

    Returns:
        The model; ``None`` if torch has to decode. One that is needed may have other weights than
        the file, or be unable to decode it, which decoding tells.

    Raises:
        WrongWeightsError: it is needed, and there is none.
        BundleError: the bundle is damaged or of another version.
        ImportError: onnxruntime is needed, and missing.
    """
    if not needed and find_spec("torch") is not None:
        return bundle_of_file(coded, threads=threads)
    told = (coded.model, coded.quality, coded.metric)
    found = None if coded.random_weights else installed_bundle(*told, threads=threads)
    if found is None:
        raise WrongWeightsError(
            f"no bundle of {coded.model} is at {bundle_file(*told)}: make it with compressai "
            "export --bundle, or decode with --engine torch, which needs PyTorch"
        )
    return found


class _NoBundleError(Exception):
    """No bundle codes so: torch has to."""


def ladder_of_bundles(
    model: str, metric: str, *, plain: bool = False, threads: int | None = None
) -> Ladder | None:
    """All rates of a model that has a bundle of variable rate; ``None`` if torch has to code.

    Args:
        model, metric, plain, threads: as for :func:`chosen_bundle`.

    Raises:
        BundleError, ImportError: as :func:`chosen_bundle`.
    """
    if not has_all_rates(model, metric):
        return None
    choose = partial(_chosen_or_refused, model, metric, plain, threads)
    try:
        return Ladder(choose, None)
    except _NoBundleError:
        return None


def _chosen_or_refused(
    model: str, metric: str, plain: bool, threads: int | None, quality: float | None
) -> ChosenModel:
    """As :func:`chosen_bundle`; raises instead of giving ``None``."""
    found = chosen_bundle(
        *(model, quality, metric), default_quality=0, plain=plain, threads=threads
    )
    if found is None:
        raise _NoBundleError
    return found


def rates_of(net: Any) -> Sequence[float] | None:
    """The qualities of a model of variable rate.

    Args:
        net: any model, of torch or a bundle.

    Returns:
        The levels from 1, a range; the whole numbers of a scale, floats; ``None`` for other models.
    """
    scale = getattr(net, "quality_range", None)
    if scale is not None:
        return tuple(float(q) for q in range(math.ceil(scale[0]), math.floor(scale[1]) + 1))
    levels = getattr(net, "levels", None)
    return None if levels is None else range(1, levels + 1)


class Ladder:
    """The rates that a model can code at, each loaded when it is asked for.

    Args:
        choose: loads the model for a quality.
        qualities: those that there are, ascending; ``None`` for the levels of the network that
            ``choose`` gives for ``None``.

    Attributes:
        model: its name.
        qualities: those that there are; of a scale, the whole numbers, as floats.
        is_scale: whether all that lies between them is there too.

    Raises:
        ValueError: there is only one rate.
    """

    def __init__(
        self, choose: Callable[[int | None], ChosenModel], qualities: Sequence[float] | None
    ) -> None:
        self._choose = choose
        self._lock = threading.Lock()
        self._chosen: dict[int | None, ChosenModel] = {}
        first = self._load(qualities[0] if qualities else None)
        self.model = first.model
        rates = rates_of(first.net)
        self.is_scale = rates is not None and not isinstance(rates, range)
        self._whole = None if rates is None else first
        qualities = qualities if rates is None else rates
        if not qualities or len(qualities) < 2:
            raise ValueError(
                f"a target needs a model with several rates, and {self.model} has one here"
            )
        self.qualities = tuple(qualities)

    def choose(self, quality: float) -> ChosenModel:
        """The model for a quality.

        Raises:
            ValueError: there is no such quality.
        """
        if not self._has(quality):
            raise ValueError(
                f"quality of {self.model} must be in {self.qualities[0]} ... {self.qualities[-1]}, "
                f"got {quality}"
            )
        if self._whole is not None:
            return dataclasses.replace(self._whole, quality=quality)
        return self._load(quality)

    def of_image(self, coded: CodedImage) -> ChosenModel | None:
        """The model for the quality that a coded image tells; ``None`` if it is none of these."""
        return self.choose(coded.quality) if self._has(coded.quality) else None

    def _has(self, quality: float | None) -> bool:
        if self.is_scale and quality is not None:
            return self.qualities[0] <= quality <= self.qualities[-1]
        return quality in self.qualities

    def _load(self, quality: float | None) -> ChosenModel:
        with self._lock:
            if quality not in self._chosen:
                self._chosen[quality] = self._choose(quality)
            return self._chosen[quality]
