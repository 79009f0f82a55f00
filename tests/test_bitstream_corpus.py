# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Files of every version that was ever written decode for ever."""

from __future__ import annotations

import numpy as np
import pytest
from bitstream_images import CORPUS
from PIL import Image

import compressai
from compressai.bitstream import (
    CodedImage,
    decode_image,
    decode_video,
    open_video,
    read_coded,
)
from compressai.bitstream.container import VERSION
from compressai.bitstream.video_container import VERSION as VIDEO_VERSION


@pytest.mark.parametrize(
    "path",
    sorted(p for p in CORPUS.iterdir() if p.suffix in (".cai", ".bin")),
    ids=lambda path: path.name,
)
def test_files_of_every_version_decode_for_ever(path):
    coded = read_coded(path)
    net = compressai.load(CORPUS / f"{coded.model}.safetensors")
    decoded = decode_image(net, coded).to_image()
    with Image.open(path.with_suffix(".png")) as expected:
        assert decoded.mode == expected.mode
        difference = np.asarray(decoded).astype(int) - np.asarray(expected)
        # The last bit of the network's arithmetic is not the same on all machines.
        assert np.abs(difference).max() <= 1
        if expected.mode.endswith("A"):
            assert not difference[..., -1].any()


@pytest.mark.parametrize("path", sorted(CORPUS.glob("*.cav")), ids=lambda path: path.name)
def test_videos_of_every_version_decode_for_ever(path):
    net = compressai.load(CORPUS / "ssf2020.safetensors")
    with open_video(path) as reader:
        assert f"v{reader.header.version}" == path.name[:2]
        frames = list(decode_video(net, reader))
    assert len(frames) == 4
    content = b"".join(frame.tobytes() for frame in frames)
    decoded = np.frombuffer(content, np.uint8).astype(int)
    expected = np.fromfile(path.with_suffix(".yuv"), np.uint8)
    assert np.abs(decoded - expected).max() <= 1


def test_corpus_has_videos_of_every_version():
    assert {path.name[:2] for path in CORPUS.glob("*.cav")} == {
        f"v{version}" for version in range(1, VIDEO_VERSION + 1)
    }


def test_corpus_holds_every_version_and_what_files_can_hold():
    coded = [read_coded(p) for p in CORPUS.iterdir() if p.suffix in (".cai", ".bin")]
    assert {type(c) for c in coded} == {CodedImage}
    assert {c.version for c in coded} == {0, *range(1, VERSION + 1)}
    assert {type(c.shape) for c in coded} >= {tuple, dict}
    for version in (1, 2):
        assert {c.mode for c in coded if c.version == version} == {"LA", "RGB", "RGBA"}
    assert {c.sync_safe for c in coded} == {False, True}
    assert any(len(c.tiles) > 1 for c in coded)
    assert any(c.exif for c in coded)
    assert any(len(c.tiles[0].strings) > 3 for c in coded)  # slices
    flags = {p.read_bytes()[5] & 8 for p in CORPUS.glob("v2-*.cai")}
    assert flags == {0, 8}  # checksums of sections with and without their places
