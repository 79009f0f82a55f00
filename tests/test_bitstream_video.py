# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Coded videos: real clips to real bytes and back, key frames, damage, and the old format."""

from __future__ import annotations

import copy
import dataclasses
import io
import struct
from fractions import Fraction

import google_crc32c
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_nets import tiny_net
from video_clips import clip, video_net

from compressai.bitstream import (
    BitstreamError,
    CodedFrame,
    DamagedFileError,
    DesyncError,
    FrameCoder,
    UnsupportedFileError,
    VideoHeader,
    VideoWriter,
    WrongWeightsError,
    decode_video,
    encode_video,
    fingerprint,
    open_video,
    sketch_distance,
    sketch_frame,
)
from compressai.bitstream.legacy_video import (
    LegacyVideoReader,
    write_legacy_frame,
    write_legacy_start,
)
from compressai.bitstream.video_codec import frame_to_rgb, to_frame
from compressai.datasets import RawVideoSequence, VideoFormat
from compressai.entropy_models import EntropyModel
from compressai.transforms import frame_to_planes, planes_to_rgb

HEADER = VideoHeader(
    model="ssf2020",
    quality=3,
    metric="mse",
    random_weights=False,
    fingerprint=b"12345678",
    width=96,
    height=80,
    format=VideoFormat.YUV420,
    bitdepth=8,
    framerate=Fraction(30000, 1001),
    frames=2,
    gop=1,
    sync_safe=True,
    hashes=True,
    sketches=True,
)
KEY = CodedFrame(True, ((b"y", b""),), b"hash key", b"sketches")
PREDICTED = CodedFrame(False, ((b"motion", b"z"), (b"", b"\0")), b"hash two", b"another.")
CHECKS = 16

pytestmark = pytest.mark.usefixtures("one_torch_thread")


@pytest.fixture(scope="module")
def net():
    return video_net()


@pytest.fixture(scope="module")
def sequence(tmp_path_factory):
    return RawVideoSequence.from_file(clip(tmp_path_factory.mktemp("clip"), frames=5))


@pytest.fixture(scope="module")
def coded(net, sequence):
    """Five frames, the first and the fourth are key frames."""
    return encoded(net, sequence, gop=3)


def encoded(net, sequence, **options):
    file = io.BytesIO()
    encode_video(net, sequence, file, model="ssf2020", **options)
    return file.getvalue()


def decoded(net, content, **options):
    return list(decode_video(net, open_video(io.BytesIO(content)), **options))


def same(a, b):
    return a.tobytes() == b.tobytes()


def written(*frames, header=HEADER):
    file = io.BytesIO()
    writer = VideoWriter(file, header)
    for frame in frames:
        writer.write(frame)
    return file.getvalue()


def records(content):
    """Start and end of the record of each frame."""
    position = 8 + struct.unpack_from("<H", content, 6)[0] + 4
    while position < len(content):
        end = position + 5 + CHECKS + struct.unpack_from("<I", content, position)[0] + 4
        yield position, end
        position = end


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


def test_models_of_pictures_are_refused(sequence, coded):
    picture_net = tiny_net("mbt2018-mean")
    with pytest.raises(ValueError, match="video model"):
        encoded(picture_net, sequence)
    with pytest.raises(ValueError, match="video model"):
        decoded(picture_net, coded)


# -- the format -----------------------------------------------------------------------------------


def test_layout_is_the_documented_one():
    content = written(KEY, PREDICTED)
    assert content[:8] == b"\x93CAV\x02\x0e" + struct.pack("<H", 44)
    assert content[8:16] == b"\x07ssf2020"
    assert content[16:26] == b"\x03\x0012345678"
    fields = struct.unpack_from("<IIBBIIII", content, 26)
    assert fields == (96, 80, 1, 8, 30000, 1001, 2, 1)
    assert struct.unpack_from("<I", content, 52) == (google_crc32c.value(content[:52]),)
    first = struct.pack("<IB", 9, 0) + b"hash keysketches" + b"\1\0\0\0y" + b"\0\0\0\0"
    assert content[56:].startswith(first)
    crc = google_crc32c.value(content[52:56] + bytes(4) + first)
    assert struct.unpack_from("<I", content, 56 + len(first)) == (crc,)


def test_sketch_is_the_documented_one():
    frame = torch.rand(3, 5, 7)
    samples = frame.double().numpy() - 0.5
    expected = []
    for i in range(4):
        signs = [
            1 - 2 * (np.random.PCG64(seed).random_raw(n) >> np.uint64(i) & np.uint64(1)).astype(int)
            for seed, n in enumerate(samples.shape)
        ]
        total = np.einsum("chw,c,h,w->", samples, *signs) / np.sqrt(samples.size)
        expected.append(total * 2**12)
    found = np.frombuffer(sketch_frame(frame), "<i2")
    assert np.abs(found - expected).max() < 0.6  # rounded to integers


