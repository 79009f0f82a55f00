# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Version 1 of the .cai file, which is not written any more: files of the corpus, and damaged."""

from __future__ import annotations

import zlib
from dataclasses import replace

import numpy as np
import pytest
from bitstream_images import CORPUS, FUZZING
from hypothesis import given
from hypothesis import strategies as st

import compressai
from compressai.bitstream import (
    BitstreamError,
    ChecksumError,
    CodedImage,
    CodedTile,
    DamagedFileError,
    DesyncError,
    ImpossibleHeaderError,
    TruncatedFileError,
    UnsupportedVersionError,
    decode_image,
    read_coded,
)
from compressai.bitstream.container import MAGIC

RGB = (CORPUS / "v1-factorized-rgb.cai").read_bytes()
RGBA = (CORPUS / "v1-checkerboard-rgba.cai").read_bytes()


def with_checksum(content):
    """The content with a checksum that fits, so that what comes after that check is tried."""
    return bytes(content[:-4]) + zlib.crc32(content[:-4]).to_bytes(4, "little")


def header_end(content):
    return 8 + int.from_bytes(content[6:8], "little")


pytestmark = pytest.mark.usefixtures("one_torch_thread")


@pytest.fixture(scope="module")
def net():
    return compressai.load(CORPUS / "bmshj2018-factorized.safetensors")


def test_fields_are_those_of_the_file():
    coded = CodedImage.from_bytes(RGB)
    assert (coded.version, coded.model) == (1, "bmshj2018-factorized")
    assert (coded.quality, coded.metric, coded.random_weights) == (None, None, False)
    assert (coded.width, coded.height, coded.mode, coded.source_mode) == (37, 23, "RGB", "RGB")
    assert coded.shape == (2, 3)
    assert len(coded.tiles) == len(coded.strings) == 1
    assert not coded.sync_safe
    assert set(CodedImage.from_bytes(RGBA).shape) == {"y", "hyper"}


@pytest.mark.parametrize("content", [RGB, RGBA], ids=["RGB", "RGBA"])
def test_every_truncation_is_refused(content):
    for length in range(len(content)):
        with pytest.raises(BitstreamError):
            CodedImage.from_bytes(content[:length])
        if length > 12:
            with pytest.raises(DamagedFileError):
                CodedImage.from_bytes(with_checksum(content[:length]))


def test_every_flipped_bit_is_refused():
    for position in range(8 * len(RGB)):
        changed = bytearray(RGB)
        changed[position // 8] ^= 1 << position % 8
        with pytest.raises(BitstreamError):
            CodedImage.from_bytes(bytes(changed))


def test_each_cause_has_an_error_of_its_own():
    with pytest.raises(UnsupportedVersionError, match="0x03"):
        CodedImage.from_bytes(with_checksum(RGB[:5] + b"\3" + RGB[6:]))
    with pytest.raises(ChecksumError, match="checksum"):
        CodedImage.from_bytes(RGB[:-1])
    with pytest.raises(TruncatedFileError, match="11 bytes"):
        CodedImage.from_bytes(RGB[:11])


def test_what_later_headers_may_add_is_skipped():
    end = header_end(RGB)
    extended = RGB[:6] + (end - 8 + 5).to_bytes(2, "little") + RGB[8:end] + b"later" + RGB[end:]
    assert CodedImage.from_bytes(with_checksum(extended)) == CodedImage.from_bytes(RGB)


@pytest.mark.parametrize(
    ("end", "message"),
    [
        (b"\0more", "4 bytes too many"),
        (b"\1x", "contradict"),  # an alpha plane, in mode RGB
        (b"\x80" * 20 + b"\0", "impossibly large"),
        (b"\xff\xff\xff\xff\xff\x1f", "bytes are announced"),
        (b"\xff\xff\xff\xff\xff\x3f", "impossibly large"),
    ],
)
def test_other_ends_behind_a_fitting_checksum_are_refused(end, message):
    assert RGB[-5:-4] == b"\0"  # no alpha plane
    with pytest.raises(DamagedFileError, match=message):
        CodedImage.from_bytes(with_checksum(RGB[:-5] + end + b"...."))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"hyper", b"hy\x1b[2", "not printable"),
        (b"hyper", b"hy\xff\xfe2", "no UTF-8"),
        (b"\x05hyper", b"\x01yyper", None),
        (b"\x04RGBA", b"\x04CMYK", "impossible header"),
    ],
)
def test_impossible_headers_behind_a_fitting_checksum_are_refused(old, new, message):
    assert RGBA.count(old) == 1
    with pytest.raises(ImpossibleHeaderError, match=message):
        CodedImage.from_bytes(with_checksum(RGBA.replace(old, new)))


def test_sizes_of_latents_are_compared_with_those_of_the_model(net):
    coded = CodedImage.from_bytes(RGB)
    for shape in [(1, 3), (2**30, 2**9), (2,), (), [(2, 3)], {"y": (2, 3)}]:
        with pytest.raises(ImpossibleHeaderError, match="latents of sizes"):
            decode_image(net, replace(coded, shape=shape))


def test_damage_behind_a_fitting_checksum_is_an_image_or_a_bitstream_error(net):
    @FUZZING
    @given(
        st.lists(
            st.tuples(st.integers(0, len(RGB) - 5), st.integers(0, 4), st.binary(max_size=4)),
            max_size=3,
        )
    )
    def check(damages):
        content = bytearray(RGB)
        for position, removed, inserted in damages:
            content[position : position + removed] = inserted
        for best_effort in (False, True):
            try:
                again = CodedImage.from_bytes(with_checksum(content), best_effort=best_effort)
                sample = decode_image(net, again, best_effort=best_effort)
            except BitstreamError:
                continue
            assert sample.size == (again.width, again.height)
            assert bool(((sample.pixels >= 0) & (sample.pixels <= 1)).all())

    check()


@FUZZING
@given(st.binary(max_size=400))
def test_any_bytes_behind_the_magic_are_an_image_or_a_bitstream_error(content):
    for best_effort in (False, True):
        try:
            CodedImage.from_bytes(with_checksum(MAGIC + b"\1\0" + content), best_effort=best_effort)
        except BitstreamError:
            continue


@pytest.mark.parametrize("name", ["v1-factorized-rgb", "v1-checkerboard-rgba"])
def test_other_strings_are_an_image_or_not_in_step(name):
    coded = read_coded(CORPUS / f"{name}.cai")
    net = compressai.load(CORPUS / f"{coded.model}.safetensors")
    rng = np.random.Generator(np.random.PCG64(1))
    refused = 0
    for step, string in enumerate(coded.strings):
        for _ in range(12):
            changed = bytearray(string)
            changed[rng.integers(len(changed))] ^= 1 << rng.integers(8)
            strings = [*coded.strings]
            strings[step] = bytes(changed)[: rng.integers(1, 2 * len(changed))]
            try:
                decode_image(net, replace(coded, tiles=(CodedTile(tuple(strings)),)))
            except DesyncError:
                refused += 1
    assert refused > 5 * len(coded.strings)
