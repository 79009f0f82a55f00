# SPDX-License-Identifier: BSD-3-Clause-Clear
"""What image files say beyond what Pillow hands on: transparency, depth, colours, size."""

from __future__ import annotations

import io
import os
import struct

import numpy as np
import pytest
from image_files import file_of, isobmff_box, png
from PIL import Image, ImageFile, features

from compressai._images import find_images, oriented_size, read_rgb, read_samples, read_size
from compressai.bitstream import read_image

RNG = np.random.Generator(np.random.PCG64(3))


def noise(*shape):
    return RNG.integers(0, 256, shape, dtype=np.uint8)


def notes_of(file):
    return read_image(file).notes


def test_other_programs_are_not_called_for_a_file(monkeypatch, tmp_path):
    """Pillow would hand PostScript to Ghostscript, whatever the file is called."""
    from PIL import EpsImagePlugin

    monkeypatch.setattr(
        EpsImagePlugin, "Ghostscript", lambda *_, **__: pytest.fail("it was called")
    )
    content = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 20\n%%EndComments\nshowpage\n"
    for name in ("x.png", "x.eps", "x"):
        path = tmp_path / name
        path.write_bytes(content)
        for read in (read_image, read_size, read_rgb):
            with pytest.raises(ValueError, match="no image"):
                read(path)
        path.unlink()
    (tmp_path / "x").write_bytes(content)
    assert find_images(tmp_path) == []


# -- transparency of PNG files --------------------------------------------------------------------


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_transparent_grey_of_any_depth_is_that_value_and_no_other(depth):
    levels = min(2**depth, 16)
    # The highest values too, and the last bits of deep ones.
    values = np.unique([*range(levels), 2**depth - 1, 2**depth - 2, 2**depth >> 1])
    for value in values:
        sample = read_image(
            png(0, depth, values[None, :, None], (b"tRNS", struct.pack(">H", value)))
        )
        assert sample.mode == "LA"
        expected = np.where(values == value, 0, 255)[None]
        assert np.array_equal(np.asarray(sample.alpha), expected), value
        white = 2**depth - 1
        assert np.allclose(sample.pixels[0, 0].numpy(), values / white, atol=1e-6)


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_only_the_bits_that_samples_have_count_for_transparency(depth):
    values = np.arange(2)[None, :, None]
    sample = read_image(png(0, depth, values, (b"tRNS", struct.pack(">H", 1 + (1 << depth)))))
    assert np.asarray(sample.alpha).tolist() == [[255, 0]]


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
@pytest.mark.parametrize("table", [b"\0", b"\xff\0", b"\x0a\x14", b"\0\xff"])
def test_transparent_palettes_of_any_depth_keep_their_table(depth, table):
    levels = min(2**depth, 16)
    rows = np.arange(levels)[None, :, None]
    palette = noise(levels, 3)
    file = png(3, depth, rows, (b"PLTE", palette.tobytes()), (b"tRNS", table))
    image = np.asarray(read_image(file).to_image())
    assert np.array_equal(image[0, :, :3], palette)
    assert image[0, :, 3].tolist() == [*table, *[255] * (levels - len(table))]


def test_transparent_16_bit_colour_is_compared_in_all_its_bits():
    rows = np.array([[[0x1234, 5, 6], [0x1235, 5, 6], [0x1234, 5, 0x106]]])
    sample = read_image(png(2, 16, rows, (b"tRNS", struct.pack(">3H", 0x1234, 5, 6))))
    assert np.asarray(sample.alpha).tolist() == [[0, 255, 255]]
    assert sample.notes == ["16-bit colours are reduced to 8 bits"]


# -- notes ----------------------------------------------------------------------------------------

GREY = np.arange(6, dtype=np.uint8).reshape(2, 3, 1)
SRGB_POINTS = struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
WIDE_POINTS = struct.pack(">8I", 31270, 32900, 70800, 29200, 17000, 79700, 13100, 4600)


