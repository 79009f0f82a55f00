# SPDX-License-Identifier: BSD-3-Clause-Clear
"""What is fuzzed: functions of bytes that may raise nothing but what they are documented to raise.

A file is given a checksum that fits wherever that is possible, so that damage gets past it.
"""

from __future__ import annotations

import functools
import io
import os
import re
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import google_crc32c
from torch import nn
from videos import fuzz_video

import compressai
from compressai.bitstream import BitstreamError, decode_image, parse_coded
from compressai.bitstream._fields import FieldReader
from compressai.bitstream.container import _read_header
from compressai.bitstream.legacy import write_version_0
from compressai.checkpoint import load_checkpoint, read_metadata
from compressai.convert import convert_checkpoint

__all__ = [
    *("CORPUS", "MAX_PIXELS", "SEEDS", "TARGETS"),
    *("fitting_sums", "fuzz_checkpoint", "fuzz_container", "fuzz_image", "load_net"),
]

CORPUS = Path(__file__).parents[1] / "corpus"
SEEDS = Path(__file__).parent / "seeds"
# Enough for all seeds, little enough for many images a second.
MAX_PIXELS = 128 * 128
_SUM = 4
_PLACED, _ON_SCALE = 8, 16


def fuzz_container(data: bytes) -> None:
    """Files: what is read can be written again, and is then the same."""
    for content in (data, fitting_sums(data)):
        for best_effort in (False, True):
            try:
                coded = parse_coded(content, best_effort=best_effort)
            except BitstreamError:
                continue
            intact = not coded.damage and not any(tile.damage for tile in coded.tiles)
            if coded.version != 1 and intact and all(tile.strings for tile in coded.tiles):
                again = coded.to_bytes() if coded.version else write_version_0(coded)
                assert parse_coded(again) == coded


def fuzz_image(data: bytes) -> None:
    """Files and the strings in them: an image of the size that the file says, or an error."""
    for best_effort in (False, True):
        try:
            coded = parse_coded(fitting_sums(data), best_effort=best_effort)
            net = load_net(coded.model)
            sample = decode_image(
                net, coded, best_effort=best_effort, max_pixels=MAX_PIXELS, workers=1
            )
        except BitstreamError:
            continue
        assert sample.size == (coded.width, coded.height)
        assert bool(((sample.pixels >= 0) & (sample.pixels <= 1)).all())
        sample.to_image()


def fuzz_checkpoint(data: bytes) -> None:
    """Files with weights: a model, or a ``ValueError`` that does not tell how to load it after all.

    The first byte says what the rest is: a file, the pickle in an archive of ``torch.save``, or the
    header of a safetensors file. The latter two get the sizes and checksums that they need.
    """
    if not data:
        return
    with tempfile.NamedTemporaryFile(dir=_fastest_folder(), suffix=".pth") as file:
        file.write(_as_checkpoint(data[0] % 3, data[1:]))
        file.flush()
        for read in (
            read_metadata,
            load_checkpoint,
            lambda path: load_checkpoint(path, architecture="bmshj2018-factorized"),
            convert_checkpoint,
        ):
            told = _refusal(read, file.name)
            assert told.isprintable(), told
            assert "weights_only" not in told, told


def _refusal(read: Callable[[str], Any], path: str) -> str:
    try:
        read(path)
    except ValueError as error:
        return str(error)
    return ""


def _as_checkpoint(kind: int, data: bytes) -> bytes:
    if kind == 0:
        return data
    if kind == 2:
        spans = [int(end) for end in re.findall(rb"\"data_offsets\":\[\d{1,9},(\d{1,5})\]", data)]
        return len(data).to_bytes(8, "little") + data + bytes(max(spans, default=0))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", data)
        archive.writestr("archive/version", b"3\n")
        for number in range(4):
            archive.writestr(f"archive/data/{number}", bytes(4))
    return buffer.getvalue()


def _fastest_folder() -> str | None:
    return "/dev/shm" if os.path.isdir("/dev/shm") else None


TARGETS: dict[str, Callable[[bytes], None]] = {
    "checkpoint": fuzz_checkpoint,
    "container": fuzz_container,
    "image": fuzz_image,
    "video": fuzz_video,
}


@functools.cache
def load_net(model: str) -> nn.Module:
    """The model of that name in the corpus; some model for all other names."""
    # Names come from the data: only those of files that are there become paths.
    names = {path.stem for path in CORPUS.glob("*.safetensors")} - {"ssf2020"}
    return compressai.load(CORPUS / f"{model if model in names else 'mbt2018-mean'}.safetensors")


def fitting_sums(data: bytes) -> bytes:
    """The data with checksums that fit, as far as they look like a file."""
    content = bytearray(data)
    if len(content) > 12 and content[4] == 1:
        content[-_SUM:] = zlib.crc32(bytes(content[:-_SUM])).to_bytes(_SUM, "little")
    if len(content) < 14 or content[4] != 2:
        return bytes(content)
    end = 10 + int.from_bytes(content[6:10], "little")
    start = _put_sum(content, 0, end)
    try:
        header = FieldReader(memoryview(content)[10:end])
        _, sections = _read_header(header, bool(content[5] & _ON_SCALE))
    except BitstreamError:
        return bytes(content)
    head_sum = bytes(content[end : end + _SUM]) if content[5] & _PLACED else b""
    for number, (_, length) in enumerate(sections):
        place = head_sum + number.to_bytes(4, "little") if head_sum else b""
        start = _put_sum(content, start, length, place)
    return bytes(content)


def _put_sum(content: bytearray, start: int, length: int, place: bytes = b"") -> int:
    """Put the checksum of a part behind it, and tell where the next part begins."""
    end = start + length
    if end + _SUM <= len(content):
        checksum = google_crc32c.value(place + bytes(content[start:end]))
        content[end : end + _SUM] = checksum.to_bytes(_SUM, "little")
    return end + _SUM
