# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Files wherever they are: on this machine, in S3 or GCS, or on what else fsspec reaches."""

from __future__ import annotations

import contextlib
import datetime
import functools
import os
import re
import secrets
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast
from urllib.parse import quote, unquote

import pyarrow as pa
from pyarrow import fs

from compressai._files import atomic_write, check_writable, open_regular
from compressai.cluster.web_folders import is_web_folder, web_files

__all__ = ["SCHEME", "Store", "base_name", "list_sources"]

# One letter is a drive.
SCHEME = r"[a-z][a-z0-9+.-]+"
_URL = re.compile(f"({SCHEME})://")
_ROOT = re.compile(f"{SCHEME}:///?")
_PYARROW = frozenset({"abfs", "abfss", "file", "gcs", "gs", "hdfs", "s3", "viewfs"})
_WEB = frozenset({"http", "https"})
# Names are quoted in their URLs, and options follow a question mark.
_QUOTED = _PYARROW | _WEB
# fsspec reads what comes before through what comes behind, as in zip://photos::s3://bucket/a.zip.
_CHAIN = re.compile(r"::.*://.*")
# These always read through something, so that a path may come behind, too: behind the last colons.
_ARCHIVE_CHAIN = re.compile(
    rf"::(?:(?:simplecache|filecache|blockcache)::)*{SCHEME}://.*|::(?!.*::).+"
)
_ARCHIVES = frozenset({"libarchive", "tar", "zip"})
# What is written there is seen before all of it is there, and stays when the writer dies.
_WITH_PARTS = frozenset({"ftp", "hdfs", "sftp", "smb", "ssh", "viewfs", "webHDFS", "webhdfs"})
# Folders are only parts of names there, and making one is a request, or several.
_WITHOUT_FOLDERS = frozenset({"gcs", "s3"})


