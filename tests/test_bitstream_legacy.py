# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Files of CompressAI 1.2 are read, and told from damaged ones as far as that can be."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from bitstream_images import noise
from tiny_nets import tiny_net

from compressai.bitstream import (
    BitstreamError,
    CodedImage,
    CodedTile,
    DamagedFileError,
    decode_image,
    parse_coded,
    read_image,
)
from compressai.bitstream.legacy import MODEL_IDS, write_version_0
from compressai.ops import compute_padding

pytestmark = pytest.mark.usefixtures("one_torch_thread")


# Model 2, ms-ssim, quality 4, 220 x 200, 8 bit, latent 4 x 4, strings 01 02 03 and aa bb.
EXAMPLE = bytes.fromhex(
    "0213 000000c8 000000dc 08 00000004 00000004 00000002 00000003 010203 00000002 aabb"
)


def old_image(model, metric, quality, width, height, shape, strings):
    """What is read from a file of the old format."""
    return CodedImage(
        model=model,
        metric=metric,
        quality=quality,
        random_weights=False,
        fingerprint=b"",
        width=width,
        height=height,
        mode="RGB",
        source_mode="RGB",
        tiles=(CodedTile(strings),),
        version=0,
        shape=shape,
        centred=64,
    )


def test_worked_example_of_the_old_format_is_read():
    sample = parse_coded(EXAMPLE)
    assert sample == old_image(
        "bmshj2018-hyperprior", "ms-ssim", 4, 220, 200, (4, 4), (b"\1\2\3", b"\xaa\xbb")
    )
    assert write_version_0(sample) == EXAMPLE
    with pytest.raises(ValueError, match="version must be 2 to be written, got 0"):
        sample.to_bytes()


def test_numbers_of_models_in_the_old_format_never_change():
    assert MODEL_IDS[0] == "bmshj2018-factorized"
    assert MODEL_IDS[3] == "mbt2018-mean"
    assert MODEL_IDS[6:8] == ("cheng2020-attn", "bmshj2018-hyperprior-vbr")
    assert (len(MODEL_IDS), MODEL_IDS[13]) == (14, "ssf2020")


def test_every_truncation_of_the_old_format_is_refused():
    for length in range(len(EXAMPLE)):
        with pytest.raises(BitstreamError):
            parse_coded(EXAMPLE[:length])
    with pytest.raises(DamagedFileError, match="1 bytes too many"):
        parse_coded(EXAMPLE + b"\0")


@pytest.mark.parametrize(
    ("position", "value", "error"),
    [
        (0, 13, "a video"),
        (0, 10, "a point cloud"),
        (0, 14, "no coded image"),
        (1, 0x20, "no coded image"),
        (5, 0, "impossible header"),
        (10, 0, "impossible header"),
    ],
)
def test_impossible_headers_of_the_old_format_are_refused(position, value, error):
    changed = bytearray(EXAMPLE)
    changed[position] = value
    with pytest.raises(BitstreamError, match=error):
        parse_coded(bytes(changed))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model", "ssf2020"),
        ("model", "mine"),
        ("metric", None),
        ("quality", 17),
        ("width", 2**32),
        ("shape", (1, 2, 3)),
        ("centred", 0),
        ("mode", "RGBA"),
    ],
)
def test_writer_of_the_old_format_refuses_what_it_cannot_hold(field, value):
    with pytest.raises(ValueError):
        write_version_0(replace(parse_coded(EXAMPLE), **{field: value}))


@pytest.mark.parametrize("size", [(70, 41), (1, 1), (64, 128)])
@pytest.mark.parametrize("model", ["bmshj2018-factorized", "mbt2018-mean"])
def test_old_files_are_decoded_from_the_centre(model, size):
    net = tiny_net(model)
    sample = read_image(noise(*size))
    width, height = size
    pad, unpad = compute_padding(height, width, min_div=64)
    x = F.pad(sample.pixels[None], pad)
    out = net.compress(x)
    strings = tuple(step[0] for step in out["strings"])
    old = old_image(model, "mse", 1, width, height, tuple(out["shape"]), strings)
    decoded = decode_image(net, parse_coded(write_version_0(old)))
    with torch.no_grad():
        x_hat = F.pad(net(x)["x_hat"].clamp(0, 1), unpad)
    assert torch.equal(decoded.pixels, x_hat[0])
    with pytest.raises(DamagedFileError, match="latents of sizes"):
        decode_image(net, replace(old, width=width + 64))
    with pytest.raises(DamagedFileError):
        decode_image(net, replace(old, tiles=(CodedTile((b"\0" * 8, *strings[1:])),)))