@pytest.mark.parametrize(
    ("chunks", "words"),
    [
        ([(b"gAMA", struct.pack(">I", 45455))], []),
        ([(b"gAMA", struct.pack(">I", 100000))], ["gamma 1 "]),
        ([(b"cHRM", SRGB_POINTS)], []),
        ([(b"cHRM", WIDE_POINTS)], ["cHRM"]),
        ([(b"gAMA", struct.pack(">I", 100000)), (b"cHRM", WIDE_POINTS)], ["gAMA", "cHRM"]),
        # sRGB overrides both.
        ([(b"sRGB", b"\0"), (b"gAMA", struct.pack(">I", 100000))], []),
        ([(b"sRGB", b"\1")], ["rendering intent"]),
        ([(b"cICP", b"\1\x0d\0\1")], []),
        ([(b"cICP", b"\x09\x10\0\1")], ["HDR (PQ)", "BT.2020"]),
        ([(b"cICP", b"\x09\x12\0\1")], ["HDR (HLG)", "BT.2020"]),
        ([(b"cICP", b"\x0c\x0d\0\1")], ["Display P3"]),
        ([(b"cICP", b"\x01\x08\0\1"), (b"cLLI", b"\0" * 8)], ["linear", "cLLI"]),
        ([(b"iCCP", b"name\0\0nothing that could be inflated")], ["profile is damaged"]),
    ],
)
def test_colour_spaces_of_png_files_that_are_not_converted_are_told(chunks, words):
    notes = notes_of(png(0, 8, GREY, *chunks))
    assert len(notes) == len(words)
    for word in words:
        assert any(word in note for note in notes)


@pytest.mark.parametrize("layout", ["raw", "plain"])
@pytest.mark.parametrize("white", [255, 256, 1023, 65535])
def test_wide_colours_of_ppm_files_are_told(layout, white):
    values = np.linspace(0, white, 12).astype(int)
    if layout == "plain":
        body = b"P3 2 2 %d\n" % white + b" ".join(b"%d" % value for value in values)
    else:
        kind = ">u2" if white > 255 else "u1"
        body = b"P6 2 2 %d\n" % white + values.astype(kind).tobytes()
    notes = notes_of(io.BytesIO(body))
    assert notes == (
        [f"{white.bit_length()}-bit colours are reduced to 8 bits"] if white > 255 else []
    )


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_wide_samples_of_sgi_files_are_told(channels):
    head = struct.pack(">hBBHHHH", 474, 0, 2, 3 if channels > 1 else 2, 2, 2, channels)
    head = head.ljust(512, b"\0")
    notes = notes_of(io.BytesIO(head + bytes(2 * 4 * channels)))
    kind = "greyscale is" if channels == 1 else "colours are"
    assert notes[0] == f"16-bit {kind} reduced to 8 bits"


def tiff(tags, data, order="<"):
    """A TIFF file by hand; ``tags``: ``(tag, type, values)``, types 3 (short) and 5 (fraction)."""
    tags = sorted([*tags, (273, 4, [8]), (279, 4, [len(data)])])
    start = 8 + len(data)
    table, more = struct.pack(order + "H", len(tags)), b""
    behind = start + 2 + 12 * len(tags) + 4
    for tag, kind, values in tags:
        packed = struct.pack(order + {3: "H", 4: "I", 5: "I"}[kind] * len(values), *values)
        count = len(values) // (2 if kind == 5 else 1)
        if len(packed) > 4:
            place, more = struct.pack(order + "I", behind + len(more)), more + packed
        else:
            place = packed.ljust(4, b"\0")
        table += struct.pack(order + "HHI", tag, kind, count) + place
    head = b"II*\0" if order == "<" else b"MM\0*"
    return io.BytesIO(head + struct.pack(order + "I", start) + data + table + bytes(4) + more)


