# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Compress a photo, and compare it with JPEG and WebP files that are not smaller.

``make demo`` runs this. It needs no network: photo and weights come with the library (or are those
of ``--checkpoint``). What it writes: the coded photo, what that decodes to, and one image that
shows the original and all three codecs side by side, whole and magnified.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from rich.console import Console
from rich.table import Table

from compressai._files import atomic_write
from compressai.bitstream import decode_image, encode_image, read_coded, write_coded
from compressai.bitstream import read_image as read
from compressai.bitstream import save_image as save
from compressai.evaluation import Coded, ImageCodec, find_codec, ms_ssim, psnr
from compressai.evaluation.metrics import MS_SSIM_MIN_SIDE
from compressai.model_choice import DEFAULT_MODEL, ChosenModel, choose_model

HERE = Path(__file__).parent
QUALITIES = range(101)

PANEL_WIDTH = 460
MARGIN = 12
LABEL_HEIGHT = 44
# The part of the photo's width that is magnified, and how much.
DETAIL = 0.25
RANDOM = (
    "The weights are RANDOM: none are at hand for this model, so that nothing can be recognised "
    "and the figures say nothing about it. Give --checkpoint, or choose a model that has weights "
    "(compressai models)."
)


@dataclass(frozen=True)
class Row:
    """A codec in the comparison."""

    name: str
    setting: str
    size: int
    decoded: Image.Image
    seconds: tuple[float, float]

    def quality(self, original: Image.Image) -> str:
        """PSNR and MS-SSIM as text."""
        text = f"{psnr(original, self.decoded):.2f} dB"
        if min(original.size) >= MS_SSIM_MIN_SIDE:
            text += f"  MS-SSIM {ms_ssim(original, self.decoded):.4f}"
        return text


def code_with(chosen: ChosenModel, photo: Path, output: Path) -> Row:
    """Code the photo into a file and decode that file."""
    coded_file = output / f"{photo.stem}.cai"
    # Twice: in the first run libraries set up what they need, which is not to be measured.
    for _ in range(2):
        start = time.perf_counter()
        coded = encode_image(
            chosen.net,
            read(photo),
            model=chosen.model,
            quality=chosen.quality,
            metric=chosen.metric,
            random_weights=chosen.random_weights,
        )
        size = write_coded(coded, coded_file)
        between = time.perf_counter()
        # From here on only the file counts.
        decoded = decode_image(chosen.net, read_coded(coded_file))
        end = time.perf_counter()
    save(decoded, output / f"{photo.stem}.png")
    setting = str(chosen.quality or "")
    name = chosen.model.rpartition(".")[2]
    return Row(
        name, setting, size, decoded.to_image().convert("RGB"), (between - start, end - between)
    )


def not_smaller(codec: ImageCodec, image: Image.Image, size: int) -> tuple[int, Coded]:
    """The lowest quality of a codec, and its result, whose file has at least ``size`` bytes.

    The highest quality, if all files are smaller.
    """
    low, high = QUALITIES[0], QUALITIES[-1]
    best = (high, codec.code(image, high))
    while low < high:
        middle = (low + high) // 2
        coded = codec.code(image, middle)
        if len(coded.content) >= size:
            high, best = middle, (middle, coded)
        else:
            low = middle + 1
    return best


