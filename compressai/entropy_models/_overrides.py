# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Which methods of an entropy model are somebody's own, so that coding must go by them.

The fast native ways do what the methods of this package do. They may be taken only where these are
unchanged: not overridden in a subclass, not replaced in the class and not set on the instance.
"""

from __future__ import annotations

import weakref
from typing import Any, TypeVar

__all__ = ["CODING_METHODS", "of_this_package", "overridden"]

# What the native way to code a latent with predicted scales stands for.
CODING_METHODS = (
    *("quantize", "dequantize", "build_indexes", "compress", "decompress"),
    *("compress_and_quantize", "_encode", "_decode", "_symbols", "_code"),
)

Class = TypeVar("Class", bound=type)

# What a class of this package defined when it was made.
_originals: weakref.WeakKeyDictionary[type, dict[str, Any]] = weakref.WeakKeyDictionary()
# For a class and names: its attributes when it was looked at, and which of them are not ours.
_known: weakref.WeakKeyDictionary[type, dict[tuple[str, ...], tuple[list[Any], frozenset[str]]]] = (
    weakref.WeakKeyDictionary()
)


def of_this_package(cls: Class) -> Class:
    """Decorate a class whose methods the native ways may stand for."""
    _originals[cls] = dict(vars(cls))
    return cls


def overridden(instance: Any, names: tuple[str, ...]) -> frozenset[str]:
    """The methods among ``names`` that are not those of this package.

    Args:
        instance: of a class that is marked with :func:`of_this_package`, or of a subclass.
        names: names of methods; always the same tuple at one place, since what a class has is
            found out once for each.

    Returns:
        Names that a subclass, a change of the class or an attribute of the instance replaces.
    """
    cls = type(instance)
    known = _known.setdefault(cls, {})
    attributes = [getattr(cls, name, None) for name in names]
    cached = known.get(names)
    if cached is None or cached[0] != attributes:
        cached = (attributes, frozenset(name for name in names if not _is_original(cls, name)))
        known[names] = cached
    # The dictionary of an instance is looked at each time: anything may be set there, any time.
    own = vars(instance).keys() & names
    return cached[1] | own if own else cached[1]


def _is_original(cls: type, name: str) -> bool:
    for base in cls.__mro__:
        if name in vars(base):
            return _originals.get(base, {}).get(name) is vars(base)[name]
    return True