def rgb_tags(depth, samples=3, *, photometric=2):
    return [
        *((256, 3, [2]), (257, 3, [2]), (258, 3, [depth] * samples), (259, 3, [1])),
        *((262, 3, [photometric]), (277, 3, [samples]), (278, 3, [2])),
    ]


@pytest.mark.parametrize("order", ["<", ">"])
def test_wide_colours_of_tiff_files_are_told(order):
    notes = notes_of(tiff(rgb_tags(16), bytes(24), order))
    assert notes == ["16-bit colours are reduced to 8 bits"]
    assert notes_of(tiff(rgb_tags(8), bytes(12), order)) == []


def test_wide_cmyk_of_tiff_files_is_told():
    notes = notes_of(tiff(rgb_tags(16, 4, photometric=5), bytes(32)))
    assert "16-bit colours are reduced to 8 bits" in notes


def test_white_of_12_bit_greyscale_is_what_12_bits_hold():
    data = bytes([0xFF, 0xF0, 0x00, 0x80, 0x0F, 0xFF])
    sample = read_image(tiff(rgb_tags(12, 1, photometric=1), data))
    assert np.allclose(sample.pixels[0].numpy() * 4095, [[4095, 0], [0x800, 0xFFF]])
    assert "0 to 4095" in sample.notes[0]


def test_colour_tags_of_tiff_files_are_told():
    points = [31270, 100000, 32900, 100000]
    wide = [70800, 100000, 29200, 100000, 17000, 100000, 79700, 100000, 13100, 100000, 4600, 100000]
    notes = notes_of(tiff([*rgb_tags(8), (318, 5, points), (319, 5, wide)], bytes(12)))
    assert notes == ["primaries (TIFF) are ignored: colours are taken as sRGB"]
    curve = [(301, 3, list(range(256)))]
    assert "transfer function" in notes_of(tiff([*rgb_tags(8), *curve], bytes(12)))[0]


def test_adobe_rgb_that_only_exif_tells_is_told():
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA001] = 2
    file = file_of(Image.fromarray(noise(8, 8, 3)), "JPEG", exif=exif)
    assert any("Adobe RGB" in note for note in notes_of(file))


@pytest.mark.skipif(not features.check("jpg_2000"), reason="this Pillow cannot write JPEG 2000")
@pytest.mark.parametrize("suffix", ["j2k", "jp2"])
def test_depth_and_colour_space_of_jpeg_2000_are_told(suffix):
    image = Image.fromarray(noise(16, 16, 3))
    content = file_of(image, "JPEG2000", no_jp2=suffix == "j2k").getvalue()
    assert notes_of(io.BytesIO(content)) == []
    siz = content.index(b"\xff\x51")
    deep = bytearray(content)
    # 12 bits in the codestream and in the box that repeats it.
    deep[siz + 40 : siz + 49 : 3] = bytes([11] * 3)
    if suffix == "jp2":
        deep[content.index(b"ihdr") + 14] = 11
        other = content.replace(b"colr\x01\0\0\0\0\0\x10", b"colr\x01\0\0\0\0\0\x0e")
        assert any("colour space 14" in note for note in notes_of(io.BytesIO(other)))
    assert "12-bit colours are reduced to 8 bits" in notes_of(io.BytesIO(bytes(deep)))


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow cannot write AVIF")
def test_depth_and_transfer_of_avif_are_told():
    content = file_of(Image.fromarray(noise(16, 16, 3)), "AVIF").getvalue()
    assert notes_of(io.BytesIO(content)) == []
    place = content.index(b"nclx") + 4
    hdr = content[:place] + struct.pack(">HH", 9, 16) + content[place + 4 :]
    notes = notes_of(io.BytesIO(hdr))
    assert any("HDR (PQ)" in note for note in notes)
    assert any("BT.2020" in note for note in notes)


