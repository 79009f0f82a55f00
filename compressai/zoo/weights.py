# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Where pretrained weights come from: a local folder, and a mirror if one is named.

The library knows the file names of published weights, and with them the start of each file's
SHA-256, but no server. Files are looked for in the weights folder; ``COMPRESSAI_WEIGHTS_URL`` may
name a place to fetch missing ones from. Weights that ``compressai convert --install`` made are in
the same folder, as ``ARCHITECTURE-METRIC-QUALITY-HASH.safetensors``; those that ship with the
library have such names, too, and lie beside this module.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from compressai._files import atomic_write

__all__ = [
    "install_weights",
    "installed_weights",
    "load_installed",
    "load_weights",
    "published_weights",
    "weights_at_hand",
    "weights_folder",
    "weights_status",
]

_HASH_DIGITS = 8
_SHIPPED = Path(__file__).with_name("shipped")
_HASH = re.compile(r"-([0-9a-f]{8,})\.")


def weights_folder() -> Path:
    """The folder for weights: ``$COMPRESSAI_HOME``, else ``compressai`` in the user's cache."""
    home = os.environ.get("COMPRESSAI_HOME")
    if home:
        return Path(home).expanduser()
    cache_home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache_home).expanduser() / "compressai"


@cache
def published_weights() -> Mapping[str, Mapping[str, Mapping[str, str]]]:
    """File names of published weights: ``{architecture: {metric: {quality: name}}}``."""
    path = Path(__file__).with_name("published_weights.json")
    return json.loads(path.read_text(encoding="utf-8"))


def weights_status(architecture: str, metric: str, quality: int) -> str | None:
    """Where weights of a zoo entry are.

    Returns:
        ``"shipped"``: they come with the library. ``"installed"``: in the weights folder.
        ``"published"``: the library knows their name, but they are not there. ``None``: nobody
        published any.

    Raises:
        RuntimeError: several were installed.
    """
    files = published_weights().get(architecture, {}).get(metric, {})
    # Variable-rate models have one file for all qualities.
    name = files.get(str(quality), files.get("-"))
    if name is None:
        file = installed_weights(architecture, metric, quality)
        return None if file is None else "shipped" if file.parent == _SHIPPED else "installed"
    return "installed" if (weights_folder() / name).exists() else "published"


def weights_at_hand(architecture: str, metric: str, quality: int) -> bool:
    """Whether ``pretrained=True`` has a chance: a file is there, or a mirror may have it.

    Raises:
        RuntimeError: several were installed.
    """
    status = weights_status(architecture, metric, quality)
    if status == "published":
        return bool(os.environ.get("COMPRESSAI_WEIGHTS_URL"))
    return status is not None


def load_weights(file_name: str, progress: bool = True) -> Mapping[str, Tensor]:
    """Load a weights file by its published name, after checking it against the hash in the name.

    Args:
        file_name: such as ``mbt2018-mean-3-723404a8.pth.tar``.
        progress: show the progress of a download.

    Returns:
        The state dict, on the CPU.

    Raises:
        RuntimeError: the file is not there, or its hash differs.
    """
    path = weights_folder() / file_name
    mirror = os.environ.get("COMPRESSAI_WEIGHTS_URL")
    if not path.is_file() and mirror:
        return torch.hub.load_state_dict_from_url(
            f"{mirror.rstrip('/')}/{file_name}",
            model_dir=str(weights_folder()),
            map_location="cpu",
            progress=progress,
            check_hash=True,
            weights_only=True,
        )
    if not path.is_file():
        raise RuntimeError(
            f"pretrained weights {file_name} are not available: put the file into "
            f"{weights_folder()} (set COMPRESSAI_HOME for another folder), or set "
            "COMPRESSAI_WEIGHTS_URL to where it can be fetched from"
        )
    check_hash(path)
    return load_file(path)


def installed_weights(architecture: str, metric: str, quality: int) -> Path | None:
    """The file that ships with the library or that :func:`install_weights` made, or ``None``.

    Raises:
        RuntimeError: there are several.
    """
    pattern = f"{architecture}-{metric}-{quality}-*.safetensors"
    # Files that were coded with what ships must decode, whatever lies in the weights folder.
    found = sorted(_SHIPPED.glob(pattern)) or sorted(weights_folder().glob(pattern))
    if len(found) > 1:
        raise RuntimeError(
            f"there are several weights of {architecture}, metric {metric}, quality {quality}: "
            f"{', '.join(map(str, found))}; delete all but one"
        )
    return found[0] if found else None


def load_installed(architecture: str, metric: str, quality: int) -> Mapping[str, Tensor]:
    """Load installed weights, after checking them against the hash in the name.

    Returns:
        The state dict, on the CPU.

    Raises:
        RuntimeError: there are none or several, or the hash differs.
    """
    path = installed_weights(architecture, metric, quality)
    if path is None:
        raise RuntimeError(
            f"no weights of {architecture}, metric {metric}, quality {quality} are in "
            f"{weights_folder()}"
        )
    check_hash(path)
    return load_file(path)


def install_weights(
    content: bytes, architecture: str, metric: str, quality: int, *, overwrite: bool = False
) -> Path:
    """Put weights into the weights folder, for ``pretrained=True`` to find.

    Args:
        content: a safetensors file.
        architecture, metric, quality: what they are for.
        overwrite: replace others that are installed for the same.

    Returns:
        Path of the file.

    Raises:
        FileExistsError: there are others.
    """
    digest = hashlib.sha256(content).hexdigest()[:_HASH_DIGITS]
    prefix = f"{architecture}-{metric}-{quality}-"
    path = weights_folder() / f"{prefix}{digest}.safetensors"
    others = [p for p in weights_folder().glob(f"{prefix}*.safetensors") if p != path]
    if others and not overwrite:
        raise FileExistsError(
            f"other weights of {architecture}, metric {metric}, quality {quality} are installed "
            f"already ({others[0]}); overwrite replaces them"
        )
    weights_folder().mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as unfinished:
        unfinished.write_bytes(content)
    for other in others:
        other.unlink()
    return path


def check_hash(path: Path) -> None:
    """Compare a file with the start of its SHA-256 that its name carries.

    Raises:
        RuntimeError: they differ, or the name carries none.
    """
    match = _HASH.search(path.name)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if not match or not digest.startswith(match[1]):
        raise RuntimeError(
            f"{path} is damaged or was renamed: its SHA-256 does not start with the digits in "
            "its name; delete it and get it again"
        )


def load_file(path: Path) -> Any:
    """Load a state dict or checkpoint from a safetensors or PyTorch file, running no code in it."""
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file as load_safetensors

        return load_safetensors(path)
    return torch.load(path, map_location="cpu", weights_only=True)
