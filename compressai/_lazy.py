# SPDX-License-Identifier: BSD-3-Clause-Clear
"""What is imported when it is first asked for: names of packages (PEP 562), contents of tables.

A package that lists its names here imports none of its files, so that who wants to know the size of
a coded image does not wait for torch. Type checkers see the same names by imports below
``if TYPE_CHECKING``, which tests/test_lazy.py compares with the lists.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, TypeVar

__all__ = ["LazyTable", "lazy_names"]

V = TypeVar("V")


def lazy_names(
    package: str,
    names: Mapping[str, str],
    modules: Iterable[str] = (),
    renamed: Mapping[str, str] = MappingProxyType({}),
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The ``__getattr__`` and ``__dir__`` of a package whose files are imported on first use.

    Args:
        package: its name.
        names: by file of the package, the names that the package has from it, separated by blanks;
            ``name=other`` gives what the file calls ``other``. No name is that of a file, which
            would take its place when it is imported.
        modules: files and packages below it that are attributes of it, too.
        renamed: new names by old ones, which are not listed.

    Returns:
        Both functions, to be called so in the package.
    """
    places: dict[str, tuple[str, str]] = {}
    for module, listed in names.items():
        for item in listed.split():
            name, _, other = item.partition("=")
            places[name] = (f"{package}.{module}", other or name)
    below = frozenset((*names, *modules))

    def __getattr__(name: str) -> Any:
        if name in places:
            module, other = places[name]
            value = getattr(importlib.import_module(module), other)
            setattr(sys.modules[package], name, value)
            return value
        if name in renamed:
            return __getattr__(renamed[name])
        if name in below:
            return importlib.import_module(f"{package}.{name}")
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*vars(sys.modules[package]), *places, *below})

    return __getattr__, __dir__


class LazyTable(dict[str, V]):
    """A dictionary that modules of this library fill when they are imported: on first look-up.

    What others put into it is put into the full table, so that theirs is the last word.

    Args:
        sources: the modules, by their dotted names.
    """

    def __init__(self, *sources: str) -> None:
        super().__init__()
        self._sources = sources

    def fill(self) -> None:
        """Import the modules. While one is being imported, the table is what it is by then."""
        for source in self._sources:
            # Costs nothing the second time, and waits for a thread that is at it.
            importlib.import_module(source)

    def register(self, key: str, value: V, origin: str | None) -> V | None:
        """Store a value.

        Args:
            key: its name.
            value: what is stored.
            origin: module that defines it. Those of this library are not told by the table, but
                tell it.

        Returns:
            What had the name before; ``None`` if nothing had.
        """
        if (origin or "").partition(".")[0] != __package__:
            self.fill()
        before = dict.get(self, key)
        dict.__setitem__(self, key, value)
        return before

    # dict's own methods would show a table that is not filled yet.

    def __getitem__(self, key: str) -> V:
        self.fill()
        return super().__getitem__(key)

    def __setitem__(self, key: str, value: V) -> None:
        self.fill()
        super().__setitem__(key, value)

    def __delitem__(self, key: str) -> None:
        self.fill()
        super().__delitem__(key)

    def __contains__(self, key: object) -> bool:
        self.fill()
        return super().__contains__(key)

    def __iter__(self) -> Iterator[str]:
        self.fill()
        return super().__iter__()

    def __reversed__(self) -> Iterator[str]:
        self.fill()
        return super().__reversed__()

    def __len__(self) -> int:
        self.fill()
        return super().__len__()

    def __repr__(self) -> str:
        self.fill()
        return super().__repr__()

    def __eq__(self, other: object) -> bool:
        self.fill()
        return super().__eq__(other)

    def __ne__(self, other: object) -> bool:
        self.fill()
        return super().__ne__(other)

    __hash__ = None  # type: ignore[assignment]

    def __or__(self, other: Any) -> Any:
        return self.copy() | other

    def __ror__(self, other: Any) -> Any:
        return other | self.copy()

    def __ior__(self, other: Any) -> Any:
        self.fill()
        return super().__ior__(other)

    def __reduce__(self) -> Any:
        return dict, (self.copy(),)

    def get(self, key: str, default: Any = None) -> Any:
        self.fill()
        return super().get(key, default)

    def keys(self) -> Any:
        self.fill()
        return super().keys()

    def values(self) -> Any:
        self.fill()
        return super().values()

    def items(self) -> Any:
        self.fill()
        return super().items()

    def copy(self) -> dict[str, V]:
        """A plain dictionary of what is in the table."""
        self.fill()
        return super().copy()

    def pop(self, *arguments: Any) -> Any:
        self.fill()
        return super().pop(*arguments)

    def popitem(self) -> tuple[str, V]:
        self.fill()
        return super().popitem()

    def setdefault(self, key: str, default: Any = None) -> Any:
        self.fill()
        return super().setdefault(key, default)

    def update(self, *arguments: Any, **items: Any) -> None:
        self.fill()
        super().update(*arguments, **items)

    def clear(self) -> None:
        self.fill()
        super().clear()
