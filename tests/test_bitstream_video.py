# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Coded videos: real clips to real bytes and back, on machines that round otherwise too."""

from __future__ import annotations

import copy
import io

import numpy as np
import pytest
import torch
from coded_videos import (
    decoded,
    encoded,
    records,
    same,
)
from tiny_nets import tiny_net
from video_clips import clip, video_net

from compressai.bitstream import (
    DesyncError,
    FrameCoder,
    decode_video,
    encode_video,
    open_video,
)
from compressai.bitstream.video_codec import frame_to_rgb, to_frame
from compressai.datasets import RawVideoSequence, VideoFormat
from compressai.entropy_models import EntropyModel
from compressai.transforms import frame_to_planes, planes_to_rgb

pytestmark = pytest.mark.usefixtures("one_torch_thread")


@pytest.fixture(scope="module")
def net():
    return video_net()


# -- coding ---------------------------------------------------------------------------------------


def test_decoded_frames_are_what_the_encoder_saw(net, sequence, coded):
    coder = FrameCoder(net, sequence.height, sequence.width, sync_safe=True)
    header = open_video(io.BytesIO(coded)).header
    frames = decoded(net, coded)
    assert len(frames) == len(sequence) == header.frames == 5
    for number, frame in enumerate(frames):
        _, x_hat = coder.encode(frame_to_rgb(sequence[number], sequence), number % 3 == 0)
        assert same(frame, to_frame(x_hat, header))
        assert frame.dtype == sequence.dtype


def test_file_tells_what_the_clip_was(net, sequence, coded):
    header = open_video(io.BytesIO(coded)).header
    assert (header.width, header.height, header.frames, header.gop) == (96, 80, 5, 3)
    assert (header.format, header.bitdepth) == (VideoFormat.YUV420, 8)
    assert (header.framerate, header.model, header.quality) == (30, "ssf2020", None)


def test_first_frame_only_is_a_key_frame_unless_asked_for(net, sequence, coded):
    kinds = [coded[start + 4] for start, _ in records(coded)]
    assert kinds == [0, 1, 1, 0, 1]
    alone = encoded(net, sequence, frames=2)
    assert [alone[start + 4] for start, _ in records(alone)] == [0, 1]


@pytest.mark.parametrize("format", VideoFormat)
def test_every_pixel_format_comes_back(net, tmp_path, format):
    depth = 10 if format is VideoFormat.YUV422 else 8
    path = clip(tmp_path, 2, width=35, height=27, format=format, bitdepth=depth)
    sequence = RawVideoSequence.from_file(path)
    frames = decoded(net, encoded(net, sequence))
    assert [frame.dtype for frame in frames] == [sequence.dtype] * 2
    assert len(b"".join(frame.tobytes() for frame in frames)) == path.stat().st_size
    first = frame_to_planes(frames[0][()], 2**depth - 1)
    assert planes_to_rgb(first, format).shape == (1, 3, 27, 35)


