# SPDX-License-Identifier: BSD-3-Clause-Clear
"""What transforms in bfloat16 cost in quality and rate, against float32, or which one is faster.

Each image is coded and decoded at each quality by both, as ``compressai eval`` does it. The loss
is PSNR in float32 less PSNR in bfloat16, in decibels; below 0 there is none. The one image of the
repository is taken unless told otherwise; more are found as ``docs/lite.md`` says::

    python benchmarks/precision.py [photos] [--model lite] [--quality 1 2 3 4]

Ends with status 1 if the loss of an image is above ``--most``.

With ``--speed``, the transforms of prepared models are timed in turn instead, and the status is 1
if what ``precision="auto"`` takes by its rule is slower here than the other one by more than
``--slack``, in the median of all pairs of calls::

    python benchmarks/precision.py --speed [photos] [--model lite] [--device cuda]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path

import torch
from _paths import CLOCKS
from _report import PHOTO, alternate, machine, summary
from PIL import Image
from torchvision.transforms.functional import to_tensor

from compressai import model_choice
from compressai.evaluation import Evaluation, ModelCodec, evaluate, find_images
from compressai.inference import choose_precision, prepare
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


def speeds(
    model: str, quality: int, image: Path, repeats: int, device: str, clock: str
) -> tuple[str, dict[str, list[float]]]:
    """What ``auto`` takes, and seconds of analysis and synthesis together, for each precision."""
    net = model_choice.choose_model(model, quality, model_choice.DEFAULT_METRIC, None).net
    net = net.to(device)
    with Image.open(image) as opened:
        x = to_tensor(opened.convert("RGB"))[None].to(device)
    multiple = getattr(net, "downsampling_factor", 64)
    x = x[..., : x.size(2) // multiple * multiple, : x.size(3) // multiple * multiple]
    nets = {name: prepare(net, name) for name in ("fp32", "bf16")}

    def transforms(name: str) -> None:
        with torch.inference_mode():
            nets[name].g_s(nets[name].g_a(x))
        if x.is_cuda:
            torch.cuda.synchronize()

    # Twice before it counts: what is compiled or chosen at the first call is no part of it.
    for name in nets:
        transforms(name)
    seconds = alternate(
        {name: lambda n=name: transforms(n) for name in nets}, repeats, CLOCKS[clock]
    )
    return "bf16" if choose_precision("auto", device) == torch.bfloat16 else "fp32", seconds


def check_speed(args: argparse.Namespace) -> int:
    """Print the times; 1 if ``auto`` takes the slower way, else 0."""
    slower = 0
    for image in find_images(args.images):
        chosen, seconds = speeds(
            args.model, args.quality[0], Path(image), args.repeats, args.device, args.clock
        )
        other = "fp32" if chosen == "bf16" else "bf16"
        ratios = summary([a / b for a, b in zip(seconds[chosen], seconds[other])])
        slower += ratios["median"] > 1 + args.slack
        figures = {name: summary(values) for name, values in seconds.items()}
        row = {"model": args.model, "auto": chosen, "seconds": figures, "over_other": ratios}
        print(json.dumps(row))
        print(
            f"{image}: auto takes {chosen}, {ratios['median']:.2f} ({ratios['min']:.2f} .. "
            f"{ratios['max']:.2f}) of the time of {other}"
        )
    return int(slower > 0)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", nargs="*", type=Path, default=[PHOTO], help="or folders")
    parser.add_argument("--model", default="lite", choices=sorted(image_models))
    parser.add_argument("--quality", nargs="+", type=int, default=[1, 2, 3, 4])
    parser.add_argument("--most", type=float, default=0.02, help="loss of an image in decibels")
    parser.add_argument("--speed", action="store_true", help="compare times instead of losses")
    parser.add_argument("--repeats", type=int, default=9, help="with --speed (default: 9)")
    parser.add_argument("--slack", type=float, default=0.1, help="with --speed (default: 0.1)")
    parser.add_argument("--device", default="cpu", help="with --speed (default: cpu)")
    parser.add_argument(
        "--clock", choices=CLOCKS, default="wall", help="cpu: for busy machines, with one thread"
    )
    args = parser.parse_args(argv)
    command = " ".join(["python", *sys.argv])
    print(json.dumps({"benchmark": "precision", "command": command, **machine()}))
    if args.speed:
        return check_speed(args)
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
