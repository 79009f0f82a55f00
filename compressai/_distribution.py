# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Under which name pip knows this library.

The package that programs import is ``compressai``. The distribution of that name in the package
index is another project, so that a message which names it would have people install that one.
"""

from __future__ import annotations

__all__ = ["DISTRIBUTION", "install_command"]

DISTRIBUTION = "compressai-torch"


def install_command(extra: str) -> str:
    """The command that installs an optional part of the library, to be copied into a shell.

    Args:
        extra: name of the part, such as ``plot``.

    Returns:
        Quoted, since zsh takes brackets for a pattern of file names.
    """
    return f"pip install '{DISTRIBUTION}[{extra}]'"
