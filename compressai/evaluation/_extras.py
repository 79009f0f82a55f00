# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Optional packages, imported when they are needed and not before."""

from __future__ import annotations

import importlib
from types import ModuleType

from compressai._distribution import install_command

__all__ = ["require"]


def require(module: str, extra: str, purpose: str) -> ModuleType:
    """Import a module of an optional package.

    Args:
        module: such as ``matplotlib.figure``.
        extra: the extra of this project that brings it.
        purpose: what it is needed for, to begin a sentence with.

    Returns:
        The module.

    Raises:
        ImportError: it is not installed; names the command that installs it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        if error.name is None or error.name.partition(".")[0] != package:
            raise
        raise ImportError(
            f"{purpose} needs {package}, which is not installed: {install_command(extra)}"
        ) from error
