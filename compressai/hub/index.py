# SPDX-License-Identifier: BSD-3-Clause-Clear
"""``compressai.json``, which tells what is in a published folder."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from compressai._files import atomic_write
from compressai._weight_files import read_description, shown
from compressai.registry import METRICS

__all__ = [
    "FILE_NAME",
    "INDEX",
    "Published",
    "PublishedFile",
    "describe_file",
    "digest_of",
    "parse_index",
    "write_index",
]

INDEX = "compressai.json"
"""Name of the file that tells what is in a folder."""

_FORMAT = 1
# Names in an index become names of files here.
FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,200}")


@dataclass(frozen=True)
class PublishedFile:
    """One file of weights of a published folder.

    Attributes:
        file: its name in the folder.
        sha256: of its bytes, 64 digits.
        metric: what the weights were trained for.
        quality: whose weights of the zoo; ``None`` for a model of variable rate.
        lmbda: weight of the distortion in training, if that is known.
    """

    file: str
    sha256: str
    metric: str
    quality: float | None
    lmbda: Any = None


@dataclass(frozen=True)
class Published:
    """What a folder says of itself.

    Attributes:
        model: name of the entry; what ``--model`` takes.
        architecture: name in the zoo or the registry whose class it is.
        licence: of the weights, an SPDX name; empty if it is not known.
        files: the weights.
    """

    model: str
    architecture: str
    licence: str
    files: tuple[PublishedFile, ...]

    def choose(self, quality: float | None = None, metric: str | None = None) -> PublishedFile:
        """The file for a quality and metric; where only one fits, they need not be named.

        Raises:
            ValueError: none fits, or several do.
        """
        fitting = [
            file
            for file in self.files
            if metric in (None, file.metric)
            and (quality is None or file.quality in (None, quality))
        ]
        if len(fitting) == 1:
            return fitting[0]
        known = ", ".join(f"{file.metric} {_quality_text(file.quality)}" for file in self.files)
        problem = "several fit" if fitting else "none fits"
        raise ValueError(
            f"quality and metric must name one of the weights of {self.model}, which are {known}; "
            f"{problem} quality {quality} and metric {metric}"
        )


def _quality_text(quality: float | None) -> str:
    return "all" if quality is None else f"{quality:g}"


def write_index(folder: Path, published: Published, *, replace: bool = True) -> None:
    """Write ``compressai.json`` into a folder.

    Raises:
        FileExistsError: there is one that is not to be replaced.
    """
    content = {"format": _FORMAT, **asdict(published)}
    with atomic_write(folder / INDEX, replace=replace) as unfinished:
        unfinished.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def parse_index(text: bytes, path: str) -> Published:
    """Read an index.

    Args:
        text: content of the file.
        path: where it is, for messages.

    Raises:
        ValueError: it is damaged, or of another format.
    """
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path!r} is no JSON: {error}") from None
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        number = content.get("format") if isinstance(content, dict) else None
        raise ValueError(f"{path!r} has format {shown(number)}, this version reads {_FORMAT} only")
    texts: dict[str, Any] = {
        name: content.get(name) for name in ("model", "architecture", "licence")
    }
    files = content.get("files")
    for name, value in texts.items():
        if not isinstance(value, str):
            raise ValueError(f"{path!r} has a {name} that is no text: {shown(value)}")
    if not isinstance(files, list) or not files:
        raise ValueError(f"{path!r} lists no files")
    return Published(**texts, files=tuple(_parse_file(path, item) for item in files))


def _parse_file(path: str, item: Any) -> PublishedFile:
    values = item if isinstance(item, Mapping) else {}
    name, digest = values.get("file"), values.get("sha256")
    quality, metric = values.get("quality"), values.get("metric")
    if not (isinstance(name, str) and FILE_NAME.fullmatch(name)):
        raise ValueError(f"{path!r} lists a file with a name that is refused: {shown(name)}")
    if not (isinstance(digest, str) and re.fullmatch("[0-9a-f]{64}", digest)):
        raise ValueError(f"{path!r} tells no SHA-256 of {name}: {shown(digest)}")
    if metric not in METRICS:
        raise ValueError(f"{path!r} has a metric other than {METRICS}: {shown(metric)}")
    if quality is not None and (isinstance(quality, bool) or not isinstance(quality, (int, float))):
        raise ValueError(f"{path!r} has a quality that is no number: {shown(quality)}")
    return PublishedFile(name, digest, metric, quality, values.get("lmbda"))


def describe_file(path: Path, metric: str, quality: float | None) -> PublishedFile:
    """What an index says of a file of weights."""
    content = read_description(path) or {}
    return PublishedFile(path.name, digest_of(path), metric, quality, content.get("lmbda"))


def digest_of(path: Path) -> str:
    """The SHA-256 of a file, 64 digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as content:
        while block := content.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
