# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Rate, distortion and times of a learned model on a folder of images."""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

import compressai
from compressai._files import atomic_write
from compressai.evaluation.image_files import SUFFIXES as IMG_EXTENSIONS
from compressai.evaluation.results import finite_json
from compressai.utils.eval_model._coding import (
    compute_metrics,
    inference,
    inference_entropy_estimation,
    psnr,
)
from compressai.zoo import image_models as pretrained_models
from compressai.zoo.image import model_architectures
from compressai.zoo.image_vbr import model_architectures as vbr_architectures

__all__ = [
    "IMG_EXTENSIONS",
    "architectures",
    "collect_images",
    "compute_metrics",
    "eval_model",
    "inference",
    "inference_entropy_estimation",
    "load_checkpoint",
    "load_pretrained",
    "main",
    "pretrained_models",
    "psnr",
    "read_image",
    "setup_args",
]

architectures: dict[str, Any] = {**model_architectures, **vbr_architectures}

_QUANTSTEPS = "10.0000,7.1715,5.1832,3.7211,2.6833,1.9305,1.3897,1.0000"


def collect_images(rootpath: str | Path) -> list[Path]:
    """Images in a folder, at any depth, sorted; whatever the case of their suffixes."""
    return sorted(p for p in Path(rootpath).rglob("*") if p.suffix.lower() in IMG_EXTENSIONS)


def read_image(filepath: str | Path) -> Tensor:
    """An image as ``(3, H, W)`` in [0, 1].

    Raises:
        FileNotFoundError: there is no such file.
    """
    # Slow to import, and needed here only.
    from torchvision.transforms.functional import to_tensor

    with Image.open(filepath) as image:
        return to_tensor(image.convert("RGB"))


def load_pretrained(model: str, metric: str, quality: int) -> nn.Module:
    """A model of the zoo with its weights, in evaluation mode.

    Raises:
        RuntimeError: the weights are not at hand.
        ValueError: unknown metric or quality.
    """
    net = pretrained_models[model](quality=quality, metric=metric, pretrained=True, progress=False)
    net.update()
    return net.eval()


def load_checkpoint(arch: str, no_update: bool, checkpoint_path: str | Path) -> nn.Module:
    """A model with the weights of a checkpoint, in evaluation mode.

    Args:
        arch: name in the zoo.
        no_update: keep the tables of the checkpoint; they are computed only if there are none.
        checkpoint_path: see :func:`compressai.load`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no checkpoint of this architecture.
    """
    net = compressai.load(checkpoint_path, architecture=arch)
    if not no_update:
        net.update(force=True, **_highest_gain(net))
    return net.eval()


def _highest_gain(net: nn.Module) -> dict[str, Tensor]:
    return {"scale": net.Gain[-1].detach()} if getattr(net, "vr_entbttlnck", False) else {}


@torch.inference_mode()
def eval_model(
    model: nn.Module,
    outputdir: str | Path,
    inputdir: str | Path,
    filepaths: Sequence[str | Path],
    entropy_estimation: bool = False,
    trained_net: str = "",
    description: str = "",
    vbr_stage: int | None = None,
    vbr_scale: Any = None,
    **args: Any,
) -> dict[str, float]:
    """Averages over images.

    Args:
        model: the model, in evaluation mode.
        outputdir, inputdir: with ``per_image``, where the file of each image goes, and the
            folder that its place below that mirrors.
        filepaths: images.
        entropy_estimation: estimate the rate without coding.
        trained_net: name of the run, for the files.
        description: of the run, for the files.
        vbr_stage, vbr_scale: stage and gain of a variable-rate model.
        args: ``per_image``, ``half`` (bool) and ``architecture``, as the program's options.

    Returns:
        As :func:`inference`.
    """
    device = next(model.parameters()).device
    half = bool(args.get("half")) and not entropy_estimation
    if half:
        model = model.half()
    measure = inference_entropy_estimation if entropy_estimation else inference
    collected: dict[str, list[float]] = defaultdict(list)
    for i, filepath in enumerate(filepaths):
        x = read_image(filepath)[None].to(device)
        values = measure(model, x.half() if half else x, vbr_stage, vbr_scale)
        for key, value in values.items():
            collected[key].append(value)
        if args.get("per_image"):
            folder = Path(outputdir) / Path(filepath).parent.relative_to(inputdir)
            folder.mkdir(parents=True, exist_ok=True)
            _write_json(
                folder / f"{Path(filepath).stem}-{trained_net}.json",
                {
                    "source": Path(filepath).stem,
                    "name": args.get("architecture"),
                    "description": f"Inference ({description})",
                    "results": values,
                },
            )
        if args.get("verbose"):
            print(f"\r{i + 1} of {len(filepaths)} images", end="", file=sys.stderr)
    if args.get("verbose"):
        print(file=sys.stderr)
    return {key: statistics.fmean(values) for key, values in collected.items()}


