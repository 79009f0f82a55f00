# SPDX-License-Identifier: BSD-3-Clause-Clear
"""What transforms in bfloat16 cost in quality and rate, against float32, on real files.

Each image is coded and decoded at each quality by both, as ``compressai eval`` does it. The loss
is PSNR in float32 less PSNR in bfloat16, in decibels; below 0 there is none. The one image of the
repository is taken unless told otherwise; more are found as ``docs/lite.md`` says::

    python benchmarks/precision.py [photos] [--model lite] [--quality 1 2 3 4]

Ends with status 1 if the loss of an image is above ``--most``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path

from _report import PHOTO, machine

from compressai import model_choice
from compressai.evaluation import Evaluation, ModelCodec, evaluate, find_images
from compressai.inference import prepare
from compressai.zoo import image_models


def compare(model: str, qualities: list[int], images: list[Path]) -> Evaluation:
    """Figures of the codecs ``fp32`` and ``bf16``."""
    nets = {}
    for quality in qualities:
        chosen = model_choice.choose_model(model, quality, model_choice.DEFAULT_METRIC, None)
        if chosen.random_weights:
            raise ValueError(f"there are no trained weights of {model}, quality {quality}")
        nets[quality] = chosen.net
    codecs = [
        ModelCodec(
            model,
            {quality: prepare(net, precision) for quality, net in nets.items()},
            name=precision,
        )
        for precision in ("fp32", "bf16")
    ]
    return evaluate(images, codecs)


def losses(result: Evaluation, quality: int) -> dict[str, tuple[float, float]]:
    """For each image the loss in decibels, and the bytes as part of those of float32."""
    points = {(p.codec, p.image): p for p in result.points if p.quality == quality}
    return {
        image: (
            points["fp32", image].psnr - points["bf16", image].psnr,
            points["bf16", image].bytes / points["fp32", image].bytes,
        )
        for image in result.images
    }


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", nargs="*", type=Path, default=[PHOTO], help="or folders")
    parser.add_argument("--model", default="lite", choices=sorted(image_models))
    parser.add_argument("--quality", nargs="+", type=int, default=[1, 2, 3, 4])
    parser.add_argument("--most", type=float, default=0.02, help="loss of an image in decibels")
    args = parser.parse_args(argv)
    command = " ".join(["python", *sys.argv])
    print(json.dumps({"benchmark": "precision", "command": command, **machine()}))
    result = compare(args.model, args.quality, find_images(args.images))
    worst = float("-inf")
    print(f"{'quality':>7} {'mean loss':>10} {'worst':>8} {'bytes':>8}  worst image")
    for quality in args.quality:
        by_image = losses(result, quality)
        mean = statistics.fmean(loss for loss, _ in by_image.values())
        name = max(by_image, key=lambda image: by_image[image][0])
        growth = statistics.fmean(ratio for _, ratio in by_image.values()) - 1
        worst = max(worst, by_image[name][0])
        print(f"{quality:7} {mean:8.4f}dB {by_image[name][0]:6.4f}dB {growth:+8.2%}  {name}")
        figures = {
            image: {"loss_db": loss, "bytes_ratio": ratio}
            for image, (loss, ratio) in by_image.items()
        }
        print(json.dumps({"model": args.model, "quality": quality, "images": figures}))
    return int(worst > args.most)


if __name__ == "__main__":
    sys.exit(main())
