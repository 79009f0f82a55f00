# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Folders of web servers, whose files are the links of the pages that list them."""

from __future__ import annotations

import html
from typing import Any
from urllib.parse import unquote

__all__ = ["is_web_folder", "web_files"]


def is_web_folder(filesystem: Any, url: str) -> bool:
    """Whether a page is there that could list files.

    Args:
        filesystem: of fsspec, for ``http`` and ``https``.
        url: file or folder.

    Raises:
        FileNotFoundError: the server has nothing there, or does not answer.
    """
    try:
        kind = str(filesystem.info(url).get("mimetype", ""))
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{url} does not exist, or its server does not answer") from error
    # With a query, a page is no place that others are below.
    return kind.startswith("text/html") and "?" not in url


def web_files(filesystem: Any, url: str) -> list[str]:
    """Paths of the files of a folder and of all below it, relative to it, not quoted.

    Links that lead elsewhere, or only to another order of the same list, are left out.

    Args:
        filesystem, url: as for :func:`is_web_folder`.

    Returns:
        The paths; none if there is no such folder.

    Raises:
        OSError: a folder cannot be listed.
    """
    root = f"{url.rstrip('/')}/"
    left, seen, names = [root], {root}, []
    while left:
        folder = left.pop()
        try:
            links = filesystem.ls(folder, detail=False)
        except FileNotFoundError:
            if folder == root:
                return []
            raise
        for written in links:
            link = html.unescape(written)
            name = link[len(folder) :]
            leads_below = link.startswith(folder) and name and not {"?", "#"} & {*name}
            if not leads_below or ".." in name.split("/") or link in seen:
                continue
            seen.add(link)
            if link.endswith("/"):
                left.append(link)
            else:
                names.append(unquote(link[len(root) :]))
    return names
