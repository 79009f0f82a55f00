# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Bundles that are at hand, by the model that files name."""

from __future__ import annotations

import threading
from pathlib import Path

from compressai._files import weights_folder
from compressai.runtime.model import RuntimeModel

__all__ = ["bundle_file", "installed_bundle"]

_lock = threading.Lock()
_loaded: dict[tuple[Path, int], RuntimeModel] = {}
# So many stay in memory.
_MOST = 4


def bundle_file(model: str, quality: float | None, metric: str | None) -> Path:
    """Where a bundle is looked for: in the folder ``bundles`` of the weights folder.

    Args:
        model, quality, metric: what the header of a coded image says.
    """
    # A name comes from a file that anybody may have made: it must not lead elsewhere.
    plain = "".join(c if c.isalnum() or c in "-_." else "_" for c in model)
    return weights_folder() / "bundles" / f"{plain}-{metric or 'mse'}-{quality}.caibundle"


def installed_bundle(model: str, quality: float | None, metric: str | None) -> RuntimeModel | None:
    """The model in the bundle at that place, kept for the next call; ``None`` if there is none.

    Args:
        model, quality, metric: as for :func:`bundle_file`.

    Raises:
        BundleError: the file is damaged, of another version, or of another model.
        ImportError: onnxruntime is missing.
    """
    path = bundle_file(model, quality, metric)
    try:
        key = (path, path.stat().st_mtime_ns)
    except OSError:
        return None
    with _lock:
        if key not in _loaded:
            if len(_loaded) >= _MOST:
                _loaded.pop(next(iter(_loaded)))
            _loaded[key] = RuntimeModel(path)
        return _loaded[key]
