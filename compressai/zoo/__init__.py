# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Names of models, with the configurations and weights that were published for them.

Each row (:class:`~compressai.registry.ModelEntry`) has a function here, with ``_`` for ``-``:
``compressai.zoo.mbt2018_mean(quality=3)``; so has each that is registered later.
"""

from __future__ import annotations

from typing import Any

from compressai.registry import ENTRIES
from compressai.zoo import image, image_vbr, video  # noqa: F401  (attributes of the zoo)
from compressai.zoo.build import image_models, models, video_models, zoo_function
from compressai.zoo.pretrained import load_pretrained as load_state_dict

__all__ = ["image_models", "load_state_dict", "models", "video_models"]
__all__ += [ENTRIES[name].function for name in models]


def __getattr__(name: str) -> Any:
    return zoo_function(__name__, name, models)


def __dir__() -> list[str]:
    return sorted({*globals(), *(ENTRIES[name].function for name in models)})
