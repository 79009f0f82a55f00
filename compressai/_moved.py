# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Import paths and names of earlier versions, and of CompressAI after 1.2.8, that still work.

An old path gives the very module that is at the new one, when it is imported; an old name the very
object that has the new one. This is the only list of both; nothing inside the library uses them.
"""

from __future__ import annotations

import functools
import importlib
import importlib.machinery
import sys
import warnings
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, TypeVar, cast

__all__ = [
    "DEPRECATED",
    "MOVED",
    "RENAMED",
    "deprecated_names",
    "install",
    "old_arguments",
    "old_names",
]

F = TypeVar("F", bound=Callable[..., Any])

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

_IMAGE = {
    "PICTURE_SUFFIXES": "IMAGE_SUFFIXES",
    "Picture": "ImageData",
    "check_picture_file": "check_image_file",
    "read_picture": "read_image",
    "save_picture": "save_image",
}
RENAMED = {
    "compressai.bitstream": {
        **_IMAGE,
        "CodedPicture": "CodedImage",
        "NotACodedPictureError": "NotACodedImageError",
        "decode_picture": "decode_image",
        "encode_picture": "encode_image",
    },
    "compressai.bitstream.container": {"CodedPicture": "CodedImage"},
    "compressai.bitstream.decoding": {"decode_picture": "decode_image"},
    "compressai.bitstream.encoding": {"encode_picture": "encode_image"},
    "compressai.bitstream.errors": {"NotACodedPictureError": "NotACodedImageError"},
    "compressai.bitstream.image": _IMAGE,
    "compressai.convert": {"smoke_picture": "smoke_image"},
    "compressai.evaluation": {
        "EmbeddedPicture": "EmbeddedImage",
        "evaluate_picture": "evaluate_image",
        "find_pictures": "find_images",
    },
    # Of CompressAI after June 2026.
    "compressai.models.mlic": {"_BaseMLIC": "BaseMLIC"},
}
"""New names by old ones, by the module that has them."""

_ATTENTION = {"Win_noShift_Attention": "WinNoShiftAttention"}
_DICTIONARY = {"MutiScaleDictionaryCrossAttentionGLU": "MultiScaleDictionaryCrossAttentionGLU"}
DEPRECATED = {
    "compressai.layers.attn": {**_ATTENTION, **_DICTIONARY},
    "compressai.layers.attn.dictionary": _DICTIONARY,
    "compressai.layers.attn.swin": _ATTENTION,
}
"""As :data:`RENAMED`, of names that warn, as upstream's do."""


class _Finder:
    """Finds and loads. The classes that importlib has for both load much that nobody needs here."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        loader = cast(Any, self)
        return importlib.machinery.ModuleSpec(name, loader) if name in MOVED else None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> None:
        """None: an empty module, as by default."""

    def exec_module(self, module: ModuleType) -> None:
        # The import system takes what stands here afterwards in place of the empty module.
        sys.modules[module.__name__] = importlib.import_module(MOVED[module.__name__])


def old_names(module: str) -> Callable[[str], Any]:
    """The ``__getattr__`` of a module that gives what :data:`RENAMED` has of it."""

    def __getattr__(name: str) -> Any:
        if name in RENAMED[module]:
            return getattr(sys.modules[module], RENAMED[module][name])
        raise AttributeError(f"module {module!r} has no attribute {name!r}")

    return __getattr__


def deprecated_names(module: str) -> Callable[[str], Any]:
    """The ``__getattr__`` of a module that gives what :data:`DEPRECATED` has of it, and warns."""

    def __getattr__(name: str) -> Any:
        new = DEPRECATED[module].get(name)
        if new is None:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        warnings.warn(f"{name} is now called {new}", DeprecationWarning, stacklevel=2)
        return getattr(sys.modules[module], new)

    return __getattr__


def old_arguments(**new: str) -> Callable[[F], F]:
    """Have a function take arguments by the names that they had at first.

    Args:
        new: today's names by old ones.
    """

    def decorate(function: F) -> F:
        @functools.wraps(function)
        def call(*arguments: Any, **named: Any) -> Any:
            return function(*arguments, **{new.get(name, name): named[name] for name in named})

        return cast(F, call)

    return decorate


def install() -> None:
    """Have imports of old paths succeed."""
    # First, as an editable install may still look for the files where they were.
    sys.meta_path.insert(0, _Finder())
