# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Images of every kind reach the network as a user expects, and what is lost is told."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
import torch
from image_files import png
from PIL import Image, ImageCms

from compressai.bitstream import DamagedFileError, ImageData, read_image, save_image
from compressai.bitstream.image import check_image_file, read_alpha

RNG = np.random.Generator(np.random.PCG64(7))


def noise(*shape):
    return RNG.integers(0, 256, shape, dtype=np.uint8)


def file_of(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    buffer.seek(0)
    return buffer


def as_network_input(rgb):
    """What the network must get for 8-bit samples, to the bit."""
    return torch.from_numpy(rgb.astype(np.float32) / np.float32(255)).permute(2, 0, 1)


def linear_profile():
    """A display profile with sRGB's primaries and linear light, as a file's bytes."""

    def fixed(value):
        return struct.pack(">i", round(value * 65536))

    def xyz(*values):
        return b"XYZ \0\0\0\0" + b"".join(map(fixed, values))

    text = b"linear light"
    tags = {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", len(text) + 1) + text + b"\0" * 80,
        b"wtpt": xyz(0.9642, 1, 0.8249),
        b"rXYZ": xyz(0.4361, 0.2225, 0.0139),
        b"gXYZ": xyz(0.3851, 0.7169, 0.0971),
        b"bXYZ": xyz(0.1431, 0.0606, 0.7141),
    }
    curve = b"curv\0\0\0\0" + struct.pack(">I", 0)
    tags |= {b"rTRC": curve, b"gTRC": curve, b"bTRC": curve}
    position = 128 + 4 + 12 * len(tags)
    table, data = struct.pack(">I", len(tags)), b""
    for name, value in tags.items():
        value += b"\0" * (-len(value) % 4)
        table += name + struct.pack(">II", position + len(data), len(value))
        data += value
    head = bytearray(128)
    head[8:12] = b"\x02\x10\0\0"
    head[12:24] = b"mntrRGB XYZ "
    head[36:40] = b"acsp"
    head[68:80] = fixed(0.9642) + fixed(1) + fixed(0.8249)
    head[0:4] = struct.pack(">I", position + len(data))
    return bytes(head) + table + data


def test_rgb_samples_become_exactly_their_255th():
    image = Image.fromarray(noise(5, 7, 3))
    sample = read_image(file_of(image))
    assert torch.equal(sample.pixels, as_network_input(np.asarray(image)))
    assert sample.pixels.dtype == torch.float32
    assert (sample.mode, sample.size, sample.notes) == ("RGB", (7, 5), [])


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1)])
def test_smallest_images_are_read_and_given_back(size):
    image = Image.fromarray(noise(size[1], size[0], 3))
    sample = read_image(file_of(image))
    assert sample.size == size
    assert np.array_equal(np.asarray(sample.to_image()), np.asarray(image))


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "YCbCr", "HSV", "CMYK"])
def test_opaque_modes_are_what_pillow_makes_of_them(mode):
    image = Image.fromarray(noise(6, 5, 3)).convert(mode)
    sample = read_image(image)
    assert torch.equal(sample.pixels, as_network_input(np.asarray(image.convert("RGB"))))
    assert sample.mode == ("L" if mode in ("1", "L") else "RGB")
    assert bool(sample.notes) == (mode == "CMYK")


@pytest.mark.parametrize("mode", ["1", "L", "RGB"])
def test_images_come_back_in_their_mode(mode):
    image = Image.fromarray(noise(6, 5, 3)).convert(mode)
    back = read_image(image).to_image()
    assert back.mode == ("RGB" if mode == "RGB" else "L")
    assert np.array_equal(np.asarray(back), np.asarray(image.convert(back.mode)))


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_alpha_is_kept_without_loss_and_colours_as_they_are_below_it(mode):
    image = Image.fromarray(noise(6, 5, len(mode) if mode == "RGBA" else 2), mode=None)
    assert image.mode == mode
    sample = read_image(file_of(image))
    colours = np.asarray(image)[..., :-1]
    rgb = np.broadcast_to(colours, (6, 5, 3))
    assert torch.equal(sample.pixels, as_network_input(rgb))
    assert np.array_equal(np.asarray(sample.to_image()), np.asarray(image))
    kept = read_alpha(sample.alpha_png(), (5, 6))
    assert np.array_equal(np.asarray(kept), np.asarray(image)[..., -1])
    assert (sample.mode, sample.notes) == (mode, [])


