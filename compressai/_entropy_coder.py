# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Which entropy coder a new entropy model uses: the process-wide default and the names on offer."""

from __future__ import annotations

import importlib.util

__all__ = ["available_entropy_coders", "get_entropy_coder", "set_entropy_coder"]

_available = ["ans"]
if importlib.util.find_spec("range_coder") is not None:
    _available.append("rangecoder")
_default = "ans"


def available_entropy_coders() -> list[str]:
    """Names of the entropy coders that can be used.

    Returns:
        ``["ans"]``, and ``"rangecoder"`` too where the optional package ``range_coder`` is
        installed.
    """
    return _available


def get_entropy_coder() -> str:
    """Name of the entropy coder that newly built entropy models use (``"ans"`` at start)."""
    return _default


def set_entropy_coder(entropy_coder: str) -> None:
    """Set the entropy coder of entropy models built from now on; existing ones keep theirs.

    Args:
        entropy_coder: one of :func:`available_entropy_coders`.

    Raises:
        ValueError: for any other name.
    """
    global _default
    if entropy_coder not in _available:
        raise ValueError(f"entropy_coder must be one of {_available}, got {entropy_coder!r}")
    _default = entropy_coder