class Store:
    """A folder, or a file, named by a path or an URL such as ``s3://bucket/photos``.

    ``s3://``, ``gs://``, ``hdfs://``, ``abfs://`` and ``file://`` are PyArrow's, with its options
    behind a question mark, such as ``?endpoint_override=host:9000&scheme=http``, and with names
    quoted as URLs want it: ``%20`` for a space, ``%23`` for ``#``. All other schemes are fsspec's,
    which may need a package for them; names stand there as they are, but for ``http://`` and
    ``https://``, which quote them too. A page of a web server is a folder of what it has links to
    below itself. Names of files in a store, and paths, are never quoted.

    Args:
        url: path or URL.

    Raises:
        ValueError: nothing knows the scheme, or it is no valid URL or has unknown options.
    """

    def __init__(self, url: str) -> None:
        self.url = url if _URL.match(url) else os.path.abspath(url)
        self._connection: tuple[fs.FileSystem, str] | None = None
        self._connect()

    def __getstate__(self) -> dict[str, Any]:
        return {"url": self.url, "_connection": None}

    def _connect(self) -> tuple[fs.FileSystem, str]:
        if self._connection is None:
            self._connection = _open(self.url)
        return self._connection

    def _path(self, name: str) -> str:
        root = self._connect()[1]
        return f"{root.rstrip('/')}/{name}" if name and root else name or root

    def _web(self) -> tuple[Any, str]:
        filesystem, url = self._connect()
        return filesystem.handler.fs, url

    def is_folder(self) -> bool:
        """Whether it exists and is a folder.

        Raises:
            FileNotFoundError: there is no such file or folder.
        """
        if _scheme(self.url) in _WEB:
            return is_web_folder(*self._web())
        info = self._connect()[0].get_file_info(self._path(""))
        if info.type == fs.FileType.NotFound:
            raise FileNotFoundError(f"{self.url} does not exist")
        return info.type == fs.FileType.Directory

    def files(
        self, suffixes: Collection[str] | None = None, *, only_regular: bool = True
    ) -> dict[str, int]:
        """Files of a folder and of all below it; names with a leading dot or underscore are hidden.

        Args:
            suffixes: only these, in lower case and with the dot.
            only_regular: leave out pipes, devices and the like.

        Returns:
            Sizes by path relative to the folder, in order; nothing if there is no folder. Web
            servers do not list sizes: 0.

        Raises:
            OSError: a folder cannot be listed.
            ValueError: a name is not in UTF-8, so that nothing could tell of the file.
        """
        if _scheme(self.url) in _WEB:
            return {name: 0 for name in sorted(web_files(*self._web())) if _wanted(name, suffixes)}
        filesystem, root = self._connect()
        found = filesystem.get_file_info(
            fs.FileSelector(root, recursive=True, allow_not_found=True)
        )
        sizes = {}
        kinds = (fs.FileType.File,) if only_regular else (fs.FileType.File, fs.FileType.Unknown)
        prefix = root.strip("/")
        for info in found:
            try:
                path = info.path
            except UnicodeDecodeError as error:
                raise ValueError(
                    f"{self.url} has a file whose name is not in UTF-8: {error.object!r}; rename it"
                ) from error
            # Some file systems begin the paths at their root with a slash, others do not.
            if not path.lstrip("/").startswith(prefix):
                raise OSError(f"{self.url} lists {path!r}, which is not in {root!r}")
            name = path.lstrip("/")[len(prefix) :].lstrip("/")
            if info.type in kinds and _wanted(name, suffixes):
                sizes[name] = info.size or 0
        return dict(sorted(sizes.items()))

    def join(self, name: str) -> str:
        """Path or URL of a file in the folder, by its name."""
        place, options = _parts(self.url)
        name = quote(name) if _scheme(self.url) in _QUOTED else name
        # The slashes of a root, as in zip://, are a part of the scheme.
        folder = place if _ROOT.fullmatch(place) else f"{place.rstrip('/')}/"
        return f"{folder}{name}{options}"

    def read(self, name: str = "") -> bytes:
        """The content of a file in the folder, or of the store if it is a file.

        Raises:
            OSError: it cannot be read.
            ValueError: it is a pipe, a device or the like.
        """
        with self.open(name) as file:
            return file.read()

    def open(self, name: str = "") -> contextlib.AbstractContextManager[BinaryIO]:
        """A file in the folder, or the store if it is a file, for reading from its start.

        Returns:
            The binary file, a context manager. It can seek where it is on a disk of this machine.

        Raises:
            OSError, ValueError: as :meth:`read`.
        """
        filesystem, path = self._connect()[0], self._path(name)
        if isinstance(filesystem, fs.LocalFileSystem):
            return open_regular(path)
        return self._stream(path)

    @contextlib.contextmanager
    def _stream(self, path: str) -> Iterator[BinaryIO]:
        # An archive closes its files when nobody holds on to its file system, as this frame does.
        with self._connect()[0].open_input_stream(path) as file:
            yield cast(BinaryIO, file)

    def exists(self, name: str = "") -> bool:
        """Whether there is such a file."""
        return self._connect()[0].get_file_info(self._path(name)).type == fs.FileType.File

    def modified(self, name: str = "") -> datetime.datetime | None:
        """When a file was written; ``None`` if the file system does not say."""
        return self._connect()[0].get_file_info(self._path(name)).mtime

    def size(self, name: str = "") -> int | None:
        """Bytes of a file; ``None`` if it is gone, or the file system does not say."""
        return self._connect()[0].get_file_info(self._path(name)).size

    def prepare(self, name: str) -> None:
        """Refuse early what :meth:`write` could not write, as far as that shows.

        Args:
            name: path of the file relative to the folder.

        Raises:
            OSError: on a disk of this machine, its folder cannot be made, or is read-only; or it is
                on a web server or in an archive.
        """
        if _scheme(self.url) in _WEB | _ARCHIVES:
            raise OSError(f"{self.url} can only be read: name another place for results")
        filesystem, path = self._connect()[0], self._path(name)
        if isinstance(filesystem, fs.LocalFileSystem):
            filesystem.create_dir(os.path.dirname(path), recursive=True)
            check_writable(path)

    def write(self, content: bytes, name: str = "", *, replace: bool = True) -> None:
        """Write a file at once or not at all; folders are made as needed.

        On disks, of this machine or of a server, the file is written under another name, and
        renamed. Object stores show an object when all of it is there.

        Args:
            content: what is to be in it.
            name: path of the file relative to the folder; empty if the store is the file.
            replace: on disks of this machine, whether a file that exists is replaced. Elsewhere it
                always is.

        Raises:
            FileExistsError: the file exists and is not to be replaced.
            OSError: it cannot be written.
        """
        filesystem, _ = self._connect()
        path = self._path(name)
        if filesystem.type_name not in _WITHOUT_FOLDERS:
            filesystem.create_dir(os.path.dirname(path), recursive=True)
        if isinstance(filesystem, fs.LocalFileSystem):
            with atomic_write(path, replace=replace) as unfinished:
                Path(unfinished).write_bytes(content)
            return
        if _scheme(self.url) not in _WITH_PARTS:
            with filesystem.open_output_stream(path) as file:
                file.write(content)
            return
        base = path.rpartition("/")[2]
        folder = path[: len(path) - len(base)]
        hidden = f"{folder}.{base[:50]}.{os.getpid()}.{secrets.token_hex(4)}.unfinished"
        try:
            with filesystem.open_output_stream(hidden) as file:
                file.write(content)
            _move(filesystem, hidden, path)
        except BaseException:
            with contextlib.suppress(Exception):
                filesystem.delete_file(hidden)
            raise


def _wanted(name: str, suffixes: Collection[str] | None) -> bool:
    """Whether a file is of a kind that is asked for, and not hidden."""
    hidden = any(part[:1] in (".", "_") for part in name.split("/"))
    return not hidden and (suffixes is None or os.path.splitext(name)[1].lower() in suffixes)


