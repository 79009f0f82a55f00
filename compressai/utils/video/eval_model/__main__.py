# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Evaluate a learned video model on all raw video of a folder.

Sequences are coded into real files and decoded from them; results are one JSON for each sequence
and one with the means.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

import compressai
from compressai.datasets import VideoFormat
from compressai.evaluation.frames import (
    code_video,
    estimate_bits,
    estimate_video,
    frame_metrics,
)
from compressai.models.video import ScaleSpaceFlow
from compressai.ops import compute_padding
from compressai.transforms import frame_to_planes, planes_to_rgb, rgb_to_planes
from compressai.utils.video._results import (
    RAWVIDEO_EXTENSIONS,
    find_sequences,
    mean_results,
    to_json,
    write_results,
)
from compressai.utils.video.eval_model.byte_fields import (
    filesize,
    read_body,
    read_bytes,
    read_uchars,
    read_uints,
    write_body,
    write_bytes,
    write_uchars,
    write_uints,
)
from compressai.zoo import video_models as pretrained_models

__all__ = [
    "RAWVIDEO_EXTENSIONS",
    "aggregate_results",
    "collect_videos",
    "compute_metrics_for_frame",
    "convert_rgb_to_yuv420",
    "convert_yuv420_to_rgb",
    "create_parser",
    "crop",
    "estimate_bits_frame",
    "eval_model",
    "eval_model_entropy_estimation",
    "filesize",
    "load_checkpoint",
    "load_pretrained",
    "main",
    "models",
    "pad",
    "pretrained_models",
    "read_body",
    "read_bytes",
    "read_uchars",
    "read_uints",
    "run_inference",
    "to_tensors",
    "write_body",
    "write_bytes",
    "write_uchars",
    "write_uints",
]

models: dict[str, type[nn.Module]] = {"ssf2020": ScaleSpaceFlow}

eval_model = code_video
eval_model_entropy_estimation = estimate_video
estimate_bits_frame = estimate_bits
to_tensors = frame_to_planes
aggregate_results = mean_results


def collect_videos(rootpath: str | Path) -> list[Path]:
    """Raw video in a folder and all below it, sorted."""
    return find_sequences(rootpath)


def convert_yuv420_to_rgb(frame: np.void, device: torch.device | str, max_val: float) -> Tensor:
    """A 4:2:0 frame as RGB ``(1, 3, H, W)`` in [0, 1], chroma enlarged bicubic."""
    return planes_to_rgb(frame_to_planes(frame, max_val, device), VideoFormat.YUV420, "bicubic")


def convert_rgb_to_yuv420(frame: Tensor) -> tuple[Tensor, ...]:
    """RGB ``(1, 3, H, W)`` as three 4:2:0 planes."""
    return rgb_to_planes(frame, VideoFormat.YUV420)


def pad(x: Tensor, p: int = 2**7) -> Tensor:
    """Put frames ``(N, C, H, W)`` in the middle of zeros, with sides that are multiples of p."""
    padding, _ = compute_padding(x.size(2), x.size(3), min_div=p)
    return F.pad(x, padding)


def crop(x: Tensor, padding: Sequence[int]) -> Tensor:
    """Take a padding ``(left, right, top, bottom)`` away again."""
    return F.pad(x, tuple(-side for side in padding))


def compute_metrics_for_frame(
    org_frame: np.void, rec_frame: Tensor, device: torch.device | str = "cpu", max_val: int = 255
) -> dict[str, Any]:
    """Metrics of a frame.

    Args:
        org_frame: 4:2:0 frame of the source.
        rec_frame: decoded RGB ``(1, 3, H, W)`` in [0, 1].
        device: where RGB is compared.
        max_val: code value of white.
    """
    rgb = convert_yuv420_to_rgb(org_frame, device, max_val)
    return frame_metrics(org_frame, rgb, rec_frame.to(device), max_val)


def load_checkpoint(arch: str, no_update: bool, checkpoint_path: str | Path) -> nn.Module:
    """A model from a file with weights.

    Args:
        arch: name of the model.
        no_update: keep the tables of the file.
        checkpoint_path: the file.
    """
    net = compressai.load(checkpoint_path, architecture=arch)
    if not no_update:
        net.update(force=True)
    return net


def load_pretrained(model: str, metric: str, quality: int) -> nn.Module:
    """A model with published weights, in evaluation mode."""
    return pretrained_models[model](quality=quality, metric=metric, pretrained=True).eval()


@contextlib.contextmanager
def _precision(net: nn.Module, half: bool) -> Iterator[None]:
    """Half precision of the layers, by autocast: weights stay as they are."""
    device = next(net.parameters()).device.type
    dtype = torch.float16 if device == "cuda" else torch.bfloat16
    with torch.autocast(device, dtype, enabled=half):
        yield


