# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Long strings of files have several states; short ones, and those of ``compress``, stay plain."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import pytest
import reference_coder
import torch
from ans_strategies import Message, messages
from bitstream_images import with_sums
from hypothesis import given, settings
from PIL import Image
from tiny_nets import one_thread, tiny_net

from compressai import ans
from compressai.bitstream import (
    BitstreamError,
    CodedImage,
    decode_image,
    encode_image,
    parse_coded,
    read_image,
)
from compressai.entropy_models import GaussianConditional
from compressai.entropy_models._interleaving import interleaved_strings
from compressai.models import get_scale_table

THRESHOLD = 32768
ROW = [0, 9000, 30000, 55000, 65000, 65536]
SMALL = ([ROW, [0, 65000, 65536]], [6, 3], [-2, 0])
TABLES = ans.CdfTables(*SMALL)
LANES = 4


def reference(symbols: Any, indexes: Any, tables: Any = SMALL) -> bytes:
    """The interleaved stream, of the plain Python coder."""
    return reference_coder.encode(symbols, indexes, *tables, lanes=LANES)


def message(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Symbols and indexes, some symbols escaped."""
    rng = np.random.default_rng(seed)
    indexes = (rng.random(count) < 0.02).astype(np.int32)
    symbols = np.where(indexes == 1, 0, rng.integers(-2, 3, count)).astype(np.int32)
    escaped = rng.random(count) < 0.01
    return np.where(escaped, rng.integers(-5000, 5000, count), symbols).astype(np.int32), indexes


LONG = message(150_000)
[PLAIN] = ans.encode_batch(LONG[0][None], LONG[1][None], TABLES)
[STREAM] = ans.encode_batch(LONG[0][None], LONG[1][None], TABLES, interleave=True)


def is_interleaved(string: bytes) -> bool:
    return string[7] >= 128


def decode(stream: bytes, indexes: Any, tables: Any = TABLES) -> list[int]:
    return list(ans.RansDecoder().decode_with_indexes(stream, list(indexes), tables))


def test_the_size_in_the_plain_layout_decides() -> None:
    low, high = 1, len(LONG[0])
    while high - low > 1:  # the first count whose plain stream is long
        middle = (low + high) // 2
        part = [array[None, :middle] for array in LONG]
        if len(ans.encode_batch(*part, TABLES)[0]) < THRESHOLD:
            low = middle
        else:
            high = middle
    below, above = ([array[None, :count] for array in LONG] for count in (low, high))
    [plain], [chosen] = (ans.encode_batch(*below, TABLES, interleave=i) for i in (False, True))
    assert plain == chosen
    assert not is_interleaved(plain)
    [plain], [chosen] = (ans.encode_batch(*above, TABLES, interleave=i) for i in (False, True))
    assert not is_interleaved(plain)
    assert is_interleaved(chosen)
    assert len(chosen) - len(plain) <= 28 < THRESHOLD / 1000


def test_every_way_to_encode_gives_the_bytes_of_the_plain_python_coder() -> None:
    expected = reference(LONG[0].tolist(), LONG[1].tolist())
    assert expected == STREAM
    encoder = ans.BufferedRansEncoder()
    for start in range(0, len(LONG[0]), 777):
        encoder.encode_with_indexes(*(array[start : start + 777] for array in LONG), TABLES)
    assert encoder.flush(interleave=True) == STREAM
    assert encoder.flush(interleave=True) == (2**31).to_bytes(8, "little")  # nothing is left


def test_every_way_to_decode_gives_the_symbols() -> None:
    symbols, indexes = LONG
    [decoded] = ans.decode_batch([STREAM], indexes[None], TABLES, check_end=True)
    assert np.array_equal(decoded, symbols)
    decoder = ans.RansDecoder()
    assert np.array_equal(decoder.decode_with_indexes(STREAM, indexes, TABLES), symbols)
    decoder.set_stream(STREAM)
    parts, start = [], 0
    for size in (0, 1, 2, 3, 5, 1000, 4, 1, 4099, 6):
        parts.append(decoder.decode_stream(indexes[start : start + size], TABLES))
        start += size
    assert not decoder.finished
    parts.append(decoder.decode_stream(indexes[start:], TABLES))
    assert np.array_equal(np.concatenate(parts), symbols)
    assert decoder.finished


@given(messages())
@settings(deadline=None)
def test_any_message_is_decoded(drawn: Message) -> None:
    stream = reference(drawn.symbols, drawn.indexes, drawn.tables)
    tables = ans.CdfTables(*drawn.tables)
    decoder = ans.RansDecoder()
    found = decoder.decode_with_indexes(stream, drawn.indexes, tables, check_end=True)
    assert found == drawn.symbols


def test_what_is_no_interleaved_stream_is_a_value_error() -> None:
    symbols, indexes = (array[:50].tolist() for array in LONG)
    stream = reference(symbols, indexes)
    assert decode(stream, indexes) == symbols
    decoder = ans.RansDecoder()
    for size in range(0, 32, 4):
        with pytest.raises(ValueError, match=str(size)):
            decoder.set_stream(stream[:size])
    for lane in range(LANES):
        for state in (0, 2**31 - 1, *([2**63, 2**64 - 1] if lane else ())):
            bytes_ = bytearray(stream)
            bytes_[8 * lane : 8 * lane + 8] = (state | (0 if lane else 2**63)).to_bytes(8, "little")
            with pytest.raises(ValueError, match=str(state)):
                decoder.set_stream(bytes(bytes_))
    with pytest.raises(ValueError, match="ended before"):
        decode(stream, [0] * 9999)
    with pytest.raises(ValueError, match=r"indexes\[30\]"):
        decode(stream, [*indexes[:30], 2, *indexes[31:]])
    with pytest.raises(ValueError, match="does not end"):
        decoder.decode_with_indexes(stream, indexes[:-1], TABLES, check_end=True)


def test_damage_decodes_as_by_the_plain_python_coder_or_is_refused() -> None:
    symbols, indexes = (array[:60].tolist() for array in LONG)
    stream = reference(symbols, indexes)
    refused = 0
    for bit in range(8 * len(stream)):
        damaged = bytearray(stream)
        damaged[bit // 8] ^= 1 << bit % 8
        try:
            found = decode(bytes(damaged), indexes)
        except ValueError:
            refused += 1
            continue
        assert found == reference_coder.decode(bytes(damaged), indexes, *SMALL)
        with contextlib.suppress(ValueError):
            ans.RansDecoder().decode_with_indexes(bytes(damaged), indexes, TABLES, check_end=True)
    assert refused


def test_entropy_models_interleave_only_where_it_is_allowed() -> None:
    conditional = GaussianConditional(None)
    conditional.update_scale_table(get_scale_table())
    y = torch.randn(2, 10, 100, 100, generator=torch.Generator().manual_seed(0)) * 5
    indexes = conditional.build_indexes(torch.full_like(y, 5.0))
    plain = conditional.compress(y, indexes)
    assert not any(map(is_interleaved, plain))
    with interleaved_strings():
        chosen = conditional.compress(y, indexes)
        with interleaved_strings(False):
            assert conditional.compress(y, indexes) == plain
    assert all(map(is_interleaved, chosen))
    decoded = conditional.decompress(chosen, indexes)
    assert torch.equal(decoded, conditional.decompress(plain, indexes))


# -- files ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def large() -> Any:
    """A small model, and an image whose latent takes a long string."""
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 256, (1024, 1536, 3), dtype=np.uint8))
    with one_thread():
        yield tiny_net("mbt2018-mean"), read_image(noise)


@pytest.mark.parametrize("sync_safe", [False, True])
def test_files_have_long_strings_interleaved_and_tell_so(large: Any, sync_safe: bool) -> None:
    net, image = large
    told: dict[str, Any] = {"model": "mbt2018-mean", "quality": 2, "sync_safe": sync_safe}
    plain = encode_image(net, image, interleave=False, **told)
    coded = encode_image(net, image, **told)
    assert [len(string) >= THRESHOLD for string in plain.strings] == [True, False]
    assert [is_interleaved(string) for string in coded.strings] == [True, False]
    assert coded.strings[1] == plain.strings[1]
    assert not any(map(is_interleaved, plain.strings))
    content, before = coded.to_bytes(), plain.to_bytes()
    assert (content[5], before[5]) == (before[5] | 32, content[5] & ~32)
    assert 0 < len(content) - len(before) <= 28
    decoded, expected = (decode_image(net, parse_coded(one)) for one in (content, before))
    assert torch.equal(decoded.pixels, expected.pixels)


def test_short_strings_stay_as_they_are(large: Any) -> None:
    net, image = large
    small = read_image(image.to_image().crop((0, 0, 300, 200)))
    files = [
        encode_image(net, small, model="mbt2018-mean", quality=2, interleave=interleave).to_bytes()
        for interleave in (False, True)
    ]
    assert files[0] == files[1]
    assert files[0][5] & 32 == 0


def test_damage_in_a_file_is_a_bitstream_error(large: Any) -> None:
    """Even where all checksums fit."""
    net, image = large
    coded = encode_image(net, image, model="mbt2018-mean", quality=2, hash_y_hat=False)
    content = coded.to_bytes()
    table = 1 + sum(1 + (len(string) > 2**14) + (len(string) >= 2**7) for string in coded.strings)
    lengths = [table + sum(map(len, coded.strings))]
    assert parse_coded(with_sums(content, lengths)) == coded
    start = content.index(coded.strings[0])
    # The mark of the layout and of a state, and a whole word; a digit of an escaped value could
    # be changed without anybody seeing it.
    for place, mask in ((7, 0x80), (15, 0x80), (20001, 0xFF), (20002, 0xFF)):
        damaged = bytearray(content)
        damaged[start + place] ^= mask
        with pytest.raises(BitstreamError):
            decode_image(net, CodedImage.from_bytes(with_sums(bytes(damaged), lengths)))


def test_the_runtime_reads_and_writes_them(large: Any, tmp_path: Any) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    from compressai.inference import export_bundle
    from compressai.models.base import ModelIdentity
    from compressai.runtime import RuntimeModel

    net, image = large
    net.identity = ModelIdentity("mbt2018-mean", 2, "mse")
    export_bundle(net, tmp_path / "net.caibundle")
    runtime = RuntimeModel(tmp_path / "net.caibundle", threads=1)
    coded = encode_image(net, image)
    [(string, _)] = [tile.strings for tile in coded.tiles]
    assert is_interleaved(string)
    pixels = np.asarray(decode_image(runtime, coded).to_image(), int)
    assert np.abs(pixels - np.asarray(decode_image(net, coded).to_image(), int)).max() <= 1
    made = encode_image(runtime, image)
    assert [is_interleaved(string) for string in made.strings] == [True, False]
    decode_image(net, made)  # compares hashes
