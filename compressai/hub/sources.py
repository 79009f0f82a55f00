# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Where weights are: a path, a server, a hub."""

from __future__ import annotations

import hashlib
import importlib
import os
import re
import urllib.parse
import urllib.request
from pathlib import Path

from compressai._distribution import install_command
from compressai._weight_files import shown
from compressai.hub.index import (
    FILE_NAME,
    INDEX,
    Published,
    PublishedFile,
    digest_of,
    parse_index,
)
from compressai.zoo import weights as zoo_weights

__all__ = ["Source", "open_source"]

_HUB = "hf://"
_LARGEST_INDEX = 2**20


class Source:
    """Where weights are; a checkpoint alone, unless a class says otherwise.

    Args:
        name: as the user named it.
        path: the file.
    """

    def __init__(self, name: str, path: Path) -> None:
        self.name, self._path = name, path

    def index(self) -> Published | None:
        """What the source says of itself; ``None`` for a checkpoint alone.

        Raises:
            FileNotFoundError: there is no index.
            OSError: it cannot be fetched.
            ValueError: it is damaged.
        """
        return None

    def checkpoint(self) -> Path:
        """The checkpoint, where there is no index."""
        return self._path

    def file(self, file: PublishedFile) -> Path:
        """A local copy of one of the files of the index, checked.

        Raises:
            OSError: it cannot be fetched.
            ValueError: its SHA-256 is not the one in the index.
        """
        path = self._copy(file)
        digest = digest_of(path)
        if digest != file.sha256:
            raise ValueError(
                f"{file.file} of {self.name} is damaged or another file: its SHA-256 is {digest}, "
                f"{INDEX} says {file.sha256}"
            )
        return path

    def _copy(self, file: PublishedFile) -> Path:
        raise NotImplementedError


class _Folder(Source):
    def index(self) -> Published:
        path = self._path / INDEX
        if not path.is_file():
            raise FileNotFoundError(f"{self.name} has no {INDEX}: it is no published folder")
        return parse_index(path.read_bytes(), str(path))

    def _copy(self, file: PublishedFile) -> Path:
        return self._path / file.file


class _Server(Source):
    """A folder behind a URL. What was fetched once is kept under its hash."""

    def index(self) -> Published:
        url = _below(self.name, INDEX)
        return parse_index(zoo_weights.read_url(url, _LARGEST_INDEX), url)

    def _copy(self, file: PublishedFile) -> Path:
        path = zoo_weights.weights_folder() / "fetched" / file.sha256 / file.file
        if not path.is_file():
            zoo_weights.download(_below(self.name, file.file), path)
        return path


class _Hub(Source):
    """A repository of a hub, whose library keeps what it fetched.

    Args:
        name: ``hf://OWNER/NAME``, perhaps with ``@REVISION``.
        revision: branch, tag or commit, in place of that in the name.
    """

    def __init__(self, name: str, revision: str | None) -> None:
        super().__init__(name, Path())
        self._repository, _, tag = name.removeprefix(_HUB).rstrip("/").partition("@")
        self._revision = revision or tag or None
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", self._repository):
            raise ValueError(f"a source on a hub must be {_HUB}OWNER/NAME, got {name!r}")

    def index(self) -> Published:
        return parse_index(self._get(INDEX).read_bytes(), f"{self.name}/{INDEX}")

    def _copy(self, file: PublishedFile) -> Path:
        return self._get(file.file)

    def _get(self, name: str) -> Path:
        try:
            hub = importlib.import_module("huggingface_hub")
            errors = importlib.import_module("huggingface_hub.errors")
        except ModuleNotFoundError as error:
            raise ImportError(
                f"{_HUB} needs huggingface_hub, which is not installed: {install_command('hub')}"
            ) from error
        try:
            return Path(hub.hf_hub_download(self._repository, name, revision=self._revision))
        except errors.LocalEntryNotFoundError as error:
            raise OSError(f"{self.name} is not kept here, and cannot be fetched") from error
        except errors.EntryNotFoundError as error:
            raise FileNotFoundError(f"{self.name} has no {name}") from error
        except (errors.HfHubHTTPError, errors.HFValidationError) as error:
            told = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise OSError(f"{self.name} cannot be fetched: {told}") from error


def open_source(source: str | os.PathLike[str], *, revision: str | None = None) -> Source:
    """Find out of which kind a source is.

    Args:
        source: path, ``file://``, ``https://`` or ``hf://``, of a folder or of a checkpoint.
        revision: of a hub: branch, tag or commit.

    Raises:
        FileNotFoundError: there is nothing.
        OSError: it cannot be fetched.
        ValueError: it is of no such kind.
    """
    text = os.fspath(source)
    if text.startswith(_HUB):
        return _Hub(text, revision)
    if revision is not None:
        raise ValueError(f"revision is for sources that begin with {_HUB}, got {text!r}")
    parts = urllib.parse.urlsplit(text)
    if "://" in text and parts.scheme != "file":
        name = Path(parts.path).name
        if name == INDEX or not Path(name).suffix:
            return _Server(text, Path())
        if not FILE_NAME.fullmatch(name):
            raise ValueError(f"the name of a file of weights is refused: {shown(name)}")
        key = hashlib.sha256(text.encode()).hexdigest()
        path = zoo_weights.weights_folder() / "fetched" / key / name
        zoo_weights.download(text, path)
        return Source(text, path)
    path = Path(urllib.request.url2pathname(parts.path)) if "://" in text else Path(text)
    if not path.exists():
        raise FileNotFoundError(f"{text} does not exist: name a folder, a file or a URL")
    return _Folder(text, path) if path.is_dir() else Source(text, path)


def _below(url: str, name: str) -> str:
    """The URL of a file of a folder; what follows ``?`` stays behind it."""
    parts = urllib.parse.urlsplit(url)
    path = parts.path.removesuffix(f"/{INDEX}").rstrip("/")
    return parts._replace(path=f"{path}/{name}").geturl()