def test_tables_are_built_where_they_are_missing(net, sequence, coded):
    fresh = copy.deepcopy(net)
    for module in fresh.modules():
        if isinstance(module, EntropyModel):
            for name in ("_offset", "_quantized_cdf", "_cdf_length"):
                setattr(module, name, torch.IntTensor())
    assert not fresh.has_tables
    assert len(decoded(fresh, coded)) == 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frames": 6}, r"frames must be in 1 \.\.\. 5, got 6"),
        ({"frames": 0}, "frames must be"),
        ({"gop": -1}, "gop must be"),
        ({"max_pixels": 128 * 128 - 1}, "raise max_pixels"),
        ({"metric": "psnr"}, "metric must be"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_written(net, sequence, options, message):
    file = io.BytesIO()
    with pytest.raises(ValueError, match=message):
        encode_video(net, sequence, file, **{"model": "ssf2020", **options})
    assert file.getvalue() == b""


def test_models_of_images_are_refused(sequence, coded):
    image_net = tiny_net("mbt2018-mean")
    with pytest.raises(ValueError, match="video model"):
        encoded(image_net, sequence)
    with pytest.raises(ValueError, match="video model"):
        decoded(image_net, coded)


# -- drift ----------------------------------------------------------------------------------------


def moved(net, name, change):
    """The same weights for the fingerprint, and a module that computes something else."""
    other = copy.deepcopy(net)
    module = other.get_submodule(name)
    module.register_forward_hook(lambda _module, _inputs, output: change(output))
    return other


def test_other_rounding_of_the_decoder_does_not_matter(net, coded):
    intact = decoded(net, coded)
    for name in ("hyper_decoder_scale", "hyper_decoder_mean"):
        for part in ("img", "motion", "res"):
            generator = torch.Generator().manual_seed(1)

            def noise(output, generator=generator):
                return output + (torch.rand(output.shape, generator=generator) - 0.5) * 2e-5

            other = moved(net, f"{part}_hyperprior.{name}", noise)
            for frame, expected in zip(decoded(other, coded), intact, strict=True):
                assert np.abs(frame["y"].astype(int) - expected["y"]).max() <= 1


def test_plain_frames_lose_their_way_with_other_rounding(net, sequence):
    plain = encoded(net, sequence, gop=3, sync_safe=False)
    header = open_video(io.BytesIO(plain)).header
    assert (header.sync_safe, header.hashes, header.sketches) == (False, False, True)
    assert len(decoded(net, plain)) == 5
    other = moved(net, "img_hyperprior.hyper_decoder_mean", lambda output: output + 2)
    with pytest.raises(DesyncError, match="frame 0"):
        decoded(other, plain)


def test_another_latent_is_told_at_its_frame(net, coded):
    other = moved(net, "res_hyperprior.hyper_decoder_mean", lambda output: output + 0.2)
    frames = decode_video(other, open_video(io.BytesIO(coded)))
    next(frames)
    with pytest.raises(DesyncError, match=r"frame 1.*another latent"):
        next(frames)


@pytest.mark.parametrize("name", ["img_decoder", "res_decoder"])
def test_drift_of_the_samples_is_told_at_its_frame(net, coded, name):
    other = moved(net, name, lambda output: output * 1.1 + 0.05)
    number = 0 if name == "img_decoder" else 1
    with pytest.raises(DesyncError, match=f"frame {number}.*samples are off"):
        decoded(other, coded)
    lost = {}
    frames = decoded(other, coded, conceal=True, on_loss=lost.__setitem__)
    assert len(frames) == 5
    assert list(lost) == ([1, 2, 4] if number else [0, 1, 2, 3, 4])


def test_drift_that_grows_slowly_is_told(net, tmp_path):
    sequence = RawVideoSequence.from_file(clip(tmp_path, frames=12))
    content = encoded(net, sequence)
    other = moved(net, "res_decoder", lambda output: output + 0.0012)
    lost = []
    decoded(other, content, conceal=True, on_loss=lambda number, _: lost.append(number))
    assert 1 < lost[0] < 8
    with pytest.raises(DesyncError, match=f"frame {lost[0]}.*samples are off"):
        decoded(other, content)


def test_models_of_others_get_sketches_only(net, sequence):
    """A model whose methods do not know the arguments that ours have."""

    class Foreign(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net
            self.downsampling_factor, self.has_tables = 128, True

        def encode_keyframe(self, x):
            return self.net.encode_keyframe(x)

        def encode_inter(self, x, reference):
            return self.net.encode_inter(x, reference)

        def decode_keyframe(self, strings, shape):
            return self.net.decode_keyframe(strings, shape)

        def decode_inter(self, reference, strings, shapes):
            return self.net.decode_inter(reference, strings, shapes)

    foreign = Foreign()
    content = encoded(foreign, sequence, frames=2)
    header = open_video(io.BytesIO(content)).header
    assert (header.sync_safe, header.hashes, header.sketches) == (False, False, True)
    assert len(decoded(foreign, content)) == 2
    for option in ("sync_safe", "hash_latents"):
        with pytest.raises(ValueError, match=f"{option} must be False for Foreign"):
            encoded(foreign, sequence, frames=2, **{option: True})
