# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Where pretrained weights come from: a local folder, and a mirror if one is named.

The library knows the file names of published weights, and with them the start of each file's
SHA-256, but no server. Files are looked for in the weights folder; ``COMPRESSAI_WEIGHTS_URL`` may
name a place to fetch missing ones from.
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

__all__ = ["load_weights", "published_weights", "weights_folder"]

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