def _write_json(path: Path, data: Mapping[str, Any]) -> None:
    with atomic_write(path) as unfinished:
        unfinished.write_text(finite_json(data), encoding="utf-8")


def setup_args() -> argparse.ArgumentParser:
    """The parser of the program."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("dataset", type=str, help="folder with images")
    common.add_argument(
        "-a", "--architecture", type=str, required=True, choices=list(pretrained_models),
        help="model architecture",
    )  # fmt: skip
    coders = compressai.available_entropy_coders()
    common.add_argument(
        "-c", "--entropy-coder", choices=coders, default=coders[0], help="(default: %(default)s)"
    )
    common.add_argument("--cuda", action="store_true", help="run on a GPU")
    common.add_argument("--half", action="store_true", help="model and images in half precision")
    common.add_argument(
        "--entropy-estimation", action="store_true", help="estimate rates, code nothing"
    )
    common.add_argument("-v", "--verbose", action="store_true", help="show the progress")
    common.add_argument(
        "-m", "--metric", choices=["mse", "ms-ssim"], default="mse",
        help="what the weights were trained for (default: %(default)s)",
    )  # fmt: skip
    common.add_argument(
        "-d", "--output_directory", type=str, default="", help="folder for the results"
    )
    common.add_argument("-o", "--output-file", type=str, default="", help="name of the file there")
    common.add_argument("--per-image", action="store_true", help="also a file for each image")
    common.add_argument(
        "--vbr_quantstep", dest="vbr_quantstepsizes", type=str, default=_QUANTSTEPS,
        help="quantisation steps of a variable-rate model (default: %(default)s)",
    )  # fmt: skip
    common.add_argument(
        "--vbr_tr_stage", type=int, choices=[1, 2], default=2,
        help="stage of a variable-rate model (default: %(default)s)",
    )  # fmt: skip
    parser = argparse.ArgumentParser(
        prog="python -m compressai.utils.eval_model", description=__doc__
    )
    subparsers = parser.add_subparsers(dest="source", help="where the weights come from")
    pretrained = subparsers.add_parser("pretrained", parents=[common], help="the zoo")
    pretrained.add_argument(
        "-q", "--quality", dest="qualities", type=str, default="1",
        help="qualities, with commas between (default: %(default)s)",
    )  # fmt: skip
    checkpoint = subparsers.add_parser("checkpoint", parents=[common], help="files")
    checkpoint.add_argument(
        "-p", "--path", dest="checkpoint_paths", type=str, nargs="*", required=True,
        help="checkpoints",
    )  # fmt: skip
    checkpoint.add_argument(
        "--no-update", action="store_true", help="keep the tables of the checkpoints"
    )
    return parser


def main(argv: Sequence[str]) -> None:
    """Run the program.

    Args:
        argv: command line without the program's name.

    Raises:
        SystemExit: wrong command line (2), or nothing to do (1).
    """
    parser = setup_args()
    args = parser.parse_args(argv)
    if not args.source:
        print("error: say where the weights come from: pretrained or checkpoint", file=sys.stderr)
        parser.print_help()
        raise SystemExit(1)
    if args.cuda and not torch.cuda.is_available():
        parser.error("--cuda: there is no GPU that torch can use")
    if args.per_image and not args.output_directory:
        parser.error("--per-image needs --output_directory for its files")
    files = collect_images(args.dataset)
    if not files:
        print(f"error: no images in {args.dataset}", file=sys.stderr)
        raise SystemExit(1)
    compressai.set_entropy_coder(args.entropy_coder)
    folder = Path(args.output_directory)
    if args.output_directory:
        folder.mkdir(parents=True, exist_ok=True)

    # The name of the file and that of each run have been spelt differently for ever.
    spoken = "entropy estimation" if args.entropy_estimation else args.entropy_coder
    description = spoken.replace(" ", "-")
    results: dict[str, list[float]] = defaultdict(list)
    with _reproducible():
        for name, net, stage, scale in _runs(args, description):
            print(f"Using trained model {name}", file=sys.stderr, flush=True)
            if args.cuda:
                net = net.to("cuda")
            options = {
                key: getattr(args, key) for key in ("architecture", "half", "per_image", "verbose")
            }
            metrics = eval_model(
                net,
                folder,
                args.dataset,
                files,
                args.entropy_estimation,
                name,
                description,
                stage,
                None if scale is None else scale.to(next(net.parameters()).device),
                **options,
            )
            for key, value in metrics.items():
                results[key].append(value)

    output = {
        "name": f"{args.architecture}-{args.metric}",
        "description": f"Inference ({spoken})",
        "results": results,
    }
    if args.output_directory:
        stem = args.output_file or f"{args.architecture}-{spoken}"
        _write_json((folder / stem).with_suffix(".json"), output)
    print(finite_json(output))


def _runs(
    args: argparse.Namespace, description: str
) -> Iterator[tuple[str, nn.Module, int | None, Tensor | None]]:
    """Name, model, and for variable rate stage and gain, of each point of the curve."""
    paths = getattr(args, "checkpoint_paths", [])
    if args.architecture in vbr_architectures:
        yield from _variable_rate_runs(args, paths, description)
    elif args.source == "pretrained":
        for quality in sorted(int(q) for q in args.qualities.split(",") if q):
            name = f"{args.architecture}-{args.metric}-{quality}-{description}"
            yield name, load_pretrained(args.architecture, args.metric, quality), None, None
    else:
        for path in paths:
            net = load_checkpoint(args.architecture, args.no_update, path)
            yield f"{_stem(path)}-{description}", net, None, None


def _variable_rate_runs(
    args: argparse.Namespace, paths: Sequence[str], description: str
) -> Iterator[tuple[str, nn.Module, int, Tensor]]:
    if len(paths) > 1:
        # The class is CompressAI's.
        raise AssertionError(
            f"--path must name one checkpoint of a variable-rate model, got {len(paths)}"
        )
    if args.source == "pretrained":
        net = load_pretrained(args.architecture, args.metric, 1)
    else:
        net = load_checkpoint(args.architecture, args.no_update, paths[0])
    steps = [float(step) for step in args.vbr_quantstepsizes.split(",") if step]
    for scale in sorted(1 / torch.tensor(steps)):
        if args.vbr_tr_stage == 2 and net.vr_entbttlnck:
            net.update(force=True, scale=scale)
        if args.source == "pretrained":
            run = f"{args.architecture}-{args.metric}-{float(scale):.4f}"
        else:
            run = f"{_stem(paths[0])}-{float(scale):.4f}"
        yield f"{run}-{description}", net, args.vbr_tr_stage, scale


def _stem(path: str) -> str:
    """File name without the suffix of a checkpoint; dots in it stay."""
    name = Path(path).name
    return name.removesuffix(".pth.tar") if name.endswith(".pth.tar") else Path(path).stem


@contextlib.contextmanager
def _reproducible() -> Iterator[None]:
    """One thread and deterministic kernels, so that figures and times can be compared."""
    threads, deterministic = torch.get_num_threads(), torch.backends.cudnn.deterministic
    torch.set_num_threads(1)
    torch.backends.cudnn.deterministic = True
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.backends.cudnn.deterministic = deterministic


if __name__ == "__main__":
    main(sys.argv[1:])