def show_table(original: Image.Image, rows: Sequence[Row], photo: Path, console: Console) -> None:
    """Print what came out."""
    pixels = original.width * original.height
    table = Table(
        title=f"{photo.name}, {original.width} x {original.height} pixels", title_justify="left"
    )
    table.add_column("codec", no_wrap=True)
    for heading in ("quality", "bytes", "bpp", "PSNR", "MS-SSIM", "encode", "decode"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        figures, _, similarity = row.quality(original).partition("  MS-SSIM ")
        table.add_row(
            row.name,
            row.setting,
            str(row.size),
            f"{8 * row.size / pixels:.3f}",
            figures,
            similarity,
            *(f"{1000 * seconds:.0f} ms" for seconds in row.seconds),
        )
    console.print(table)


def detail_of(image: Image.Image) -> tuple[int, int, int, int]:
    """The part of an image that is most worth looking at closely: where most is going on."""
    grey = np.asarray(image.convert("L"), dtype=np.float64)
    width = max(1, round(DETAIL * image.width))
    height = max(1, min(image.height, round(0.8 * width)))
    activity = np.abs(np.diff(grey, axis=0, prepend=grey[:1]))
    activity += np.abs(np.diff(grey, axis=1, prepend=grey[:, :1]))
    sums = np.pad(activity, ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    windows = sums[height:, width:] - sums[:-height, width:]
    windows -= sums[height:, :-width] - sums[:-height, :-width]
    top, left = np.unravel_index(windows.argmax(), windows.shape)
    return int(left), int(top), int(left) + width, int(top) + height


def compare(original: Image.Image, rows: Sequence[Row]) -> Image.Image:
    """Original and codecs side by side, whole above and magnified below, with labels."""
    box = detail_of(original)
    panels = [("original", "", original)]
    panels += [
        (row.name, f"{row.size} bytes  {row.quality(original)}", row.decoded) for row in rows
    ]
    scale = PANEL_WIDTH / original.width
    whole = (PANEL_WIDTH, round(original.height * scale))
    close = (PANEL_WIDTH, round((box[3] - box[1]) * PANEL_WIDTH / (box[2] - box[0])))
    size = (
        MARGIN + len(panels) * (PANEL_WIDTH + MARGIN),
        LABEL_HEIGHT + whole[1] + close[1] + 3 * MARGIN,
    )
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    for place, (name, figures, image) in enumerate(panels):
        left, top = MARGIN + place * (PANEL_WIDTH + MARGIN), MARGIN
        draw.text((left, top), name, fill="black", font=ImageFont.load_default(20))
        draw.text((left, top + 24), figures, fill="#444", font=ImageFont.load_default(15))
        top += LABEL_HEIGHT
        shown = image.resize(whole, Image.Resampling.LANCZOS)
        corners = [round(side * scale) for side in box]
        ImageDraw.Draw(shown).rectangle(corners, outline="white", width=2)
        sheet.paste(shown, (left, top))
        closer = image.crop(box).resize(close, Image.Resampling.NEAREST)
        sheet.paste(closer, (left, top + whole[1] + MARGIN))
    return sheet


def main(argv: list[str] | None = None) -> None:
    """Run the demo.

    Args:
        argv: command line; ``None`` takes that of the process.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photo", nargs="?", type=Path, default=HERE / "assets" / "chelsea.png")
    parser.add_argument("--model", help=f"name in the model zoo (default: {DEFAULT_MODEL})")
    parser.add_argument("--quality", type=float, help="in the zoo (default: the model's)")
    parser.add_argument("--checkpoint", type=Path, help="file with weights, in place of the zoo's")
    parser.add_argument("--output", type=Path, default=Path("out"), help="folder for the files")
    args = parser.parse_args(argv)

    console = Console()
    original = read(args.photo).to_image().convert("RGB")
    args.output.mkdir(parents=True, exist_ok=True)
    model = args.model or (None if args.checkpoint else DEFAULT_MODEL)
    quality = args.quality
    if quality is not None and quality.is_integer():
        quality = int(quality)
    level = quality if args.checkpoint else None
    chosen = choose_model(model, quality, "mse", args.checkpoint, level=level, precision="auto")
    rows = [code_with(chosen, args.photo, args.output)]
    for name, title in (("jpeg", "JPEG"), ("webp", "WebP")):
        quality, coded = not_smaller(find_codec(name), original, rows[0].size)
        seconds = (coded.encode_seconds, coded.decode_seconds)
        rows.append(Row(title, str(quality), len(coded.content), coded.decoded, seconds))

    comparison = args.output / "comparison.png"
    with atomic_write(comparison) as unfinished:
        compare(original, rows).save(unfinished, format="PNG", optimize=True)
    show_table(original, rows, args.photo, console)
    stem = args.output / args.photo.stem
    console.print(f"Side by side: {comparison}\nfiles: {stem}.cai, {stem}.png", highlight=False)
    if chosen.random_weights:
        console.print(RANDOM, style="bold yellow")


if __name__ == "__main__":
    main()
