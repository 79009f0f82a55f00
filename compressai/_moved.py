# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Import paths of earlier versions, and of releases of CompressAI after 1.2.8, that still work.

An old path gives the very module that is at the new one, when it is imported. This is the only list
of such paths; nothing inside the library uses them.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType

__all__ = ["MOVED", "install"]

MOVED = {
    "compressai.bitstream.picture": "compressai.bitstream.image",
    "compressai.bitstream.video": "compressai.bitstream.video_container",
    "compressai.evaluation.pictures": "compressai.evaluation.image_files",
    "compressai.evaluation.video": "compressai.evaluation.frames",
    "compressai.inference.integer": "compressai.models.integer.quantize",
    "compressai.layers.integer": "compressai.models.integer.layers",
    "compressai.losses.video": "compressai.losses.frame_groups",
    "compressai.models.lite_integer": "compressai.models.integer.lite",
    "compressai.models._helpers.inference": "compressai.models._helpers.sizes",
    # Where CompressAI has them after June 2026.
    "compressai.models._helpers.slice_helpers": "compressai.latent_codecs._slice_helpers",
    "compressai.training.pictures": "compressai.training.images",
    "compressai.weights": "compressai.model_choice",
}
"""New paths of modules by old ones."""


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        return importlib.machinery.ModuleSpec(name, self) if name in MOVED else None

    def exec_module(self, module: ModuleType) -> None:
        # The import system takes what stands here afterwards in place of the empty module.
        sys.modules[module.__name__] = importlib.import_module(MOVED[module.__name__])


def install() -> None:
    """Have imports of old paths succeed."""
    # First, as an editable install may still look for the files where they were.
    sys.meta_path.insert(0, _Finder())
