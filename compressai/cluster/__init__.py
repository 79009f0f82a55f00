# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Work on more files than one machine can: corpora, on Ray Data.

``--engine ray`` of ``compressai encode``, ``decode`` and ``eval`` is made of this. Each
worker holds one prepared model; files come from and go to any file system that PyArrow or fsspec
know; a file that fails is tried again, then recorded, and never stops the job; what became of each
file is in a manifest; the same command again goes on where the last one stopped. Needs the extra
``ray``.
"""

from __future__ import annotations

from compressai._distribution import install_command

try:
    import fsspec  # noqa: F401
    import pyarrow  # noqa: F401
except ImportError as error:
    raise ImportError(
        f"working on a cluster needs Ray and PyArrow: {install_command('ray')}"
    ) from error

from compressai.cluster.decode import DecodeWorker, decode_corpus
from compressai.cluster.encode import EncodeWorker, encode_corpus
from compressai.cluster.engine import Run
from compressai.cluster.evaluate import EvaluateWorker, evaluate_corpus
from compressai.cluster.job import Item, JobReport, Worker, run_job
from compressai.cluster.manifest import Manifest, read_manifest
from compressai.cluster.stores import Store

__all__ = [
    "DecodeWorker",
    "EncodeWorker",
    "EvaluateWorker",
    "Item",
    "JobReport",
    "Manifest",
    "Run",
    "Store",
    "Worker",
    "decode_corpus",
    "encode_corpus",
    "evaluate_corpus",
    "read_manifest",
    "run_job",
]