def test_boxes_that_lie_about_their_length_end_the_search():
    from compressai._images.losses import _boxes

    inner = isobmff_box(b"colr", b"nclx" + bytes(7))
    meta = isobmff_box(b"meta", bytes(4) + isobmff_box(b"iprp", isobmff_box(b"ipco", inner)))
    assert dict(_boxes(io.BytesIO(meta))) == {b"colrnclx": b"nclx" + bytes(7)}
    for damaged in (struct.pack(">I", 7) + b"meta", struct.pack(">I", 2**31) + b"meta", b"\0" * 7):
        assert list(_boxes(io.BytesIO(damaged))) == []
    nested = b""
    for _ in range(2000):
        nested = isobmff_box(b"iprp", nested)
    assert len(list(_boxes(io.BytesIO(nested)))) == 1


def test_linear_light_of_qoi_is_told():
    head = b"qoif" + struct.pack(">II", 1, 1) + b"\3"
    pixel = b"\xfe\1\2\3" + bytes(7) + b"\1"
    assert notes_of(io.BytesIO(head + b"\0" + pixel)) == []
    assert "linear light" in notes_of(io.BytesIO(head + b"\1" + pixel))[0]


@pytest.mark.parametrize(
    ("space", "points", "word"),
    [
        (b"BGRs", 0, None),
        (b"\0\0\0\0", 0, None),
        (b"\0\0\0\0", 7, "colour space"),
        (b"DEBM", 0, "profile"),
    ],
)
def test_colour_spaces_of_bmp_files_are_told(space, points, word):
    info = struct.pack("<IiiHHIIiiII", 124, 1, 1, 1, 24, 0, 4, 0, 0, 0, 0)
    info += struct.pack("<4I", 0, 0, 0, 0) + space + struct.pack("<I", points)
    info = info.ljust(124, b"\0")
    file = b"BM" + struct.pack("<IHHI", 14 + 124 + 4, 0, 0, 14 + 124) + info + bytes(4)
    notes = notes_of(io.BytesIO(file))
    assert len(notes) == (word is not None)
    assert all(word in note for note in notes)


def test_sizes_of_an_icon_that_are_left_out_are_told():
    file = file_of(Image.new("RGBA", (64, 64), "teal"), "ICO", sizes=[(16, 16), (32, 32)])
    assert notes_of(file) == ["only the largest of 2 sizes is kept"]


def test_pages_of_a_tiff_are_told():
    pages = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    file = file_of(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    assert notes_of(file) == ["only the first of 2 frames is kept"]


# -- sizes and files ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG", "WEBP", "GIF", "BMP", "PPM"])
def test_size_is_checked_before_pixels_are_decoded(kind, monkeypatch):
    file = file_of(Image.new("L", (300, 200)), kind)
    loads = []
    monkeypatch.setattr("compressai._images.reading.notes_on_losses", loads.append)
    with pytest.raises(ValueError, match="300 x 200 = 60000 pixels, more than the limit of 59999"):
        read_image(file, max_pixels=59999)
    assert loads == []
    monkeypatch.undo()
    file.seek(0)
    assert read_image(file, max_pixels=60000).size == (300, 200)


def icon(kind, inner):
    """An icon file whose directory says 16 x 16 (ICO) or 128 x 128, whatever is in it."""
    if kind == "ICNS":
        return (
            b"icns"
            + struct.pack(">I", 16 + len(inner))
            + b"ic07"
            + (struct.pack(">I", 8 + len(inner)) + inner)
        )
    return struct.pack("<3H4B2H2I", 0, 1, 1, 16, 16, 0, 0, 1, 32, 8, 22) + inner


def dib(image):
    """An image as ICO files have it: without the head of a BMP file, twice as high, a mask."""
    content = bytearray(file_of(image, "DIB").getvalue())
    content[8:12] = struct.pack("<i", 2 * image.height)
    return bytes(content) + bytes((image.width + 31) // 32 * 4 * image.height)


@pytest.mark.parametrize(
    ("kind", "inner"), [("ICO", "PNG"), ("ICO", "DIB"), ("ICNS", "PNG"), ("ICNS", "JPEG2000")]
)
@pytest.mark.parametrize("as_path", [True, False])
def test_images_in_icons_are_measured_before_they_are_decoded(
    kind, inner, as_path, tmp_path, monkeypatch
):
    image = Image.new("RGBA", (300, 200))
    source = io.BytesIO(icon(kind, dib(image) if inner == "DIB" else file_of(image, inner).read()))
    if as_path:
        (tmp_path / "icon").write_bytes(source.getvalue())
        source = tmp_path / "icon"
    loads, load = [], ImageFile.ImageFile.load
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda im: (loads.append(im), load(im))[1])
    with pytest.raises(ValueError, match="300 x 200 = 60000 pixels, more than the limit of 59999"):
        read_samples(source, max_pixels=59999)
    assert loads == []
    if kind == "ICO":
        assert read_samples(source, max_pixels=60000).pixels.shape == (3, 200, 300)
    else:
        with pytest.raises(ValueError, match="not one of the allowed sizes"):
            read_samples(source, max_pixels=60000)
    assert loads


def test_icons_without_a_suffix_are_found_without_decoding_them(tmp_path, monkeypatch):
    (tmp_path / "icon").write_bytes(icon("ICO", file_of(Image.new("L", (300, 200)), "PNG").read()))
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda _: pytest.fail("it was decoded"))
    assert find_images(tmp_path) == [tmp_path / "icon"]


