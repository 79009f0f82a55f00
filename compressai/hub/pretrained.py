# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Models from sources, and models into folders."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from compressai.checkpoint import load_checkpoint, save_checkpoint
from compressai.hub.index import Published, describe_file, write_index
from compressai.hub.sources import open_source
from compressai.models.base import CompressionModel
from compressai.registry import ENTRIES

__all__ = ["from_pretrained", "save_pretrained"]


def from_pretrained(
    source: str | os.PathLike[str],
    *,
    quality: float | None = None,
    metric: str | None = None,
    revision: str | None = None,
    device: str = "cpu",
    kind: type[nn.Module] = nn.Module,
) -> CompressionModel:
    """The model of a source, ready to code.

    Args:
        source: path, ``file://``, ``https://`` or ``hf://``, of a folder or of a checkpoint.
        quality, metric: which weights, where the folder has several.
        revision: of a hub: branch, tag or commit.
        device: where the model goes.
        kind: class that it must be of.

    Returns:
        The model, in evaluation mode, tables built.

    Raises:
        FileNotFoundError: there is nothing.
        ImportError: the extra ``hub`` is not installed.
        OSError: it cannot be fetched.
        ValueError: it is damaged, says not which model it is of, or is of another class.
    """
    opened = open_source(source, revision=revision)
    published = opened.index()
    if published is not None:
        path = opened.file(published.choose(quality, metric))
    elif (quality, metric) == (None, None):
        path = opened.checkpoint()
    else:
        raise ValueError(f"{opened.name} is one file: quality and metric choose of a folder")
    net = load_checkpoint(path, device=device)
    if not isinstance(net, kind):
        raise ValueError(
            f"{os.fspath(source)} is of {type(net).__name__}, which is no {kind.__name__}"
        )
    return net


def save_pretrained(
    net: nn.Module,
    folder: str | os.PathLike[str],
    *,
    architecture: str | None = None,
    arguments: Mapping[str, Any] | None = None,
    quality: float | None = None,
    metric: str | None = None,
    licence: str = "",
    replace: bool = True,
) -> Path:
    """Write a model into a folder that :func:`from_pretrained` takes.

    The folder has weights and index. ``compressai weights publish`` adds what others have to know:
    a model card, the licence, and what was measured.

    Args:
        net: the model.
        folder: where to; made if it does not exist.
        architecture, arguments: as for :func:`compressai.checkpoint.save_checkpoint`; without
            them, what the model knows of itself, and sizes are read off the weights.
        quality, metric: what the weights are for.
        licence: of the weights, an SPDX name.
        replace: whether files of the same name are replaced.

    Returns:
        The file of weights.

    Raises:
        FileExistsError: one exists and is not to be replaced.
        ValueError: the architecture is not known, or cannot be rebuilt.
    """
    folder = Path(folder)
    identity = getattr(net, "identity", None)
    name = architecture or (identity.model if identity else None)
    if name is None:
        raise ValueError(
            f"architecture must be given for this {type(net).__name__}, which neither the zoo nor "
            "compressai.load() has made"
        )
    if identity is not None:
        quality = identity.quality if quality is None else quality
        metric = metric or identity.metric
    entry = ENTRIES.get(name)
    if entry is not None and entry.variable_rate:
        quality = None
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "model.safetensors"
    lmbda = getattr(net, "lmbda", None)
    save_checkpoint(
        path,
        net,
        architecture=name,
        arguments=arguments or {},
        lmbda=lmbda if isinstance(lmbda, float) else None,
        metric=metric,
        extra={"quality": quality, "licence": licence},
        replace=replace,
    )
    index = Published(name, name, licence, (describe_file(path, metric or "mse", quality),))
    write_index(folder, index, replace=replace)
    return path
