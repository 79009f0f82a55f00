# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Where pretrained weights come from: a local folder, and a mirror if one is named.

The library knows the file names of published weights, and with them the start of each file's
SHA-256, but no server. Files are looked for in the weights folder; ``COMPRESSAI_WEIGHTS_URL`` may
name a place to fetch missing ones from, by https or from a folder (``file://``), and by plain http
only if ``COMPRESSAI_ALLOW_HTTP=1`` says so. Weights that ``compressai convert --install`` made are
in the same folder, as ``ARCHITECTURE-METRIC-QUALITY-HASH.safetensors``; those that ship with the
library have such names, too, and lie beside this module.

Eight digits of a hash find damage, but not who makes a file to have them. The whole SHA-256 of each
file that ships is in ``SHA256SUMS``; what is installed or fetched gets a file ``NAME.sha256``
beside it, as ``sha256sum`` writes them. Wherever there is one, it is checked.
"""

from __future__ import annotations

import hashlib
import os
import re
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from compressai._files import atomic_write, weights_folder
from compressai._weight_files import read_weights
from compressai.models._build import build_and_load
from compressai.models._state_dict import CleanStateDict, clean_state_dict
from compressai.registry import ENTRIES
from compressai.zoo.pretrained import load_pretrained

__all__ = [
    "InstalledFile",
    "check_hash",
    "download",
    "fetch",
    "hash_digits",
    "install_weights",
    "installed_files",
    "installed_weights",
    "load_checked",
    "load_installed",
    "load_into",
    "load_weights",
    "parse_name",
    "published_file",
    "published_weights",
    "read_url",
    "remove_installed",
    "weights_at_hand",
    "weights_folder",
    "weights_status",
]

_HASH_DIGITS = 8
_SHIPPED = Path(__file__).with_name("shipped")
_SUMS = "SHA256SUMS"
_TIMEOUT_S = 60
_HASH = re.compile(r"-([0-9a-f]{8,})\.")
# As install_weights names files.
_INSTALLED = re.compile(
    r"(.+)-(mse|ms-ssim)-(all|\d+(?:\.\d+)?)-[0-9a-f]{8}\.safetensors", re.ASCII
)


# In place of the quality, in the name of a file that is for all of them.
_ALL = "all"


def _which(architecture: str, quality: float | None) -> str:
    """What the name of a file of weights says of their quality."""
    entry = ENTRIES.get(architecture)
    if quality is None or (entry is not None and entry.variable_rate):
        return _ALL
    return f"{quality:g}"


def published_weights() -> Mapping[str, Mapping[str, Mapping[str, str]]]:
    """File names of published weights: ``{architecture: {metric: {quality: name}}}``."""
    return {name: entry.weights for name, entry in ENTRIES.items() if entry.weights}


def published_file(architecture: str, metric: str, quality: float | None) -> str | None:
    """Name of the file that was published for a quality, or ``None``."""
    files = published_weights().get(architecture, {}).get(metric, {})
    # Variable-rate models have one file for all qualities.
    return files.get("-") if quality is None else files.get(f"{quality:g}", files.get("-"))


def hash_digits(file_name: str) -> str:
    """First digits of the SHA-256 of a weights file, as its name has them; or nothing."""
    match = _HASH.search(file_name)
    return match[1] if match else ""


def weights_status(architecture: str, metric: str, quality: float | None) -> str | None:
    """Where weights of a zoo entry are.

    Returns:
        ``"shipped"``: they come with the library. ``"installed"``: in the weights folder.
        ``"published"``: the library knows their name, but they are not there. ``None``: nobody
        published any.

    Raises:
        RuntimeError: several were installed.
    """
    name = published_file(architecture, metric, quality)
    if name is not None and (weights_folder() / name).exists():
        return "installed"
    file = installed_weights(architecture, metric, quality)
    if file is not None:
        return "shipped" if file.parent == _SHIPPED else "installed"
    return None if name is None else "published"


def weights_at_hand(architecture: str, metric: str, quality: float | None) -> bool:
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
        RuntimeError: the file is not there, its hash differs, or it cannot be read as weights.
        OSError: it cannot be fetched.
    """
    path = weights_folder() / file_name
    mirror = os.environ.get("COMPRESSAI_WEIGHTS_URL")
    if not path.is_file() and mirror:
        fetch(f"{mirror.rstrip('/')}/{file_name}", path, progress=progress)
    if not path.is_file():
        raise RuntimeError(
            f"pretrained weights {file_name} are not available: put the file into "
            f"{weights_folder()} (set COMPRESSAI_HOME for another folder), or set "
            "COMPRESSAI_WEIGHTS_URL to where it can be fetched from"
        )
    return load_checked(path)


def installed_weights(architecture: str, metric: str, quality: float | None) -> Path | None:
    """The file that ships with the library or that :func:`install_weights` made, or ``None``.

    Args:
        architecture, metric: of the weights.
        quality: of the weights; without effect for models of variable rate.

    Raises:
        RuntimeError: there are several.
    """
    which = _which(architecture, quality)
    pattern = f"{architecture}-{metric}-{which}-*.safetensors"
    # Files that were coded with what ships must decode, whatever lies in the weights folder.
    found = sorted(_SHIPPED.glob(pattern)) or sorted(weights_folder().glob(pattern))
    if len(found) > 1:
        raise RuntimeError(
            f"there are several weights of {architecture}, metric {metric}, quality {which}: "
            f"{', '.join(map(str, found))}; delete all but one"
        )
    return found[0] if found else None


@dataclass(frozen=True)
class InstalledFile:
    """Weights in the folder of the library or in the weights folder, by what their name says.

    Attributes:
        path: the file.
        model, metric: what it is for.
        quality: the same; ``None`` for all.
    """

    path: Path
    model: str
    metric: str
    quality: float | None

    @property
    def shipped(self) -> bool:
        """Whether the file comes with the library."""
        return self.path.parent == _SHIPPED


def parse_name(path: Path) -> InstalledFile | None:
    """What the name of a file of installed weights says; ``None`` for other files."""
    match = _INSTALLED.fullmatch(path.name)
    if match is None:
        return None
    quality = None
    if match[3] != _ALL:
        # As users type them: files of most models hold whole numbers only.
        quality = float(match[3]) if "." in match[3] else int(match[3])
    return InstalledFile(path, match[1], match[2], quality)


def installed_files() -> list[InstalledFile]:
    """All weights that ship or that :func:`install_weights` made, by model, metric and quality."""
    paths = [*_SHIPPED.glob("*.safetensors"), *weights_folder().glob("*.safetensors")]
    files = [file for path in paths if (file := parse_name(path))]
    return sorted(files, key=lambda file: (file.model, file.metric, file.quality or 0))


def remove_installed(file: InstalledFile) -> None:
    """Delete installed weights, and what is noted of them.

    Raises:
        ValueError: they come with the library.
    """
    if file.shipped:
        raise ValueError(f"weights of {file.model} come with the library and stay")
    file.path.unlink()
    _digest_file(file.path).unlink(missing_ok=True)


def load_installed(architecture: str, metric: str, quality: float | None) -> Mapping[str, Tensor]:
    """Load installed weights, after checking them against the hash in the name.

    Returns:
        The state dict, on the CPU.

    Raises:
        RuntimeError: there are none or several, the hash differs, or they cannot be read.
    """
    path = installed_weights(architecture, metric, quality)
    if path is None:
        raise RuntimeError(
            f"no weights of {architecture}, metric {metric}, quality {quality} are in "
            f"{weights_folder()}"
        )
    return load_checked(path)


def install_weights(
    content: bytes,
    architecture: str,
    metric: str,
    quality: float | None,
    *,
    overwrite: bool = False,
) -> Path:
    """Put weights into the weights folder, for ``pretrained=True`` to find.

    Args:
        content: a safetensors file.
        architecture, metric, quality: what they are for; the last one without effect for models
            of variable rate.
        overwrite: replace others that are installed for the same.

    Returns:
        Path of the file.

    Raises:
        FileExistsError: there are others.
    """
    digest = hashlib.sha256(content).hexdigest()
    which = _which(architecture, quality)
    prefix = f"{architecture}-{metric}-{which}-"
    path = weights_folder() / f"{prefix}{digest[:_HASH_DIGITS]}.safetensors"
    others = [p for p in weights_folder().glob(f"{prefix}*.safetensors") if p != path]
    if others and not overwrite:
        raise FileExistsError(
            f"other weights of {architecture}, metric {metric}, quality {which} are installed "
            f"already ({others[0]}); overwrite replaces them"
        )
    weights_folder().mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as unfinished:
        unfinished.write_bytes(content)
    _note_digest(path, digest)
    for other in others:
        other.unlink()
        _digest_file(other).unlink(missing_ok=True)
    return path


def check_hash(path: Path) -> None:
    """Compare a file with what is known of its SHA-256: digits in its name, and the whole.

    Raises:
        RuntimeError: they differ, the name carries none, or the note of the whole cannot be read.
    """
    digits = hash_digits(path.name)
    counted = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            counted.update(block)
    digest = counted.hexdigest()
    if not digits or not digest.startswith(digits):
        raise RuntimeError(
            f"{path} is damaged or was renamed: its SHA-256 does not start with the digits in "
            "its name; delete it and get it again"
        )
    known = _known_digest(path)
    if known not in (None, digest):
        raise RuntimeError(
            f"{path} is not the file that it was: its SHA-256 is {digest}, but {known} is noted "
            "beside it; delete it and get it again"
        )


def load_checked(path: Path) -> Mapping[str, Any]:
    """Load a weights file after :func:`check_hash`, running no code in it.

    Raises:
        RuntimeError: a hash differs, or the file cannot be read as weights.
    """
    try:
        check_hash(path)
        return read_weights(path).content
    except ValueError as error:
        raise RuntimeError(f"{error}; delete it and get it again") from error


def load_into(make: Callable[..., nn.Module], weights: Mapping[str, Any]) -> nn.Module:
    """Build the model of an entry with weights that were loaded.

    Args:
        make: such as the ``from_state_dict`` of a class.
        weights: what :func:`load_weights` or :func:`load_installed` gave.

    Raises:
        RuntimeError: they are not of such a model.
    """
    try:
        renamed = load_pretrained(clean_state_dict(weights))
        return build_and_load(make, CleanStateDict(renamed))
    except (TypeError, ValueError) as error:
        raise RuntimeError(f"the weights are not of this model: {error}") from error


def fetch(url: str, path: Path, *, progress: bool = True) -> None:
    """Fetch a weights file, check it, and put it into its place.

    Args:
        url: where it is; redirections must not leave https.
        path: where it goes; its name carries the start of its SHA-256.
        progress: show a bar.

    Raises:
        RuntimeError: the hash differs, or the URL is of a kind that is not allowed.
        OSError: it cannot be fetched.
    """
    digits = hash_digits(path.name)

    def check(digest: str) -> None:
        if not digits or not digest.startswith(digits):
            raise RuntimeError(
                f"what {url} sends is damaged or another file: its SHA-256 {digest} does not start "
                "with the digits in the name"
            )

    digest = download(url, path, progress=progress, check=check)
    # A note of the right digest may have been put there before.
    if not _digest_file(path).exists():
        _note_digest(path, digest)


def download(
    url: str,
    path: Path,
    *,
    progress: bool = True,
    check: Callable[[str], None] = lambda digest: None,
) -> str:
    """Fetch a file and put it into its place.

    Args:
        url: where it is; redirections must not leave https.
        path: where it goes; folders are made.
        progress: show a bar.
        check: called with the SHA-256 before the file takes its name; raises if it is not wanted.

    Returns:
        The SHA-256.

    Raises:
        RuntimeError: the URL is of a kind that is not allowed.
        OSError: it cannot be fetched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with _open_url(url) as source, atomic_write(path) as unfinished:
        length = source.headers.get("Content-Length")
        total = int(length) if length is not None and length.isdigit() else None
        with (
            open(unfinished, "wb") as file,
            torch.hub.tqdm(
                total=total, disable=not progress, unit="B", unit_scale=True, unit_divisor=1024
            ) as bar,
        ):
            while block := source.read(1 << 20):
                digest.update(block)
                file.write(block)
                bar.update(len(block))
        check(digest.hexdigest())
    return digest.hexdigest()


def read_url(url: str, limit: int) -> bytes:
    """What is behind a URL.

    Args:
        url: as for :func:`download`.
        limit: most bytes that are read.

    Raises:
        RuntimeError: the URL is of a kind that is not allowed.
        OSError: it cannot be fetched.
        ValueError: there are more bytes.
    """
    with _open_url(url) as source:
        content: bytes = source.read(limit + 1)
    if len(content) > limit:
        raise ValueError(f"{url} has more than {limit} bytes")
    return content


def _open_url(url: str) -> Any:
    _check_url(url)
    return urllib.request.build_opener(_SafeRedirects).open(url, timeout=_TIMEOUT_S)


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, req: Any, fp: Any, code: Any, msg: Any, headers: Any, newurl: str):
        _check_url(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _check_url(url: str) -> None:
    scheme = urllib.parse.urlsplit(url).scheme.lower()
    if scheme == "http" and os.environ.get("COMPRESSAI_ALLOW_HTTP") == "1":
        return
    if scheme not in ("https", "file"):
        raise RuntimeError(
            f"weights are fetched by https or file, not as {url}: anybody between may change what "
            "comes over http; COMPRESSAI_ALLOW_HTTP=1 allows it nevertheless"
        )


def _digest_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _note_digest(path: Path, digest: str) -> None:
    with atomic_write(_digest_file(path)) as unfinished:
        unfinished.write_text(f"{digest}  {path.name}\n", encoding="utf-8")


def _known_digest(path: Path) -> str | None:
    """The SHA-256 that is noted for a file: of all that ship in one list, of others beside them."""
    shipped = path.parent == _SHIPPED
    note = path.with_name(_SUMS) if shipped else _digest_file(path)
    if not note.exists():
        return None
    for line in note.read_text(encoding="utf-8", errors="replace").splitlines():
        digest, _, name = line.partition(" ")
        if not re.fullmatch("[0-9a-fA-F]{64}", digest):
            continue
        if name.strip().removeprefix("*") in ((path.name,) if shipped else (path.name, "")):
            return digest.lower()
    raise RuntimeError(f"{note} does not tell the SHA-256 of {path.name}")
