# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Version 2 of the .cai file: what is written is read, what was changed is refused."""

from __future__ import annotations

from dataclasses import replace

import google_crc32c
import pytest
from bitstream_images import FUZZING, header_end, noise, with_header_sum, with_sums
from hypothesis import given
from hypothesis import strategies as st

from compressai.bitstream import (
    BitstreamError,
    ChecksumError,
    CodedImage,
    CodedTile,
    DamagedFileError,
    ImpossibleHeaderError,
    NotACodedImageError,
    Tiling,
    TruncatedFileError,
    UnsupportedVersionError,
    decode_image,
    encode_image,
    parse_coded,
    read_image,
)
from compressai.bitstream.container import COLOUR_MODES, MAGIC

pytestmark = pytest.mark.usefixtures("one_torch_thread")


@pytest.fixture(scope="module")
def coded(net):
    sample = read_image(noise(70, 40))
    return encode_image(net, sample, model="mbt2018-mean", quality=3, hash_y_hat=False)


@pytest.fixture(scope="module")
def rich():
    """Of two tiles, with all that a file can hold."""
    return CodedImage(
        model="lite",
        quality=2,
        metric="mse",
        random_weights=True,
        fingerprint=b"12345678",
        width=70,
        height=100,
        mode="RGBA",
        tiles=(CodedTile((b"one", b"two", b"z"), b"hashhash"), CodedTile((b"", b"z"), b"12341234")),
        tile_size=80,
        tile_overlap=20,
        sync_safe=True,
        source_mode="PA",
        alpha=b"alpha",
        icc=b"icc",
        exif=b"exif",
    )


names = st.text(st.characters(codec="utf-8"), max_size=20).filter(str.isprintable)
strings = st.lists(st.binary(max_size=300), min_size=1, max_size=4).map(tuple)


@st.composite
def coded_images(draw):
    mode = draw(st.sampled_from(COLOUR_MODES))
    width, height = draw(st.integers(1, 500)), draw(st.integers(1, 500))
    size = draw(st.sampled_from([0, 64, 100, 2**30]))
    overlap = draw(st.integers(0, size // 2))
    count = Tiling(width, height, size, overlap).count
    hash_size = draw(st.sampled_from([0, 8]))
    hashes = st.binary(min_size=hash_size, max_size=hash_size)
    tile = st.builds(CodedTile, strings, hashes)
    return CodedImage(
        model=draw(names),
        quality=draw(st.none() | st.integers(1, 255)),
        metric=draw(st.sampled_from([None, "mse", "ms-ssim"])),
        random_weights=draw(st.booleans()),
        fingerprint=draw(st.binary(min_size=8, max_size=8)),
        width=width,
        height=height,
        mode=mode,
        tiles=(draw(tile),) * (count - 1) + (draw(tile),),
        tile_size=size,
        tile_overlap=overlap,
        sync_safe=draw(st.booleans()),
        source_mode=draw(names),
        alpha=draw(st.binary(min_size=1, max_size=200)) if mode.endswith("A") else b"",
        icc=draw(st.binary(max_size=20)),
        exif=draw(st.binary(max_size=20)),
    )


@FUZZING
@given(coded_images())
def test_whatever_is_written_is_read_back(sample):
    assert CodedImage.from_bytes(sample.to_bytes()) == sample
    assert CodedImage.from_bytes(sample.to_bytes(), best_effort=True) == sample


LENGTHS_OF_RICH = [19, 12, 5, 3, 4]


def section(content, place=b""):
    return content + google_crc32c.value(place + content).to_bytes(4, "little")


@pytest.mark.parametrize("placed", [True, False])
def test_layout_of_version_2_is_as_documented(rich, placed):
    sections = (
        b"hashhash\x03\x01\x03\x03zonetwo",
        b"12341234\x02\x01\x00z",
        b"alpha",
        b"icc",
        b"exif",
    )
    header = b"".join(
        (
            b"\x04lite\x02\x00" + b"12345678",
            b"\x46\x64\x04RGBA\x02PA",
            b"\x50\x14",  # tiles
            b"\x05\x00\x13\x00\x0c\x01\x05\x02\x03\x03\x04",
        )
    )
    start = b"\x93CAI\x02" + (b"\x0f" if placed else b"\x07")
    head = section(start + len(header).to_bytes(4, "little") + header)
    places = [head[-4:] + bytes((n, 0, 0, 0)) if placed else b"" for n in range(5)]
    content = head + b"".join(map(section, sections, places))
    assert CodedImage.from_bytes(content) == rich
    assert (rich.to_bytes() == content) == placed


def test_a_plain_image_costs_few_bytes_beside_its_strings(coded):
    assert len(coded.to_bytes()) - sum(map(len, coded.strings)) < 70


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("version", 1),
        ("metric", "psnr"),
        ("quality", 0),
        ("quality", 256),
        ("mode", "CMYK"),
        ("mode", "RGBA"),  # without alpha
        ("alpha", b"x"),  # without RGBA
        ("fingerprint", b"short"),
        ("width", 0),
        ("height", 2**40),
        ("model", "line\nbreak"),
        ("model", "x" * 256),
        ("tile_size", 63),
        ("tile_size", 64),  # with one tile
        ("tile_overlap", 1),
        ("tiles", ()),
        ("tiles", (CodedTile(()),)),
        ("tiles", (CodedTile((b"x",), b"short"),)),
        ("tiles", (CodedTile((b"x",), b"", "broken"),)),
        ("damage", ("broken",)),
    ],
)
def test_writer_refuses_what_no_reader_takes(coded, field, value):
    with pytest.raises(ValueError):
        replace(coded, **{field: value}).to_bytes()


