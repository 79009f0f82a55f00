# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Bundles: a model as one file, for programs without torch. The format is in ``docs/bundle.md``."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from compressai._files import atomic_write

__all__ = [
    "FORMAT",
    "LEVELS_VERSION",
    "MANIFEST",
    "VERSION",
    "Bundle",
    "BundleError",
    "graph_metadata",
    "write_bundle",
]

FORMAT = "compressai-bundle"
VERSION = 1
# Of bundles whose rates are levels: a program that knows no more than the first could not say why
# it cannot read them.
LEVELS_VERSION = 2
MANIFEST = "bundle.json"
# All that a manifest has; in entries of "networks" and "arrays", too.
_FIELDS: Mapping[str, type | tuple[type, ...]] = {
    "model": str,
    "quality": (int, type(None)),
    "metric": (str, type(None)),
    "random_weights": bool,
    "fingerprints": dict,
    "multiple": int,
    "exact": bool,
    "strings": int,
    "grid": (dict, type(None)),
    "networks": dict,
    "arrays": dict,
    "tables": dict,
    "latents": dict,
    "analysis": list,
    "coding": list,
    "synthesis": list,
}
# Little-endian, whatever the machine.
_DTYPES = {"int32": "<i4", "float32": "<f4"}


class BundleError(ValueError):
    """A bundle is of another version, damaged, or no bundle at all."""


@dataclass(frozen=True)
class Bundle:
    """A model in a bundle.

    Attributes:
        manifest: what ``bundle.json`` says.
        contents: the other entries, by name.
        name: of the file, for messages.
    """

    manifest: Mapping[str, Any]
    contents: Mapping[str, bytes]
    name: str = "the bundle"

    @classmethod
    def read(cls, source: str | Path | bytes) -> Bundle:
        """Read a bundle and check its hashes.

        Args:
            source: a file, or its content.

        Raises:
            BundleError: it is none, damaged, or of another version.
            OSError: the file cannot be read.
        """
        name = "the bundle" if isinstance(source, bytes) else str(source)
        try:
            with zipfile.ZipFile(BytesIO(source) if isinstance(source, bytes) else source) as file:
                contents = {entry.filename: file.read(entry) for entry in file.infolist()}
            manifest = json.loads(contents.pop(MANIFEST))
        except OSError:
            raise
        # A damaged archive fails in as many ways as there are checks in two libraries.
        except Exception as error:
            raise BundleError(f"{name} is no bundle, or a damaged one: {error}") from error
        if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
            raise BundleError(f"{name} is no bundle: {MANIFEST} does not say {FORMAT!r}")
        if manifest.get("version") not in (VERSION, LEVELS_VERSION):
            raise BundleError(
                f"{name} has bundle version {manifest.get('version')}, this program reads "
                f"{VERSION} and {LEVELS_VERSION}: export it again, or update"
            )
        bundle = cls(manifest, contents, name)
        bundle._check()
        return bundle

    def _check(self) -> None:
        for key, kind in _FIELDS.items():
            if not isinstance(self.manifest.get(key), kind):
                raise BundleError(f"{self.name} is damaged: {MANIFEST} has no proper {key!r}")
        for part in ("networks", "arrays"):
            for key, entry in self.manifest[part].items():
                content = self.contents.get(entry.get("file"))
                found = None if content is None else hashlib.sha256(content).hexdigest()
                if found != entry.get("sha256"):
                    raise BundleError(
                        f"{self.name} is damaged: {key} is not what {MANIFEST} says (SHA-256 "
                        f"{found}, not {entry.get('sha256')})"
                    )

    @cached_property
    def fingerprints(self) -> dict[int, bytes]:
        """Fingerprints of the weights, by version of the ``.cai`` format."""
        return {int(k): bytes.fromhex(v) for k, v in self.manifest["fingerprints"].items()}

    def write(self, path: str | Path) -> None:
        """Write it as a file, such as one that was put together by a recipe.

        Args:
            path: the file; replaced at once or not at all.

        Raises:
            OSError: it cannot be written.
        """
        parts = ("networks", "arrays")
        manifest = {key: told for key, told in self.manifest.items() if key not in parts}
        networks = self.manifest["networks"]
        write_bundle(
            path,
            manifest,
            {name: {k: told[k] for k in ("inputs", "outputs")} for name, told in networks.items()},
            {name: self.network(name) for name in networks},
            {name: self.array(name) for name in self.manifest["arrays"]},
        )

    def network(self, name: str) -> bytes:
        """The ONNX graph of a network."""
        return self.contents[self.manifest["networks"][name]["file"]]

    def array(self, name: str) -> np.ndarray:
        """An array, read-only, in the byte order of this machine.

        Raises:
            BundleError: its size is not what the manifest says.
        """
        entry = self.manifest["arrays"][name]
        try:
            flat = np.frombuffer(self.contents[entry["file"]], dtype=_DTYPES[entry["dtype"]])
            return flat.reshape(entry["shape"]).astype(entry["dtype"], copy=False)
        except (KeyError, TypeError, ValueError) as error:
            raise BundleError(f"{self.name} is damaged: array {name}: {error}") from error


def graph_metadata(manifest: Mapping[str, Any], network: str) -> dict[str, str]:
    """What a graph says about itself.

    Args:
        manifest: of its bundle.
        network: its name there.
    """
    names = ("model", "quality", "metric", "random_weights", "licence", "paper", "library")
    texts = {key: manifest.get(key) for key in names}
    return {
        **{key: "" if value is None else str(value) for key, value in texts.items()},
        "fingerprint": manifest["fingerprints"]["2"],
        "network": network,
    }


def write_bundle(
    path: str | Path,
    manifest: Mapping[str, Any],
    networks: Mapping[str, Mapping[str, Any]],
    graphs: Mapping[str, bytes],
    arrays: Mapping[str, np.ndarray],
    *,
    replace: bool = True,
) -> None:
    """Write a bundle, the same bytes for the same arguments.

    Args:
        path: the file; written at once or not at all.
        manifest: all but ``networks`` and ``arrays``; ``version`` if it is not the first.
        networks: inputs and outputs of each network, by name.
        graphs: the ONNX graph of each.
        arrays: int32 or float32, by name.
        replace: whether the file is replaced if it exists.

    Raises:
        FileExistsError: the file exists and is not to be replaced.
        OSError: it cannot be written.
    """
    files: dict[str, bytes] = {}

    def place(file: str, content: bytes) -> dict[str, str]:
        files[file] = content
        return {"file": file, "sha256": hashlib.sha256(content).hexdigest()}

    complete = {
        "format": FORMAT,
        "version": VERSION,
        **manifest,
        "networks": {
            name: {**place(f"{name}.onnx", graphs[name]), **told} for name, told in networks.items()
        },
        "arrays": {
            name: {
                **place(f"{name}.bin", array.astype(_DTYPES[str(array.dtype)]).tobytes()),
                "dtype": str(array.dtype),
                "shape": list(array.shape),
            }
            for name, array in arrays.items()
        },
    }
    with atomic_write(path, replace=replace) as unfinished, zipfile.ZipFile(unfinished, "w") as out:
        text = json.dumps(complete, indent=1, ensure_ascii=True) + "\n"
        for name, content in {MANIFEST: text.encode(), **files}.items():
            # A fixed date, and no compression: a page can take entries out without a library.
            out.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_STORED)