def test_alpha_that_is_opaque_everywhere_is_not_coded():
    image = Image.fromarray(noise(6, 5, 3)).convert("RGBA")
    sample = read_image(image)
    assert (sample.mode, sample.alpha_png()) == ("RGB", b"")


def test_alpha_plane_carries_nothing_but_samples():
    image = Image.fromarray(noise(6, 5, 4))
    big = read_image(file_of(image, icc_profile=linear_profile())).alpha_png()
    assert b"iCCP" not in big


@pytest.mark.parametrize("transparency", [3, bytes([0, 80, 255, 120])], ids=["index", "table"])
def test_palette_with_transparency_becomes_colours_and_alpha(transparency):
    image = Image.fromarray(np.arange(12, dtype=np.uint8).reshape(3, 4) % 4).convert("P")
    image.putpalette(noise(4, 3).tobytes())
    file = file_of(image, transparency=transparency)
    expected = np.asarray(Image.open(file).convert("RGBA"))
    file.seek(0)
    sample = read_image(file)
    assert sample.mode == "RGBA"
    assert np.array_equal(np.asarray(sample.to_image()), expected)


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_transparent_colour_becomes_alpha(mode):
    samples = np.zeros((2, 2) if mode == "L" else (2, 2, 3), dtype=np.uint8)
    samples[0, 1] = 9
    image = Image.fromarray(samples)
    sample = read_image(file_of(image, transparency=9 if mode == "L" else (9, 9, 9)))
    assert sample.mode == mode + "A"
    assert np.array_equal(np.asarray(sample.alpha), [[255, 0], [255, 255]])


def test_wide_grey_keeps_its_precision_and_says_that_it_will_not_come_back():
    values = RNG.integers(0, 65536, (4, 5), dtype=np.uint16)
    sample = read_image(file_of(Image.fromarray(values)))
    expected = values.astype(np.float32) / np.float32(65535)
    assert torch.equal(sample.pixels, torch.from_numpy(expected).expand(3, 4, 5))
    assert sample.mode == "L"
    assert "65535" in sample.notes[0]


def test_wide_grey_keeps_a_transparent_value():
    values = np.array([[[7], [65535]], [[300], [7]]])
    sample = read_image(png(0, 16, values, (b"tRNS", b"\0\7")))
    assert sample.mode == "LA"
    assert np.array_equal(np.asarray(sample.alpha), [[0, 255], [255, 0]])


def test_32_bit_grey_is_taken_as_16_bit_and_clipped_with_a_note():
    values = np.array([[0, 65535, -5, 70000]], dtype=np.int32)
    sample = read_image(Image.fromarray(values))
    assert sample.pixels[0].tolist() == [[0, 1, 0, 1]]
    assert any("clipped" in note for note in sample.notes)


@pytest.mark.parametrize(("highest", "white"), [(1.0, 1), (200.0, 255), (4000.0, 65535)])
def test_float_grey_says_which_value_it_takes_for_white(highest, white):
    values = np.array([[0, highest / 2, highest]], dtype=np.float32)
    sample = read_image(file_of(Image.fromarray(values), "TIFF"))
    assert torch.equal(sample.pixels[0], torch.from_numpy(values / np.float32(white)))
    assert f"0 to {white} " in sample.notes[0]


def test_float_grey_that_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="not finite"):
        read_image(Image.fromarray(np.array([[0, np.nan]], dtype=np.float32)))