def test_hashes_are_in_all_tiles_or_in_none(rich):
    with pytest.raises(ValueError, match="all tiles"):
        replace(rich, tiles=(rich.tiles[0], replace(rich.tiles[1], y_hat_hash=b""))).to_bytes()


def test_reader_refuses_every_truncation(rich):
    content = rich.to_bytes()
    for length in range(len(content)):
        with pytest.raises(TruncatedFileError):
            CodedImage.from_bytes(content[:length])
    with pytest.raises(DamagedFileError, match="1 bytes too many"):
        CodedImage.from_bytes(content + b"\0")


def test_reader_refuses_every_flipped_bit(rich):
    content = rich.to_bytes()
    for position in range(8 * len(content)):
        changed = bytearray(content)
        changed[position // 8] ^= 1 << position % 8
        with pytest.raises(BitstreamError):
            CodedImage.from_bytes(bytes(changed))


def test_each_cause_has_an_error_of_its_own(rich):
    content = rich.to_bytes()
    end = header_end(content)
    with pytest.raises(TruncatedFileError, match="empty"):
        CodedImage.from_bytes(b"")
    with pytest.raises(NotACodedImageError, match=r"no \.cai file"):
        CodedImage.from_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(UnsupportedVersionError, match="version 3"):
        CodedImage.from_bytes(content[:4] + b"\3" + content[5:])
    with pytest.raises(UnsupportedVersionError, match="0x4f"):
        CodedImage.from_bytes(with_header_sum(content[:5] + b"\x4f" + content[6:]))
    with pytest.raises(ChecksumError, match="the header"):
        CodedImage.from_bytes(content.replace(b"lite", b"life"))
    with pytest.raises(ChecksumError, match="section 0"):
        CodedImage.from_bytes(content.replace(b"two", b"owt"))
    with pytest.raises(ChecksumError, match="the ICC"):
        CodedImage.from_bytes(content.replace(b"icc", b"iCC"))
    with pytest.raises(TruncatedFileError, match="truncated"):
        CodedImage.from_bytes(content[:-1])
    with pytest.raises(TruncatedFileError, match="truncated"):
        CodedImage.from_bytes(content[:end])


def changed_header(content, old, new):
    end = header_end(content)
    assert content[:end].count(old) == 1
    head = content[:end].replace(old, new)
    head = head[:6] + (len(head) - 10).to_bytes(4, "little") + head[10:]
    return with_header_sum(head + content[end:])


def test_reader_skips_what_later_headers_and_files_may_add(rich):
    content = rich.to_bytes()
    longer = changed_header(content, b"\x03\x04", b"\x03\x04later")
    assert CodedImage.from_bytes(with_sums(longer, LENGTHS_OF_RICH)) == rich
    with_section = changed_header(content, b"\x05\x00\x13", b"\x06\x00\x13")
    with_section = changed_header(with_section, b"\x03\x04", b"\x03\x04\x80\x05")
    with_section = with_sums(with_section + b"later" + bytes(4), [*LENGTHS_OF_RICH, 5])
    assert CodedImage.from_bytes(with_section) == rich


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"\x50\x14", b"\x3f\x14", "at least 64"),
        (b"\x50\x14", b"\x50\x29", "overlap"),
        (b"\x50\x14", b"\x00\x14", "overlap"),
        (b"\x50\x14", b"\x78\x14", "has 1 tiles"),
        (b"\x50\x14", b"\x40\x20", "has 6 tiles"),
        (b"\x46\x64", b"\xff\xff\xff\xff\xff\x1f\xff\xff\xff\xff\xff\x1f", "tiles before all"),
        (b"\x46\x64", b"\x80\x80\x80\x80\x80\x80\x80\x01\x64", "impossibly large"),
        (b"\x46\x64", b"\x00\x64", "impossible header"),
        (b"\x04RGBA", b"\x03RGB", "contradict"),
        (b"\x04RGBA", b"\x04CMYK", "impossible header"),
        (b"\x02\x00" + b"1234", b"\x02\x07" + b"1234", "metric 7"),
        (b"\x05\x00\x13", b"\xff\x7f\x00\x13", "table of 16383 sections"),
        (b"\x00\x0c\x01\x05", b"\x01\x0c\x01\x05", "has 2 tiles"),
        (b"\x01\x05\x02\x03", b"\x01\x05\x01\x03", "twice"),
        (b"\x01\x05\x02\x03", b"\x00\x05\x02\x03", "tiles"),
        (b"\x04lite", b"\x04\x1b[2J", "not printable"),
        (b"\x04lite", b"\x04\xff\xfe\xff\xfe", "no UTF-8"),
        (b"\x04lite", b"\xfflite", None),
    ],
)
def test_reader_refuses_impossible_headers_behind_a_fitting_checksum(rich, old, new, message):
    error = ImpossibleHeaderError if message else TruncatedFileError
    with pytest.raises(error, match=message):
        CodedImage.from_bytes(changed_header(rich.to_bytes(), old, new))


