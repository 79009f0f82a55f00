# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Installing weights of a source under a name."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from compressai._weight_files import is_safetensors
from compressai.checkpoint import load_checkpoint, read_metadata, save_checkpoint
from compressai.hub.sources import open_source
from compressai.registry import ENTRIES, METRICS
from compressai.zoo import weights as zoo_weights
from compressai.zoo.installed import enter_installed

__all__ = ["add"]


def add(
    source: str | os.PathLike[str],
    *,
    model: str | None = None,
    quality: float | None = None,
    metric: str | None = None,
    revision: str | None = None,
    overwrite: bool = False,
) -> list[Path]:
    """Install weights under a name, for ``--model`` and for ``pretrained=True``.

    Args:
        source: as for :func:`open_source`.
        model: name to install under; by default that of the folder, or the architecture of the
            checkpoint. A name of its own becomes an entry of the zoo.
        quality: of a checkpoint, if it does not say; of a folder, which to take (default: all).
        metric: the same.
        revision: of a hub: branch, tag or commit.
        overwrite: replace other weights of the same name, metric and quality.

    Returns:
        The files in the weights folder.

    Raises:
        FileExistsError: there are others, or the name is one of a model that it is not of.
        ImportError, OSError, ValueError: as :func:`from_pretrained`; or the quality is not known.
    """
    opened = open_source(source, revision=revision)
    published = opened.index()
    if published is None:
        return [_add_file(opened.checkpoint(), model, quality, metric, overwrite)]
    chosen = [
        file
        for file in published.files
        if metric in (None, file.metric) and (quality is None or file.quality in (None, quality))
    ]
    if not chosen:
        published.choose(quality, metric)
    return [
        _add_file(
            opened.file(file),
            *(model or published.model, file.quality, file.metric, overwrite),
        )
        for file in chosen
    ]


def _add_file(
    path: Path, model: str | None, quality: float | None, metric: str | None, overwrite: bool
) -> Path:
    description = read_metadata(path)
    if description is None and model not in ENTRIES:
        raise ValueError(
            f"{path} does not say which model it is of: name it with --model, one of "
            f"{', '.join(ENTRIES)}"
        )
    architecture = str(model if description is None else description["architecture"])
    name = model or architecture
    # Also finds out whether the weights fit.
    net = load_checkpoint(path, architecture=None if description else architecture)
    told = description or {}
    if metric is None:
        metric = str(told["metric"]) if told.get("metric") in METRICS else METRICS[0]
    if quality is None:
        quality = (told.get("arguments") or {}).get("quality", told.get("extra", {}).get("quality"))
    variable = hasattr(net, "levels") or hasattr(net, "quality_range")
    if quality is None and not variable:
        raise ValueError(f"{path} does not say of which quality it is: name one with --quality")
    content = path.read_bytes()
    if description is None or not is_safetensors(path):
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "weights.safetensors"
            save_checkpoint(
                file,
                net,
                architecture=architecture,
                arguments=told.get("arguments") or {},
                lmbda=told.get("lmbda"),
                metric=metric,
                extra={**told.get("extra", {}), "quality": quality},
            )
            content = file.read_bytes()
    if name in ENTRIES and not isinstance(net, _class_of(name)):
        raise ValueError(f"model must be another name: {path} is of {architecture}, not of {name}")
    installed = zoo_weights.install_weights(
        content, name, metric, None if variable else quality, overwrite=overwrite
    )
    enter_installed()
    return installed


def _class_of(name: str) -> Any:
    model = ENTRIES[name].model
    return model if isinstance(model, type) else object
