# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Files are read by their header: whatever else lies there takes neither memory nor time."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from streams import Stream

from compressai.bitstream import (
    BitstreamError,
    CodedImage,
    CodedTile,
    DamagedFileError,
    NotACodedImageError,
    TooLargeError,
    parse_coded,
    read_coded,
    read_content,
)
from compressai.bitstream.container import MAGIC

CORPUS = Path(__file__).parent / "corpus"
FILES = sorted(CORPUS.rglob("*.cai")) + sorted(CORPUS.rglob("*.bin"))


@pytest.fixture(scope="module")
def coded():
    return CodedImage(
        model="lite",
        quality=2,
        metric="mse",
        random_weights=False,
        fingerprint=b"12345678",
        width=70,
        height=100,
        mode="RGB",
        tiles=(CodedTile((b"one", b"z" * 1000)),),
    )


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_files_of_all_formats_are_read_whole(path):
    content = path.read_bytes()
    assert read_content(io.BytesIO(content)) == content
    assert read_coded(path) == parse_coded(content)


@pytest.mark.parametrize("path", FILES[:: max(1, len(FILES) // 4)], ids=lambda path: path.name)
def test_damage_is_told_as_for_content_in_memory(path):
    content = path.read_bytes()
    for length in {0, 1, 4, 5, 9, 10, 11, 40, len(content) // 2, len(content) - 1}:
        for best_effort in (False, True):
            results = []
            for read, source in (
                (parse_coded, content[:length]),
                (read_coded, io.BytesIO(content[:length])),
            ):
                try:
                    results.append(read(source, best_effort=best_effort))
                except BitstreamError as error:
                    results.append((type(error), str(error)))
            assert results[0] == results[1]


@pytest.mark.parametrize(
    "start",
    [
        b"",
        MAGIC[:1],
        MAGIC + b"\3",
        MAGIC + b"\1",
        MAGIC + b"\2" + b"\xff" * 5,
        MAGIC + b"\2\0" + b"\0\0\0\3",
        b"\x89PNG\r\n\x1a\n",
        b"\0\0" + b"\xff" * 8,
    ],
)
def test_devices_and_sparse_files_are_refused_after_little(start):
    file = Stream(start)
    # With a size of an image that is beyond all limits, an old file may be as long as the limit.
    with pytest.raises(BitstreamError):
        read_coded(file, max_pixels=1000)
    assert file.taken < 2**27


def test_what_follows_an_image_is_damage_and_is_not_read(coded):
    content = coded.to_bytes()
    file = Stream(content)
    with pytest.raises(DamagedFileError, match="too many at the end"):
        read_coded(file)
    assert file.taken < len(content) + 2**17
    assert read_coded(Stream(content), best_effort=True) == coded
    with pytest.raises(DamagedFileError, match="3 bytes too many"):
        read_coded(io.BytesIO(content + b"\0\0\0"))


def test_files_larger_than_any_such_image_are_refused_by_their_header(coded):
    large = replace(coded, tiles=(CodedTile((b"", bytes(2**26 + 64 * 7000))),)).to_bytes()
    file = Stream(large[:200])
    with pytest.raises(TooLargeError, match="image of 70 x 100"):
        read_coded(file)
    assert file.taken < 1000


def test_sparse_files_take_no_memory(tmp_path):
    path = tmp_path / "sparse.cai"
    with open(path, "wb") as file:
        file.truncate(2**40)
    with pytest.raises(BitstreamError):
        read_coded(path)
    with open(path, "r+b") as file:
        file.write(b"\x50K")
    with pytest.raises(NotACodedImageError):
        read_coded(path)