def test_reader_refuses_unknown_sections(rich):
    content = changed_header(rich.to_bytes(), b"\x02\x03\x03\x04", b"\x02\x03\x04\x04")
    with pytest.raises(UnsupportedVersionError, match="kind 4"):
        CodedImage.from_bytes(content)


@pytest.mark.parametrize(
    ("tile", "message"),
    [
        (b"hashhash\x04\x01\x03\x03zonetwo", "bytes are announced"),
        (b"hashhash\x02\x01\x03\x03zonetwo", "4 bytes more"),
        (b"hashhash\x03\x7f\x03\x03zonetwo", "127 bytes are announced"),
        (b"hashhash\xff\xff\x7f\x01zonetwo", "strings, which is impossible"),
        (b"hashha\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", "impossibly large"),
    ],
)
def test_reader_refuses_impossible_tiles_behind_fitting_checksums(rich, tile, message):
    assert len(tile) == 19
    content = rich.to_bytes()
    start = header_end(content) + 4
    content = content[:start] + tile + content[start + 19 :]
    with pytest.raises(DamagedFileError, match=message):
        CodedImage.from_bytes(with_sums(content, [19]))


@FUZZING
@given(st.binary(max_size=400), st.sampled_from([b"", MAGIC, MAGIC + b"\2\0", b"\3\0\0\0\0"]))
def test_any_bytes_are_an_image_or_a_bitstream_error(content, start):
    for best_effort in (False, True):
        try:
            parse_coded(start + content, best_effort=best_effort)
        except BitstreamError:
            continue


@st.composite
def damages(draw, length):
    """Some bytes of a file of that length, replaced, inserted or removed."""
    position = draw(st.integers(0, length - 5))
    removed = draw(st.integers(0, 4))
    return position, removed, draw(st.binary(max_size=4))


@FUZZING
@given(st.data())
def test_damage_behind_fitting_checksums_is_an_image_or_a_bitstream_error(net, coded, data):
    content = bytearray(coded.to_bytes())
    lengths = [len(content) - header_end(content) - 8]
    for position, removed, inserted in data.draw(st.lists(damages(len(content)), max_size=3)):
        content[position : position + removed] = inserted
    if header_end(content) + 4 < len(content):
        content = with_sums(content, lengths)
    for best_effort in (False, True):
        try:
            again = CodedImage.from_bytes(bytes(content), best_effort=best_effort)
            sample = decode_image(net, again, best_effort=best_effort)
        except BitstreamError:
            continue
        assert sample.size == (again.width, again.height)
        assert bool(((sample.pixels >= 0) & (sample.pixels <= 1)).all())
