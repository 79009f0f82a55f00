# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Models that live outside of this library: importing what the user names, so that they register.

Whatever registers a model (:func:`compressai.registry.register_model`) makes it known to every
command, engine and plugin. What is imported is named by the user alone: by ``--import`` on the
command line, by the environment variable ``COMPRESSAI_IMPORT``, or by installing a package with
entry points of the group ``compressai.models``. Files never name modules to import.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import threading
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from compressai.registry import ENTRIES, MODELS, ModelEntry, register_entry

__all__ = ["GROUP", "VARIABLE", "import_models", "load_extensions", "named_modules"]

VARIABLE = "COMPRESSAI_IMPORT"
"""Environment variable with modules to import, separated as in ``PATH``."""
GROUP = "compressai.models"
"""Group of entry points, each of a module to import or of something in one."""

_lock = threading.RLock()
_named: dict[str, ModuleType] = {}
_state = {"entry_points": False}


def import_models(names: Sequence[str]) -> None:
    """Import modules that register models; those that are imported already stay as they are.

    A model that is registered without a row gets one, of the defaults of its class.

    Args:
        names: dotted modules, or paths of ``.py`` files.

    Raises:
        ImportError: a module cannot be found or fails when it is imported; names it.
        ValueError: an empty name.
    """
    with _lock:
        for name in names:
            key = _absolute(name)
            if key in _named:
                continue
            # All models of this library, so that what is new is theirs.
            known = set(MODELS)
            _named[key] = _import(key)
            for model in MODELS.keys() - known - ENTRIES.keys():
                register_entry(ModelEntry(name=model, model=MODELS[model]))


def load_extensions(*, installed: bool = True) -> None:
    """Import what ``COMPRESSAI_IMPORT`` names, and entry points of installed packages; once.

    An entry point that fails gives a warning: the library works without.

    Args:
        installed: whether entry points are wanted.

    Raises:
        ImportError, ValueError: as :func:`import_models`, for the environment variable.
    """
    with _lock:
        names = os.environ.get(VARIABLE, "")
        if names:
            import_models([name for name in names.split(os.pathsep) if name])
        if _state["entry_points"] or not installed:
            return
        _state["entry_points"] = True
        # It takes a twentieth of a second to load.
        from importlib.metadata import entry_points

        for point in entry_points(group=GROUP):
            try:
                import_models([point.module])
            except Exception as error:  # Other people's packages fail in any way.
                warnings.warn(
                    f"models of the package {_package(point)} are not there: {error}", stacklevel=2
                )


def named_modules() -> list[str]:
    """What was imported, for processes that are started elsewhere: dotted names, whole paths."""
    with _lock:
        return list(_named)


def _package(point: object) -> str:
    return getattr(getattr(point, "dist", None), "name", None) or getattr(point, "name", "")


def _is_path(name: str) -> bool:
    return name.endswith(".py") or os.sep in name


def _absolute(name: str) -> str:
    if not name:
        raise ValueError("a module to import must have a name, got ''")
    return str(Path(name).expanduser().resolve()) if _is_path(name) else name


def _import(name: str) -> ModuleType:
    try:
        return _import_file(Path(name)) if _is_path(name) else importlib.import_module(name)
    except ImportError as error:
        raise ImportError(f"{name} cannot be imported: {error}") from error
    except Exception as error:  # It is a program, and may do anything.
        raise ImportError(f"{name} cannot be imported: {type(error).__name__}: {error}") from error


def _import_file(path: Path) -> ModuleType:
    """Import a file as a module of its stem, so that checkpoints can name its classes."""
    if not path.is_file():
        raise ImportError("there is no such file")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ImportError("it is no Python file")
    other = sys.modules.get(path.stem)
    if other is not None:
        if Path(getattr(other, "__file__", None) or "").resolve() == path:
            return other
        raise ImportError(f"another module is called {path.stem}: rename the file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[path.stem]
        raise
    return module