def test_sketch_tells_how_far_frames_are_apart():
    generator = torch.Generator().manual_seed(0)
    frame = torch.rand(3, 64, 96, generator=generator)
    noise = torch.randn(frame.shape, generator=generator)
    for difference in (noise / 50, torch.full_like(frame, 0.02), (noise > 3) * 0.4):
        size = float(difference.square().mean().sqrt())
        found = sketch_distance(sketch_frame(frame), sketch_frame(frame + difference))
        assert 0.2 * size < found < 3 * size
    assert sketch_frame(torch.full((3, 4, 4), torch.inf)) == bytes(8)


def test_what_is_written_is_read():
    for header in (
        HEADER,
        dataclasses.replace(HEADER, quality=None, metric=None, framerate=None, gop=0),
        dataclasses.replace(HEADER, random_weights=True, format=VideoFormat.RGB, bitdepth=16),
        dataclasses.replace(HEADER, sync_safe=False),
    ):
        reader = open_video(io.BytesIO(written(KEY, PREDICTED, header=header)))
        assert reader.header == header
        assert [reader.read(0), reader.read(1)] == [KEY, PREDICTED]


def test_later_fields_of_the_header_are_skipped():
    content = written(KEY)
    longer = bytearray(content[:52] + b"new")
    longer[6:8] = struct.pack("<H", 47)
    longer += struct.pack("<I", google_crc32c.value(bytes(longer)))
    longer += signed(content[56:-4], start=bytes(longer))
    reader = open_video(io.BytesIO(bytes(longer)))
    assert (reader.header, reader.read(0)) == (HEADER, KEY)


@pytest.mark.parametrize(
    "change",
    [
        {"width": 0},
        {"frames": 0},
        {"width": 2**32},
        {"bitdepth": 9},
        {"metric": "psnr"},
        {"model": "\x1b[2J"},
        {"gop": 2**32},
        {"version": 1},
    ],
)
def test_headers_that_do_not_fit_are_not_written(change):
    with pytest.raises(ValueError, match=r"must|fit"):
        dataclasses.replace(HEADER, **change).to_bytes()


def resealed(content, position, value):
    changed = bytearray(content[:52])
    changed[position] = value
    return bytes(changed) + struct.pack("<I", google_crc32c.value(bytes(changed)))


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"", DamagedFileError),
        (b"\x93CA", DamagedFileError),
        (b"\x93CAI\x01", UnsupportedFileError),
        (b"RIFF\0\0\0\0AVI ", UnsupportedFileError),
        (resealed(written(KEY), 4, 3), UnsupportedFileError),
        (resealed(written(KEY), 4, 0), UnsupportedFileError),
        (resealed(written(KEY), 4, 1), UnsupportedFileError),  # flags of version 2
        (resealed(written(KEY), 5, 16), UnsupportedFileError),
        (resealed(written(KEY), 17, 7), DamagedFileError),  # metric
        (resealed(written(KEY), 34, 9), DamagedFileError),  # planes
        (resealed(written(KEY), 35, 9), DamagedFileError),  # bits
        (resealed(written(KEY), 26, 0), DamagedFileError),  # width 0
        (resealed(written(KEY), 9, 27), DamagedFileError),  # name of the model
        (resealed(written(KEY), 8, 40), DamagedFileError),  # its length
    ],
)
def test_bad_starts_are_told_apart(content, error):
    with pytest.raises(error):
        open_video(io.BytesIO(content))


@pytest.mark.parametrize("wrong", [{"latent_hash": b""}, {"sketch": b"short"}])
def test_records_that_the_header_does_not_announce_are_not_written(wrong):
    with pytest.raises(ValueError, match="8 bytes in this file"):
        written(KEY._replace(**wrong))


def signed(record, number=0, start=None):
    """A record with a checksum that fits."""
    start = written() if start is None else start
    covered = start[-4:] + struct.pack("<I", number) + record
    return record + struct.pack("<I", google_crc32c.value(covered))


