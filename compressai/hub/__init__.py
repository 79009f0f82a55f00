# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Weights that travel: folders that hold a model's weights with all that belongs to them.

A published folder holds ``compressai.json``, which says what is in it, one safetensors checkpoint
for each metric and quality, a model card (``README.md``), the licence, and ``rd.json``, what was
measured. A folder, a checkpoint alone, or where either is served, is a *source*: a path, a
``file://`` or ``https://`` URL, or ``hf://OWNER/NAME[@REVISION]``, a repository of models that
huggingface_hub fetches and keeps (extra ``hub``).

What comes from a source is data only: files are read by :mod:`compressai._weight_files`, and
compared with the whole SHA-256 in ``compressai.json``.
"""

from __future__ import annotations

from compressai.hub.index import INDEX, Published, PublishedFile
from compressai.hub.install import add
from compressai.hub.pretrained import from_pretrained, save_pretrained
from compressai.hub.sources import Source, open_source

__all__ = [
    "INDEX",
    "Published",
    "PublishedFile",
    "Source",
    "add",
    "from_pretrained",
    "open_source",
    "save_pretrained",
]