@pytest.mark.parametrize(
    ("colour_type", "samples", "mode"), [(2, 3, "RGB"), (4, 2, "LA"), (6, 4, "RGBA")]
)
def test_16_bit_colours_are_cut_to_8_bits_with_a_note(colour_type, samples, mode):
    values = RNG.integers(0, 65536, (3, 4, samples), dtype=np.uint16)
    sample = read_image(png(colour_type, 16, values))
    assert sample.mode == mode
    assert np.array_equal(np.asarray(sample.to_image()), values >> 8)
    assert sample.notes == ["16-bit colours are reduced to 8 bits"]


def test_cmyk_jpeg_is_converted_with_a_note():
    image = Image.fromarray(noise(8, 8, 3)).convert("CMYK")
    file = file_of(image, "JPEG", quality=95)
    expected = np.asarray(Image.open(file).convert("RGB"))
    sample = read_image(file)
    assert torch.equal(sample.pixels, as_network_input(expected))
    assert len(sample.notes) == 1
    assert "CMYK" in sample.notes[0]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation):
    upright = np.zeros((4, 6, 3), dtype=np.uint8)
    upright[0, 0] = 200  # the corner that must come out on top, left
    upright[0, 5] = 100
    turned = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright),
        7: np.rot90(upright.transpose(1, 0, 2), 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = file_of(Image.fromarray(np.ascontiguousarray(turned)), exif=exif.tobytes())
    sample = read_image(file)
    assert torch.equal(sample.pixels, as_network_input(upright))
    assert sample.notes == []


def test_metadata_that_is_lost_is_told():
    exif = Image.Exif()
    exif[0x010F] = "maker of cameras"
    sample = read_image(file_of(Image.fromarray(noise(8, 8, 3)), "JPEG", exif=exif.tobytes()))
    assert sample.notes == ["metadata (EXIF, XMP) is not kept"]


@pytest.mark.parametrize("kind", ["TIFF", "JPEG", "WEBP", "BMP", "PPM", "GIF"])
def test_plain_files_need_no_note(kind):
    assert read_image(file_of(Image.fromarray(noise(8, 8, 3)), kind)).notes == []


@pytest.mark.parametrize("kind", ["GIF", "WEBP"])
def test_first_frame_of_an_animation_is_taken_with_a_note(kind):
    frames = [Image.new("RGB", (6, 4), colour) for colour in ("red", "blue", "lime")]
    file = file_of(frames[0], kind, save_all=True, append_images=frames[1:], lossless=True)
    sample = read_image(file)
    assert np.array_equal(np.asarray(sample.to_image()), np.asarray(frames[0]))
    assert sample.notes == ["only the first of 3 frames is kept"]


def test_srgb_profile_changes_nothing_and_needs_no_note():
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image = Image.fromarray(noise(6, 5, 3))
    sample = read_image(file_of(image, icc_profile=profile))
    assert torch.equal(sample.pixels, as_network_input(np.asarray(image)))
    assert sample.notes == []


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_other_profiles_are_converted_with_a_note(mode):
    image = Image.new("RGB", (3, 2), (55, 55, 55))
    image = image.convert(mode, palette=Image.Palette.ADAPTIVE)
    if mode == "RGBA":
        image.putalpha(77)
    sample = read_image(file_of(image, icc_profile=linear_profile()))
    # Linear light 55 / 255 is 0.5 of sRGB's range, by the transfer function of IEC 61966-2-1.
    assert torch.allclose(sample.pixels, torch.tensor(0.5), atol=0.01)
    assert sample.notes == ["colours are converted from the embedded profile to sRGB"]
    assert sample.mode == ("RGBA" if mode == "RGBA" else "RGB")


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_useless_profiles_are_dropped_with_a_note(mode):
    image = Image.fromarray(noise(8, 8, 3)).convert(mode)
    sample = read_image(file_of(image, "TIFF", icc_profile=b"no profile at all"))
    assert any("cannot be used" in note for note in sample.notes)
    assert torch.equal(sample.pixels, as_network_input(np.asarray(image.convert("RGB"))))


def test_colour_profile_of_a_grey_image_is_dropped_with_a_note():
    image = Image.fromarray(noise(8, 8))
    sample = read_image(file_of(image, icc_profile=linear_profile()))
    assert any("cannot be used" in note for note in sample.notes)
    assert np.array_equal(np.asarray(sample.to_image()), np.asarray(image))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP"])
def test_truncated_files_are_a_value_error(kind, tmp_path):
    content = file_of(Image.fromarray(noise(40, 40, 3)), kind).getvalue()
    path = tmp_path / "cut.image"
    for length in sorted({0, 1, 10, len(content) // 3, len(content) // 2, len(content) - 40}):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match=r"cut\.image"):
            read_image(path)


def test_missing_file_and_folder_have_the_errors_of_the_system(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_image(tmp_path / "none.png")
    with pytest.raises(IsADirectoryError):
        read_image(tmp_path)


def test_images_beyond_pillows_limit_are_refused_before_they_are_decoded(monkeypatch):
    file = file_of(Image.new("L", (40, 40)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    with pytest.raises(ValueError, match="too large"):
        read_image(file)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # Pillow only warns; we need not
    assert read_image(io.BytesIO(file.getvalue())).size == (40, 40)


def test_values_are_rounded_and_clamped_on_the_way_back():
    pixels = torch.tensor([-0.5, 0.49 / 255, 0.51 / 255, 254.6 / 255, 1.5]).expand(3, 1, 5)
    assert np.asarray(ImageData(pixels).to_image())[0, :, 0].tolist() == [0, 0, 1, 255, 255]


@pytest.mark.parametrize(
    "plane",
    [
        Image.new("L", (4, 6)),
        Image.new("RGB", (6, 4)),
        Image.new("I;16", (6, 4)),
    ],
    ids=["size", "colours", "depth"],
)
def test_alpha_plane_of_another_kind_is_damage(plane):
    with pytest.raises(DamagedFileError, match="alpha plane"):
        read_alpha(file_of(plane).getvalue(), (6, 4))


def test_any_damage_of_an_alpha_plane_is_a_damaged_file_or_a_plane():
    content = file_of(Image.fromarray(noise(4, 6))).getvalue()
    for position in range(len(content)):
        changed = bytearray(content)
        changed[position] ^= 0x55
        for damaged in (content[:position] or b"\0", bytes(changed)):
            try:
                plane = read_alpha(damaged, (6, 4))
            except DamagedFileError:
                continue
            assert (plane.mode, plane.size) == ("L", (6, 4))


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp", ".bmp", ".ppm"])
def test_saved_images_hold_every_value(mode, suffix, tmp_path):
    channels = {"L": (), "LA": (2,), "RGB": (3,), "RGBA": (4,)}[mode]
    sample = read_image(Image.fromarray(noise(6, 5, *channels)))
    path = tmp_path / f"p{suffix}"
    if mode.endswith("A") and suffix in (".bmp", ".ppm"):
        with pytest.raises(ValueError, match="transparency"):
            save_image(sample, path)
        assert list(tmp_path.iterdir()) == []
        return
    assert check_image_file(path, mode) is None
    save_image(sample, path)
    wanted = "RGBA" if mode.endswith("A") else "RGB"
    with Image.open(path) as back:
        expected = sample.to_image().convert(wanted)
        assert np.array_equal(np.asarray(back.convert(wanted)), np.asarray(expected))


def test_lossy_and_unknown_kinds_of_files_are_told_before_the_work(tmp_path):
    assert "lossy" in check_image_file("out.JPG", "RGB")
    with pytest.raises(ValueError, match=r"suffix must be one of .*\.png.* got '\.xyz'"):
        check_image_file("out.xyz", "RGB")
    sample = read_image(Image.fromarray(noise(8, 8, 3)))
    save_image(sample, tmp_path / "p.jpg")
    assert (tmp_path / "p.jpg").read_bytes()[:2] == b"\xff\xd8"


def test_what_pillow_warns_of_becomes_a_note(recwarn):
    exif = b"Exif\0\0MM\0*\0\0\0\x08\xff\xff"
    sample = read_image(file_of(Image.fromarray(noise(8, 8, 3)), "JPEG", exif=exif))
    assert any("EXIF" in note for note in sample.notes)
    assert not recwarn.list
