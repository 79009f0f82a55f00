# SPDX-License-Identifier: BSD-3-Clause-Clear
"""What became of each file of a job, in Parquet files beside the results."""

from __future__ import annotations

import datetime
import io
import json
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from compressai.cluster.stores import Store

__all__ = ["FOLDER", "Manifest", "read_manifest"]

FOLDER = "_manifest"
SCHEMA = pa.schema(
    [
        ("source", pa.string()),
        ("target", pa.string()),
        ("status", pa.string()),  # done or failed
        ("error", pa.string()),
        ("attempts", pa.int32()),
        ("seconds", pa.float64()),
        ("worker", pa.string()),
        ("finished", pa.timestamp("us", tz="UTC")),
        ("settings", pa.string()),  # JSON
        ("bytes", pa.int64()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("result", pa.string()),  # JSON
    ]
)
# A part is written when it has so many rows, or when its first row is so old: an interruption
# loses no more than that, and the files themselves tell.
_PART_ROWS = 10_000
_PART_SECONDS = 30.0
_LONG_AGO = datetime.datetime.min.replace(tzinfo=datetime.timezone.utc)


class Manifest:
    """The manifest of a job while it runs; each run adds parts of its own.

    Args:
        store: folder of the results; parts go to ``_manifest`` in it.
        settings: what every file was made with, as JSON data.
    """

    def __init__(self, store: Store, settings: Mapping[str, Any]) -> None:
        self.store = store
        self.settings = json.dumps(settings, sort_keys=True)
        self._rows: list[Mapping[str, Any]] = []
        self._since = 0.0
        self._full = _PART_ROWS
        self._run = f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{secrets.token_hex(4)}"
        self._parts = 0

    def prepare(self) -> None:
        """Refuse early what cannot be written, before hours of work are lost.

        Raises:
            OSError: the folder cannot be made, or is read-only.
        """
        self.store.prepare(self._part())

    def add(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add rows; those that are missing in them are null.

        Some are written now and then. If that fails, such as for a full disk, they are kept for the
        next time.
        """
        self._since = self._since if self._rows else time.monotonic()
        self._rows += rows
        old = time.monotonic() - self._since > _PART_SECONDS
        if len(self._rows) >= self._full or (self._rows and old):
            try:
                self.flush()
            except Exception:  # of any file system; the last flush tells
                self._since = time.monotonic()
                self._full = len(self._rows) + _PART_ROWS

    def flush(self) -> None:
        """Write what has been added.

        Raises:
            OSError: it cannot be written; the rows are kept.
        """
        if not self._rows:
            return
        rows = [{**row, "settings": self.settings} for row in self._rows]
        part = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(rows, SCHEMA), part, compression="zstd")
        self.store.write(part.getvalue(), self._part())
        self._parts += 1
        self._rows = []
        self._full = _PART_ROWS

    def _part(self) -> str:
        return f"{FOLDER}/{self._run}-{self._parts:05}.parquet"

    def known(self) -> dict[str, dict[str, Any]]:
        """The last row of each source, of all runs so far.

        Raises:
            ValueError: a file of the manifest is damaged.
        """
        return {row["source"]: row for row in _rows(self.store)}


def read_manifest(url: str) -> pa.Table:
    """The manifest of a folder of results.

    Args:
        url: the folder.

    Returns:
        One row for each source, its last.

    Raises:
        ValueError: a file of the manifest is damaged.
    """
    latest = {row["source"]: row for row in _rows(Store(url))}
    return pa.Table.from_pylist(list(latest.values()), SCHEMA)


def _rows(store: Store) -> Iterator[dict[str, Any]]:
    """All rows, older ones first."""
    folder = Store(store.join(FOLDER))
    rows: list[dict[str, Any]] = []
    for name in folder.files([".parquet"]):
        content = io.BytesIO(folder.read(name))
        try:
            rows += pq.read_table(content, schema=SCHEMA).to_pylist()
        except (OSError, pa.ArrowException) as error:
            reason = str(error).partition("\n")[0]
            raise ValueError(
                f"{folder.join(name)} is no part of a manifest, or is damaged ({reason}): remove "
                "it, what it tells is found out anew"
            ) from error
    # Rows without a source tell nothing; those without a time may be older than all others.
    told = (row for row in rows if row["source"] is not None)
    yield from sorted(told, key=lambda row: row["finished"] or _LONG_AGO)
