# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Bundles that are at hand, by the model that files name: installed ones, and those of recipes."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from compressai._files import weights_folder
from compressai.runtime.bundle import Bundle
from compressai.runtime.model import RuntimeModel
from compressai.runtime.recipe import bundle_by_recipe

__all__ = [
    "SHIPPED",
    "bundle_file",
    "bundle_of_file",
    "has_all_rates",
    "installed_bundle",
    "recipe_file",
]

SHIPPED = Path(__file__).parents[1] / "zoo" / "shipped"
"""The weights that come with the library."""

_lock = threading.Lock()
_loaded: dict[tuple[Path, int, int | None], RuntimeModel] = {}
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

    Made by a recipe that comes with the library, or looked for at :func:`bundle_file`, with the
    quality and without.

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
            key = path, version, threads
            if key not in _loaded:
                if len(_loaded) >= _MOST:
                    _loaded.pop(next(iter(_loaded)))
                bundle = bundle_by_recipe(path, SHIPPED) if path == own else Bundle.read(path)
                _loaded[key] = RuntimeModel(bundle, threads=threads)
            return _loaded[key]
    return None


def has_all_rates(model: str, metric: str | None) -> bool:
    """Whether there is a bundle of variable rate, which serves all qualities of a model.

    Args:
        model, metric: as for :func:`bundle_file`.
    """
    return recipe_file(model, metric).is_file() or bundle_file(model, None, metric).is_file()


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
