# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The object by which an entropy model reaches an entropy coder.

It stands for a coder by name, so that entropy models can be copied and pickled although native
encoder and decoder objects cannot.
"""

from __future__ import annotations

from typing import Any

from compressai import ans
from compressai._entropy_coder import available_entropy_coders, get_entropy_coder
from compressai.entropy_models._overrides import of_this_package

__all__ = ["EntropyCoder", "default_entropy_coder"]


def default_entropy_coder() -> str:
    """Name of the entropy coder that a new entropy model uses when it is given none."""
    return get_entropy_coder()


def _load(name: str) -> tuple[Any, Any]:
    if name == "ans":
        return ans.RansEncoder(), ans.RansDecoder()
    # A package of its own, which few have.
    import range_coder

    return range_coder.RangeEncoder(), range_coder.RangeDecoder()


@of_this_package
class EntropyCoder:
    """Encoder and decoder of one entropy coder.

    Args:
        name: one of :func:`compressai.available_entropy_coders`; ``None`` selects the default of
            the package at this moment.

    Attributes:
        name: the coder's name.

    Raises:
        ValueError: ``name`` is not a string, or names no available coder.
    """

    def __init__(self, name: str | None = None) -> None:
        name = default_entropy_coder() if name is None else name
        if not isinstance(name, str) or name not in available_entropy_coders():
            raise ValueError(
                f"entropy_coder must be one of {available_entropy_coders()}, got {name!r}"
            )
        self.name = name
        self._encoder, self._decoder = _load(name)

    def encode_with_indexes(self, *args: Any, **kwargs: Any) -> bytes:
        """Code symbols into one string; see ``compressai.ans.RansEncoder``."""
        return self._encoder.encode_with_indexes(*args, **kwargs)

    def decode_with_indexes(self, *args: Any, **kwargs: Any) -> Any:
        """Decode one string; see ``compressai.ans.RansDecoder``."""
        return self._decoder.decode_with_indexes(*args, **kwargs)

    def __reduce__(self) -> tuple[type[EntropyCoder], tuple[str]]:
        return type(self), (self.name,)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"