@pytest.mark.parametrize(
    "record",
    [
        struct.pack("<IB", 0, 0) + bytes(CHECKS),  # no strings
        struct.pack("<IB", 0, 2) + bytes(CHECKS),  # unknown kind
        struct.pack("<IB", 3, 0) + bytes(CHECKS) + b"\0\0\0",  # half a length
        struct.pack("<IB", 8, 0) + bytes(CHECKS) + b"\x09\0\0\0abcd",  # beyond the record
        struct.pack("<IB", 2**32 - 1, 0) + bytes(CHECKS),
    ],
)
def test_bad_records_are_damage(record):
    reader = open_video(io.BytesIO(written() + signed(record)))
    with pytest.raises(DamagedFileError):
        reader.read(0)


def test_long_records_are_refused_before_they_are_read():
    class Endless(io.BytesIO):
        def read(self, length=-1):
            assert length <= 2**20
            return super().read(length) or bytes(length)

    reader = open_video(Endless(written() + struct.pack("<IB", 2**28 + 1, 0)))
    with pytest.raises(DamagedFileError, match="too many"):
        reader.read(0)


# -- damage ---------------------------------------------------------------------------------------


def test_other_weights_are_refused(coded):
    with pytest.raises(WrongWeightsError, match="fingerprints"):
        decoded(video_net(seed=1), coded)


def test_too_large_frames_are_refused_before_memory_is_taken(net):
    huge = dataclasses.replace(HEADER, width=2**20, height=2**20)
    with pytest.raises(UnsupportedFileError, match="max_pixels"):
        decoded(net, written(KEY, header=huge))


def test_damaged_frame_is_named(net, coded):
    _, end = list(records(coded))[1]
    changed = bytearray(coded)
    changed[end - 10] ^= 1
    frames = decode_video(net, open_video(io.BytesIO(bytes(changed))))
    next(frames)
    with pytest.raises(DamagedFileError, match="frame 1"):
        next(frames)


def test_damage_ends_at_the_next_key_frame(net, coded):
    intact = decoded(net, coded)
    _, end = list(records(coded))[1]
    changed = bytearray(coded)
    changed[end - 10] ^= 1
    lost = {}
    frames = decoded(net, bytes(changed), conceal=True, on_loss=lost.__setitem__)
    assert list(lost) == [1, 2]
    assert [same(*pair) for pair in zip(frames, intact, strict=True)] == [True, False, False] + [
        True
    ] * 2
    assert same(frames[2], frames[0])


def test_swapped_frames_are_noticed(net, coded):
    (a, b), (_, c) = list(records(coded))[1:3]
    swapped = coded[:a] + coded[b:c] + coded[a:b] + coded[c:]
    with pytest.raises(DamagedFileError, match="frame 1"):
        decoded(net, swapped)


def test_frame_of_another_video_is_noticed(net, sequence, coded, tmp_path):
    other_clip = clip(tmp_path, frames=5, width=64)
    other = encoded(net, RawVideoSequence.from_file(other_clip), gop=3)
    pairs = list(zip(records(coded), records(other), strict=True))
    for number, ((a, b), (c, d)) in enumerate(pairs):
        spliced = coded[:a] + other[c:d] + coded[b:]
        with pytest.raises(DamagedFileError, match=f"frame {number}.*place or file"):
            decoded(net, spliced)


def test_lost_first_frame_is_grey_until_a_key_frame(net, coded):
    changed = bytearray(coded)
    changed[next(records(coded))[1] - 10] ^= 1
    lost = {}
    frames = decoded(net, bytes(changed), conceal=True, on_loss=lost.__setitem__)
    assert list(lost) == [0, 1, 2]
    assert {*np.unique(frames[0]["y"]), *np.unique(frames[0]["u"])} == {128}
    assert same(frames[4], decoded(net, coded)[4])


def test_truncated_file_gives_the_frames_before(net, coded):
    start, _ = list(records(coded))[2]
    for cut in (start, start + 3, start + 20):
        with pytest.raises(DamagedFileError, match=r"frame 2.*truncated"):
            decoded(net, coded[:cut])
        lost = {}
        frames = decoded(net, coded[:cut], conceal=True, on_loss=lost.__setitem__)
        assert (len(frames), list(lost)) == (2, [2])


def test_promised_frames_are_checked_against_the_limit(net, sequence, coded):
    reader = LegacyVideoReader(io.BytesIO(old_file(80, 96, 2**32 - 1)))
    assert reader.header.frames == 2**32 - 1
    with pytest.raises(UnsupportedFileError, match="more than the limit of 1048576"):
        next(decode_video(net, reader, conceal=True))
    with pytest.raises(UnsupportedFileError, match="raise max_frames"):
        decoded(net, coded, max_frames=4)
    assert len(decoded(net, coded, max_frames=5)) == 5
    with pytest.raises(ValueError, match="raise max_frames"):
        encoded(net, sequence, max_frames=4)


