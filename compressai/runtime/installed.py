# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Bundles that are at hand, by the model that files name: installed ones, and those of recipes."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from compressai._files import weights_folder
from compressai.runtime.bundle import Bundle
from compressai.runtime.model import RuntimeModel
from compressai.runtime.recipe import bundle_by_recipe, recipe_qualities

__all__ = [
    "SHIPPED",
    "bundle_file",
    "bundle_of_file",
    "installed_bundle",
    "installed_qualities",
    "recipe_file",
]

SHIPPED = Path(__file__).parents[1] / "zoo" / "shipped"
"""The weights that come with the library."""

_lock = threading.Lock()
_loaded: dict[tuple[Path, int, float | None, int | None], RuntimeModel] = {}
# So many stay in memory.
_MOST = 4


def bundle_file(model: str, quality: float | None, metric: str | None) -> Path:
    """Where a bundle is looked for: in the folder ``bundles`` of the weights folder.

    Args:
        model, quality, metric: what the header of a coded image says; ``quality`` is ``None`` for
            the place of a bundle of variable rate.
    """
    rate = "" if quality is None else f"-{quality}"
    return weights_folder() / "bundles" / f"{_plain(model)}-{metric or 'mse'}{rate}.caibundle"


def recipe_file(model: str, metric: str | None) -> Path:
    """Where the recipe of weights that ship is.

    Args:
        model, metric: as for :func:`bundle_file`.
    """
    return SHIPPED / f"{_plain(model)}-{metric or 'mse'}.cairecipe"


def _plain(name: str) -> str:
    # A name comes from a file that anybody may have made: it must not lead elsewhere.
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in name)


def installed_bundle(
    model: str, quality: float | None, metric: str | None, *, threads: int | None = None
) -> RuntimeModel | None:
    """The model in a bundle, kept for the next call; ``None`` if there is none.

    Looked for at :func:`bundle_file`, with the quality and without; then it is made by a recipe
    that comes with the library.

    Args:
        model, quality, metric: as for :func:`bundle_file`.
        threads: of one network, see :class:`RuntimeModel`.

    Raises:
        BundleError: the file is damaged, of another version, or of another model.
        ImportError: onnxruntime is missing.
    """
    # The library's own weights first, as for torch: files that were coded with them must decode.
    own = recipe_file(model, metric)
    for path in (own, bundle_file(model, quality, metric), bundle_file(model, None, metric)):
        try:
            version = path.stat().st_mtime_ns
        except OSError:
            continue
        with _lock:
            # Of variable rate, one serves all qualities.
            for rate in (None, quality) if path == own else (None,):
                if (path, version, rate, threads) in _loaded:
                    return _loaded[path, version, rate, threads]
            bundle = bundle_by_recipe(path, quality, SHIPPED) if path == own else Bundle.read(path)
            if bundle is None:
                continue
            if len(_loaded) >= _MOST:
                _loaded.pop(next(iter(_loaded)))
            made = RuntimeModel(bundle, threads=threads)
            rate = made.identity.quality if path == own else None
            _loaded[path, version, rate, threads] = made
            return made
    return None


def installed_qualities(model: str, metric: str | None) -> list[int] | None:
    """The qualities of a model whose bundles are all at hand.

    Args:
        model, metric: as for :func:`bundle_file`.

    Returns:
        Those of the weights that come with the library; an empty list for one bundle of variable
        rate; ``None`` for other models, whose bundles may be there for some qualities only.

    Raises:
        BundleError: a recipe is damaged.
    """
    own = recipe_file(model, metric)
    if own.is_file():
        return [quality for quality in recipe_qualities(own) if quality is not None]
    return [] if bundle_file(model, None, metric).is_file() else None


def bundle_of_file(coded: Any, *, threads: int | None = None) -> RuntimeModel | None:
    """The model in a bundle that decodes a file; ``None`` if torch has to.

    Args:
        coded: a :class:`~compressai.bitstream.CodedImage`.
        threads: of one network, see :class:`RuntimeModel`.

    Raises:
        BundleError: as :func:`installed_bundle`.
    """
    if coded.random_weights or coded.version < 2:
        return None
    try:
        found = installed_bundle(coded.model, coded.quality, coded.metric, threads=threads)
    except ImportError:
        return None
    if found is None or not (coded.sync_safe or found.exact):
        return None
    fits = found.bundle.fingerprints.get(coded.version) == coded.fingerprint
    return found if fits else None
