# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Compress a photo to a file, decode the file, and print what came out.

``make demo`` runs this. It needs no network: the photo is beside it, and the weights are those at
hand (published ones in the weights folder, else random ones, which it says).
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import torch
from pytorch_msssim import ms_ssim
from rich.console import Console
from rich.table import Table

from compressai._files import atomic_write
from compressai.bitstream import CodedPicture, decode_picture, encode_picture, read_picture
from compressai.weights import choose_model, model_of

HERE = Path(__file__).parent


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photo", nargs="?", type=Path, default=HERE / "assets" / "chelsea.png")
    parser.add_argument("--model", default="mbt2018-mean", help="name in the model zoo")
    parser.add_argument("--quality", type=int, default=3)
    parser.add_argument("--checkpoint", type=Path, help="file with weights of the model")
    parser.add_argument("--output", type=Path, default=Path("out"), help="folder for the files")
    args = parser.parse_args(argv)

    console = Console()
    photo = read_picture(args.photo)
    args.output.mkdir(parents=True, exist_ok=True)
    coded_file = args.output / f"{args.photo.stem}.cai"
    decoded_file = args.output / f"{args.photo.stem}.png"

    chosen = choose_model(args.model, args.quality, "mse", args.checkpoint)
    start = time.perf_counter()
    coded = encode_picture(
        chosen.net,
        photo,
        model=chosen.model,
        quality=chosen.quality,
        metric=chosen.metric,
        random_weights=chosen.random_weights,
    )
    encoding = time.perf_counter() - start
    with atomic_write(coded_file) as unfinished:
        unfinished.write_bytes(coded.to_bytes())

    # From here on only the file counts: what is decoded was read back from disk.
    coded = CodedPicture.from_bytes(coded_file.read_bytes())
    net = model_of(coded, args.checkpoint)
    start = time.perf_counter()
    decoded = decode_picture(net, coded)
    decoding = time.perf_counter() - start
    with atomic_write(decoded_file) as unfinished:
        decoded.to_image().save(unfinished, format="PNG")

    size = coded_file.stat().st_size
    source = photo.pixels.mul(255).round()
    result = decoded.pixels.mul(255).round()
    mse = float((source - result).square().mean())
    table = Table(title=f"{args.photo.name} through {coded.model}", title_justify="left")
    table.add_column("what")
    table.add_column("value", justify="right")
    table.add_row("picture", f"{coded.width} x {coded.height}")
    table.add_row("original file", f"{args.photo.stat().st_size} bytes")
    table.add_row("compressed file", f"{size} bytes")
    table.add_row("rate", f"{8 * size / (coded.width * coded.height):.3f} bpp")
    table.add_row("PSNR", f"{10 * math.log10(255**2 / mse):.2f} dB" if mse else "lossless")
    if min(coded.width, coded.height) > 160:
        similarity = float(ms_ssim(source[None], result[None], data_range=255))
        table.add_row("MS-SSIM", f"{similarity:.4f}")
    table.add_row("encoding", f"{encoding:.2f} s")
    table.add_row("decoding", f"{decoding:.2f} s")
    console.print(table)
    console.print(f"files: {coded_file} and {decoded_file}")
    if coded.random_weights:
        console.print(
            "The weights are RANDOM: no trained ones ship with this version, so the decoded "
            "picture cannot be recognised and the figures above say nothing about the model. "
            "Files, coder and decoder are the real ones. Train weights with examples/train.py and "
            "pass them with --checkpoint.",
            style="bold yellow",
        )


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main()
