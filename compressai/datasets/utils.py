# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Fetching the archives that datasets come in, checking them, and reading single images."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import ssl
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from compressai._images import read_rgb

__all__ = ["download_url", "hash_file", "transformed"]


def transformed(
    path: str | os.PathLike[str], transform: Callable[[Image.Image], Any] | None
) -> Any:
    """An image as 8-bit RGB, or what a transform makes of it.

    Args:
        path: the file.
        transform: applied to the image.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is damaged or no image, or the transform raised this error for it.
        RuntimeError: the transform raised another one.
    """
    image = read_rgb(path)
    if transform is None:
        return image
    try:
        return transform(image)
    except Exception as error:
        kind = ValueError if isinstance(error, ValueError) else RuntimeError
        size = f"{image.width} x {image.height}"
        raise kind(f"{os.fspath(path)} ({size}): the transform fails: {error}") from error


def download_url(
    url: str,
    path: str | os.PathLike[str],
    chunk_size: int = 65536,
    check_certificate: bool = True,
    overwrite: bool = False,
) -> Path:
    """Download a file, with a progress bar. A partial download never appears under ``path``.

    Args:
        url: where from.
        path: file to write, or a directory, to which the last part of the URL is appended.
        chunk_size: bytes read at a time.
        check_certificate: verify the certificate of an HTTPS server.
        overwrite: download even if a file of the announced length is there.

    Returns:
        The path of the file.

    Raises:
        RuntimeError: fewer bytes arrived than were announced.
        urllib.error.URLError: the server could not be reached or refused.
    """
    # Slow to import, and needed for bars only.
    from rich.console import Console
    from rich.progress import Progress

    path = Path(path)
    if path.is_dir():
        path = path / Path(urllib.parse.unquote(urllib.parse.urlsplit(url).path)).name
    print(f"Downloading {url} to {path}")

    context = ssl.create_default_context()
    if not check_certificate:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE

    with urllib.request.urlopen(url, context=context) as response:
        announced = response.headers.get("Content-Length")
        total = None if announced is None else int(announced)
        if not overwrite and total is not None and path.is_file() and path.stat().st_size == total:
            return path

        unfinished = path.with_name(f"{path.name}.part")
        received = 0
        try:
            with (
                Progress(console=Console(stderr=True), transient=True) as progress,
                open(unfinished, "wb") as file,
            ):
                task = progress.add_task(path.name, total=total)
                with contextlib.suppress(http.client.IncompleteRead):
                    while chunk := response.read(chunk_size):
                        file.write(chunk)
                        received += len(chunk)
                        progress.update(task, completed=received)
            if total is not None and received != total:
                raise RuntimeError(f"{url} announced {total} bytes, received {received}")
            os.replace(unfinished, path)
        finally:
            unfinished.unlink(missing_ok=True)
    return path


def hash_file(path: str | os.PathLike[str], method: str = "sha256", bufsize: int = 131072) -> str:
    """Hexadecimal digest of a file.

    Args:
        path: the file.
        method: an algorithm of :mod:`hashlib`.
        bufsize: bytes read at a time.

    Raises:
        ValueError: unknown ``method``.
    """
    digest = hashlib.new(method)
    with open(path, "rb") as file:
        while chunk := file.read(bufsize):
            digest.update(chunk)
    return digest.hexdigest()