def run_inference(
    filepaths: Iterable[Path],
    inputdir: Path,
    net: nn.Module,
    outputdir: Path,
    force: bool = False,
    entropy_estimation: bool = False,
    trained_net: str = "",
    description: str = "",
    **args: Any,
) -> dict[str, float | None]:
    """Evaluate a model on sequences.

    Args:
        filepaths: raw video.
        inputdir: folder that holds them, whose structure the results keep.
        net: the model.
        outputdir: where coded files and results go.
        force: evaluate again what has a file of results.
        entropy_estimation: take the rate from likelihoods, without coding.
        trained_net: name of the weights, part of the names of files.
        description: part of the results.
        args: ``half``, ``keep_binaries`` and ``verbose``, as on the command line.

    Returns:
        Mean of each metric over the sequences.
    """
    files = []
    for filepath in filepaths:
        folder = Path(outputdir) / Path(filepath).parent.relative_to(inputdir)
        stem = folder / f"{Path(filepath).stem}-{trained_net}"
        results = stem.with_name(f"{stem.name}.json")
        files.append(results)
        if results.is_file() and not force:
            print(f"{results} is taken as it is (--force evaluates anew)", file=sys.stderr)
            continue
        if args.get("verbose"):
            print(f"Evaluating {filepath}", file=sys.stderr)
        folder.mkdir(parents=True, exist_ok=True)
        with _precision(net, bool(args.get("half"))):
            if entropy_estimation:
                metrics = estimate_video(net, filepath)
            else:
                binpath = stem.with_name(f"{stem.name}.bin")
                metrics = code_video(net, filepath, binpath, bool(args.get("keep_binaries")))
        write_results(
            results,
            {
                "source": Path(filepath).stem,
                "name": args.get("name", trained_net),
                "description": description,
                "results": metrics,
            },
        )
    return mean_results(files)


def create_parser() -> argparse.ArgumentParser:
    """The command line."""
    common = argparse.ArgumentParser(add_help=False)
    add = common.add_argument
    add("dataset", type=Path, help="folder with raw video (*.yuv), searched to any depth")
    add("output", type=Path, help="folder for results, unless there is --output_directory")
    add("-a", "--architecture", choices=pretrained_models.keys(), required=True, help="model")
    add("-f", "--force", action="store_true", help="evaluate again what has results")
    add("--cuda", action="store_true", help="run on the GPU")
    add("--half", action="store_true", help="layers in half precision")
    add(
        "--entropy-estimation",
        action="store_true",
        help="rate from likelihoods, without coding",
    )
    coders = compressai.available_entropy_coders()
    add("-c", "--entropy-coder", choices=coders, default=coders[0], help="(default: %(default)s)")
    add("--keep_binaries", action="store_true", help="keep the coded files")
    add("-v", "--verbose", action="store_true", help="tell what is going on")
    add("-m", "--metric", choices=("mse", "ms-ssim"), default="mse", help="(default: mse)")
    add("-d", "--output_directory", type=Path, help="folder for results (default: output)")
    add("-o", "--output-file", default="", help="name of the file with the means")

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    sources = parser.add_subparsers(dest="source", required=True)
    pretrained = sources.add_parser("pretrained", parents=[common], help="published weights")
    pretrained.add_argument(
        "-q", "--quality", dest="qualities", default="1", help="list, such as 1,4 (default: 1)"
    )
    checkpoint = sources.add_parser("checkpoint", parents=[common], help="weights from files")
    checkpoint.add_argument(
        "-p", "--path", dest="checkpoint_paths", nargs="+", required=True, help="the files"
    )
    checkpoint.add_argument(
        "--no-update", action="store_true", help="take the tables of the files as they are"
    )
    return parser


def _runs(args: argparse.Namespace, coding: str) -> Iterator[tuple[str, nn.Module]]:
    """Name and model of each run."""
    if args.source == "checkpoint":
        for path in map(Path, args.checkpoint_paths):
            stem = path.name.removesuffix(".pth.tar")
            stem = stem if stem != path.name else path.stem
            yield f"{stem}-{coding}", load_checkpoint(args.architecture, args.no_update, path)
        return
    for quality in sorted(args.qualities):
        name = f"{args.architecture}-{args.metric}-{quality}-{coding}"
        yield name, load_pretrained(args.architecture, args.metric, quality)


def _qualities(text: str, parser: argparse.ArgumentParser) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        parser.error(f"-q must be numbers with commas between them, got {text!r}")


def main(args: Sequence[str] | None = None) -> None:
    """Run the program.

    Args:
        args: command line without the program's name; ``None`` takes that of the process.

    Raises:
        SystemExit: status 2 for a wrong command line, 1 if there is no video.
    """
    parser = create_parser()
    options = parser.parse_args(args)
    if options.source == "pretrained":
        options.qualities = _qualities(options.qualities, parser)
    if options.cuda and not torch.cuda.is_available():
        parser.error("--cuda: this PyTorch finds no CUDA device")
    filepaths = find_sequences(options.dataset) if options.dataset.is_dir() else []
    if not filepaths:
        print(f"there is no raw video (*.yuv) in {options.dataset}", file=sys.stderr)
        raise SystemExit(1)
    compressai.set_entropy_coder(options.entropy_coder)

    coding = "entropy-estimation" if options.entropy_estimation else options.entropy_coder
    description = f"Inference ({coding})"
    folder = options.output_directory or options.output
    results: dict[str, list[Any]] = {"q": []}
    for name, net in _runs(options, coding):
        print(f"Using trained model {name}", file=sys.stderr)
        metrics = run_inference(
            filepaths,
            options.dataset,
            net.to("cuda" if options.cuda else "cpu"),
            folder,
            options.force,
            options.entropy_estimation,
            name,
            description,
            name=options.architecture,
            half=options.half,
            keep_binaries=options.keep_binaries,
            verbose=options.verbose,
        )
        results["q"].append(name)
        for key, value in metrics.items():
            results.setdefault(key, []).append(value)

    output = {
        "name": f"{options.architecture}-{options.metric}",
        "description": description,
        "results": results,
    }
    stem = options.output_file.removesuffix(".json") or f"{options.architecture}-{coding}"
    write_results(Path(folder) / f"{stem}.json", output)
    print(to_json(output))


if __name__ == "__main__":
    main()