def test_limit_holds_for_images_in_memory_and_names_files(tmp_path):
    with pytest.raises(ValueError, match="more than the limit of 5"):
        read_image(Image.new("L", (3, 2)), max_pixels=5)
    Image.new("L", (3, 2)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"a\.png: the image has"):
        read_image(tmp_path / "a.png", max_pixels=5)


def test_sizes_come_from_headers(tmp_path):
    content = file_of(Image.new("RGB", (30, 20)), "PNG").getvalue()
    (tmp_path / "cut.png").write_bytes(content[:60])
    assert read_size(tmp_path / "cut.png") == (30, 20)
    exif = Image.Exif()
    exif[0x0112] = 6
    for kind in ("JPEG", "TIFF", "PNG"):
        Image.new("RGB", (30, 20)).save(tmp_path / "a", format=kind, exif=exif)
        assert oriented_size(tmp_path / "a") == (20, 30) == read_rgb(tmp_path / "a").size
        assert oriented_size(tmp_path / "a", (20, 20)) in ((30, 20), (20, 30))
        assert oriented_size(tmp_path / "a", (15, 25)) == (20, 30)


def test_errors_of_the_system_are_not_called_damage(tmp_path, monkeypatch):
    loop = tmp_path / "loop.png"
    loop.symlink_to(loop)
    long = tmp_path / ("n" * 300)
    for path in (loop, long):
        with pytest.raises(OSError) as caught:
            read_image(path)
        assert "damaged" not in str(caught.value)
        assert caught.value.filename == str(path)

    Image.new("RGB", (3, 2)).save(tmp_path / "a.png")

    def fail(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load_read", fail)
    with pytest.raises(OSError, match="Input/output error") as caught:
        read_image(tmp_path / "a.png")
    assert caught.value.filename == str(tmp_path / "a.png")


def test_empty_and_damaged_files_are_told_from_those_of_another_kind(tmp_path):
    path = tmp_path / "x.png"
    whole = file_of(Image.new("RGB", (30, 20)), "PNG").getvalue()
    changed = bytearray(whole)
    changed[20] ^= 1
    for content, word in (
        (b"", "is empty"),
        (bytes(changed), "damaged"),
        (b"?" * 99, "no image"),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=rf"x\.png .*{word}"):
            read_image(path)


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_pipes_and_devices_are_refused_at_once(make, tmp_path):
    make(tmp_path / "x.png")
    with pytest.raises(ValueError, match="not a regular file"):
        read_image(tmp_path / "x.png")
    assert find_images(tmp_path) == []