def _move(filesystem: fs.FileSystem, source: str, target: str) -> None:
    """Rename a file, over another one if need be, also where that has to be removed before."""
    try:
        filesystem.move(source, target)
    except Exception:
        if filesystem.get_file_info(target).type != fs.FileType.File:
            raise
        filesystem.delete_file(target)
        filesystem.move(source, target)


def base_name(url: str) -> str:
    """Name of the file or folder that a path or URL leads to, not quoted."""
    name = os.path.basename(_parts(url)[0])
    return unquote(name) if _scheme(url) in _QUOTED else name


def list_sources(urls: Sequence[str], suffixes: Collection[str]) -> dict[str, str]:
    """Images in folders, and single ones.

    Args:
        urls: folders and files, paths or URLs.
        suffixes: of the files to take from folders, in lower case and with the dot.

    Returns:
        By path or URL, in order, the path relative to the folder; of a single file its name. A
        file that comes twice counts where it came first.

    Raises:
        FileNotFoundError: one does not exist.
        ValueError: there are no images, or the name of a file is not in UTF-8.
    """
    found: dict[str, str] = {}
    for url in urls:
        store = Store(url)
        if store.is_folder():
            # What is no file is not passed over: it fails, and so is told of.
            for name in store.files(suffixes, only_regular=False):
                found.setdefault(store.join(name), name)
        else:
            found.setdefault(store.url, base_name(store.url))
    if not found:
        raise ValueError(f"there is no image in {', '.join(urls)}")
    return found


def _scheme(url: str) -> str | None:
    """Scheme of an URL; a path of this machine has none."""
    match = _URL.match(url)
    return match[1] if match else None


def _parts(url: str) -> tuple[str, str]:
    """The place, and what stays behind it: options, or the rest of a chain."""
    scheme = _scheme(url)
    if scheme in _QUOTED:
        place, mark, options = url.partition("?")
        return place, mark + options
    chain = _chain(url) if scheme else None
    return (url[: chain.start()], chain[0]) if chain else (url, "")


def _chain(url: str) -> re.Match[str] | None:
    """What comes behind the first part of a chain, with the colons."""
    return (_ARCHIVE_CHAIN if _scheme(url) in _ARCHIVES else _CHAIN).search(url)


def _open(url: str) -> tuple[fs.FileSystem, str]:
    scheme = _scheme(url)
    if scheme is None:
        return fs.LocalFileSystem(), url
    return _open_pyarrow(url, scheme) if scheme in _PYARROW else _open_fsspec(url)


def _open_pyarrow(url: str, scheme: str) -> tuple[fs.FileSystem, str]:
    quoting = "in such an URL write %20 for a space, %23 for #, %25 for %, and %3F for ?"
    # PyArrow would leave out what follows, and take another file.
    if "#" in url or (scheme == "file" and "?" in url):
        raise ValueError(f"{url}: {quoting}")
    place, options = _parts(url)
    if scheme == "s3" and "allow_delayed_open=" not in options:
        # What fits into one request goes in one, not in three.
        options = f"{options}&" if options else "?"
        options += "allow_delayed_open=true"
    try:
        return fs.FileSystem.from_uri(place + options)
    except pa.ArrowInvalid as error:
        hint = f"; {quoting}" if "Cannot parse URI" in str(error) else ""
        raise ValueError(f"{url}: {error}{hint}") from error


def _open_fsspec(url: str) -> tuple[fs.FileSystem, str]:
    # Of the extra ray.
    from fsspec.implementations.local import LocalFileSystem

    # A name with two colons is no chain, but fsspec would take it for one.
    scheme, chain = _scheme(url), _chain(url)
    if scheme in _ARCHIVES and chain:
        head = len(f"{scheme}://")
        place, rest = f"{url[:head]}{chain[0]}", url[head : chain.start()]
    else:
        end = -1 if chain else url.find("::")
        place, rest = (url, "") if end < 0 else (url[:end], url[end:])
    try:
        # To list an archive of a server takes requests, which need not be repeated for each file.
        to_fsspec = _to_fsspec_once if re.search(r"::https?://", place) else _to_fsspec
        filesystem, path = to_fsspec(place)
    except (ImportError, ValueError) as error:
        raise ValueError(f"{url}: {error}") from error
    if scheme in _ARCHIVES:
        path = rest.strip("/")
    elif rest:
        path = path.rstrip("/") + ("/" if place.endswith("/") else "") + rest
    if isinstance(filesystem, LocalFileSystem) and not rest:
        return fs.LocalFileSystem(), path
    return fs.PyFileSystem(fs.FSSpecHandler(filesystem)), path


def _to_fsspec(place: str) -> tuple[Any, str]:
    # Of the extra ray.
    import fsspec

    try:
        return fsspec.core.url_to_fs(place)
    except ValueError as error:
        # Archives are read in pieces. What a web server does not give in pieces is fetched whole.
        if "range requests" not in str(error):
            raise
        return fsspec.core.url_to_fs(re.sub(r"::(?=https?://)", "::simplecache::", place))


_to_fsspec_once = functools.lru_cache(maxsize=4)(_to_fsspec)
