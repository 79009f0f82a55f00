# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Names of models, with the configurations and weights that were published for them.

Each row (:class:`~compressai.registry.ModelEntry`) has a function here, with ``_`` for ``-``:
``compressai.zoo.mbt2018_mean(quality=3)``; so has each that is registered later.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from compressai._lazy import lazy_names
from compressai.zoo.names import zoo_names

if TYPE_CHECKING:
    # For whom reads this without running it; what __all__ has besides is made when it is asked for.
    from compressai.zoo.build import image_models as image_models
    from compressai.zoo.build import models as models
    from compressai.zoo.build import video_models as video_models
    from compressai.zoo.pretrained import load_pretrained

    load_state_dict = load_pretrained

_getattr, _dir = lazy_names(
    __name__,
    {
        "build": "image_models models video_models",
        "pretrained": "load_state_dict=load_pretrained",
    },
    modules=["defaults", "image", "image_vbr", "installed", "video", "weights"],
)


def __getattr__(name: str) -> Any:
    if name == "__all__":
        # Read off sources, which takes longer than what programs mostly want of this package.
        rows = [row.replace("-", "_") for names in zoo_names() for row in names]
        return ["image_models", "load_state_dict", "models", "video_models", *rows]
    try:
        return _getattr(name)
    except AttributeError:
        # Special names, which Python itself looks for, are of no model.
        if name.startswith("__"):
            raise
    # Or of weights that somebody installed under a name of their own.
    importlib.import_module("compressai.zoo.installed").enter_installed()
    build = importlib.import_module("compressai.zoo.build")
    return build.zoo_function(__name__, name, build.models)


def __dir__() -> list[str]:
    build = importlib.import_module("compressai.zoo.build")
    return sorted({*_dir(), *(build.entry_of(name).function for name in build.models)})