def test_million_promised_frames_do_not_make_a_large_video(net):
    reader = LegacyVideoReader(io.BytesIO(old_file(80, 96, 2**32 - 1)))
    assert list(decode_video(net, reader, conceal=True, max_frames=2**32)) == []


def empty_records(count, header):
    """A file whose checksums fit, of records that hold no strings."""
    start = written(header=header)
    record = struct.pack("<IB", 0, 1) + bytes(CHECKS)
    return start + b"".join(signed(record, number, start) for number in range(count))


def test_small_file_of_lost_frames_does_not_make_a_large_video(net):
    header = dataclasses.replace(HEADER, frames=1000, fingerprint=fingerprint(net))
    lost = {}
    options = {"conceal": True, "max_pixels": 128 * 128}
    frames = decoded(net, empty_records(1000, header), on_loss=lost.__setitem__, **options)
    area = header.width * header.height
    assert len(frames) == 128 * 128 // area == 2
    assert list(lost) == [0, 1, 2]
    assert "decoding ends here" in str(lost[2])


def test_decoded_frames_pay_for_concealed_ones(net, coded):
    damaged = bytearray(coded)
    for start, end in list(records(coded))[1:3]:
        damaged[start + 30 : end] = bytes(end - start - 30)
    options = {"conceal": True, "max_pixels": 128 * 128}
    assert len(decoded(net, bytes(damaged), **options)) == 5


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


# -- anything -------------------------------------------------------------------------------------


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_changed_byte_is_noticed(net, coded, data):
    position = data.draw(st.integers(0, len(coded) - 1))
    changed = bytearray(coded)
    changed[position] ^= data.draw(st.integers(1, 255))
    with pytest.raises(BitstreamError):
        decoded(net, bytes(changed))


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(strings=st.lists(st.binary(max_size=40), min_size=2, max_size=2))
def test_strings_of_anybody_end_in_a_frame_or_an_error(net, strings):
    coder = FrameCoder(net, 80, 96)
    try:
        x_hat = coder.decode(CodedFrame(True, (tuple(strings),)))
    except DamagedFileError:
        return
    assert x_hat.shape == (1, 3, 80, 96)


def test_predicted_frame_without_reference_is_damage(net):
    with pytest.raises(DamagedFileError, match="predicted from is missing"):
        FrameCoder(net, 80, 96).decode(PREDICTED)


# -- files of CompressAI 1.2 ----------------------------------------------------------------------


def old_file(height, width, frames, start=b"\x0d\x02"):
    file = io.BytesIO()
    file.write(start)
    write_legacy_start(file, height, width, 8, frames)
    return file.getvalue()


def test_old_files_are_read(net, sequence):
    file = io.BytesIO(old_file(80, 96, 3))
    file.seek(0, io.SEEK_END)
    coder = FrameCoder(net, 80, 96, centred=True)
    assert coder.pad(torch.ones(1, 3, 80, 96))[0, 0, 24:104, 16:112].all()
    reconstructions = []
    for number in range(3):
        frame, x_hat = coder.encode(frame_to_rgb(sequence[number], sequence), number == 0)
        write_legacy_frame(file, frame, 80, 96)
        reconstructions.append(x_hat)
    content = file.getvalue()
    assert content[15:27] == struct.pack(">III", 1, 1, 2)
    reader = open_video(io.BytesIO(content))
    header = reader.header
    assert (header.model, header.metric, header.quality) == ("ssf2020", "mse", 3)
    assert (header.height, header.width, header.frames) == (80, 96, 3)
    for frame, x_hat in zip(decode_video(net, reader), reconstructions, strict=True):
        assert same(frame, to_frame(x_hat, header))
    bare = LegacyVideoReader(io.BytesIO(content[2:]), names=("mse", 3))
    assert bare.header == header

    for cut in (1, 5, 14, 20, len(content) - 1):
        with pytest.raises(BitstreamError):
            decoded(net, content[:cut])


@pytest.mark.parametrize(
    "content",
    [
        old_file(80, 96, 1, b"\x0d\x20"),
        old_file(0, 96, 1),
        old_file(80, 96, 0),
        old_file(80, 96, 1)[:10] + b"\x09" + old_file(80, 96, 1)[11:],
        old_file(80, 96, 1) + struct.pack(">IIIII", 2, 1, 2, 0, 0),
        old_file(80, 96, 1) + struct.pack(">IIII", 1, 1, 1, 0),
    ],
)
def test_impossible_old_files_are_damage(net, content):
    with pytest.raises(DamagedFileError):
        decoded(net, content)
