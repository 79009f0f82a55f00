# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The command line of training, the same for ``compressai train`` and ``examples/train.py``."""

from __future__ import annotations

import argparse
import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from compressai.cores import usable_cores
from compressai.registry import ENTRIES, LAMBDAS
from compressai.training.recipes import find_recipe, recipe_names
from compressai.training.report import TRACKERS
from compressai.zoo import image_models, image_vbr
from compressai.zoo.image import entries, training_recipe

__all__ = ["add_output_options", "parse_args"]

# What the program of the library does where nothing else is asked for. examples/train.py keeps what
# scripts for CompressAI rely on.
PROGRAM = "compressai train"


def parse_args(argv: Sequence[str], program: str | None = None) -> argparse.Namespace:
    """Options of a run.

    Args:
        argv: command line without the program's name.
        program: its name; default: that of the process.

    Raises:
        SystemExit: the command line is wrong (status 2), or asks for help.
    """
    parser = _parser(program)
    if program == PROGRAM:
        # Of those that torchrun starts on this machine, each has its part.
        share = usable_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        parser.set_defaults(model="lite", num_workers=max(1, share))
    _follow_recipe(parser, argv)
    args = parser.parse_args(argv)
    args.model_args = dict(args.model_args)
    # Lines that scripts for CompressAI would not know.
    args.decibels = program == PROGRAM or args.recipe is not None
    if args.recipe not in (None, args.model):
        parser.error(f"--recipe {args.recipe} is not for --model {args.model}")
    if args.model in image_vbr.model_architectures:
        _settle_levels(args, parser)
    else:
        _settle_quality(args, parser)
    if args.cuda and not torch.cuda.is_available():
        parser.error("--cuda needs a CUDA device, and torch finds none")
    if args.metric == "ms-ssim" and min(args.patch_size) <= 160:
        parser.error(f"--metric ms-ssim needs a --patch-size above 160, got {args.patch_size}")
    if args.weights is not None and args.checkpoint is not None:
        parser.error("--weights begins a run and --checkpoint resumes one: pass one of them")
    if args.diffusion_weight is not None:
        if not hasattr(entries()[args.model].model, "diffusion_weight"):
            parser.error(f"--diffusion-weight is for saaf, and {args.model} has no such loss")
        if not (math.isfinite(args.diffusion_weight) and args.diffusion_weight >= 0):
            parser.error(
                f"--diffusion-weight must be finite and not negative, got {args.diffusion_weight}"
            )
    if args.accumulate < 1:
        parser.error(f"--accumulate must be at least 1, got {args.accumulate}")
    if args.step_in_backward:
        for option, value, only in (
            ("--clip-max-norm", args.clip_max_norm or 0, 0),
            ("--accumulate", args.accumulate, 1),
        ):
            if value != only:
                parser.error(
                    f"--step-in-backward needs {option} {only}, got {value}: there are never all "
                    "gradients at once"
                )
    if args.clip_max_norm is None:
        args.clip_max_norm = 0.0 if args.step_in_backward else 1.0
    if args.ema is not None and not 0 < args.ema < 1:
        parser.error(f"--ema must be between 0 and 1, got {args.ema}")
    return args


def _follow_recipe(parser: argparse.ArgumentParser, argv: Sequence[str]) -> None:
    """Take what a recipe says for what the command line does not say."""
    finder = argparse.ArgumentParser(prog=parser.prog, add_help=False)
    finder.add_argument("--recipe", choices=recipe_names())
    name = finder.parse_known_args(argv)[0].recipe
    if name is None:
        return
    recipe = find_recipe(name)
    parser.set_defaults(
        model=name,
        batch_size=recipe.batch_size,
        patch_size=recipe.patch_size,
        learning_rate=recipe.rates[0][1],
        # Of so many steps as the recipe has, where it tells these: known with the images.
        epochs=recipe.epochs,
        quality=None if ENTRIES[name].scale else int(ENTRIES[name].default_quality),
    )


def _settle_quality(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """The weight of the distortion of a model of one rate."""
    if args.stage is not None:
        parser.error(f"--stage is for models of variable rate, and {args.model} is none")
    if args.lmbda is not None and len(args.lmbda) > 1:
        parser.error(f"--lambda takes one number for {args.model}, got {len(args.lmbda)}")
    recipe = {}
    if args.quality is not None and not args.model_args:
        try:
            recipe = training_recipe(args.model, args.quality, args.metric)
        except ValueError as error:
            parser.error(str(error))
    if args.quality is None:
        args.quality = entries()[args.model].default_quality
    args.beta = recipe.get("beta", 1.0)
    args.lmbda = recipe.get("lmbda", 1e-2) if args.lmbda is None else args.lmbda[0]
    _check_lambda(args.lmbda, parser)


def _settle_levels(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Stage of a model of variable rate, and the weights of the distortion of its levels."""
    if args.quality is not None:
        parser.error(f"--quality is for models of one rate, and {args.model} has all of them")
    if args.precision != "fp32":
        # They round outside of their entropy models.
        parser.error(f"--precision {args.precision} is for models of one rate")
    args.quality, args.beta = 0, 1.0
    if ENTRIES[args.model].scale:
        _settle_scale(args, parser)
        return
    args.stage = args.stage or 2
    lambdas = list(LAMBDAS[args.metric]) if args.lmbda is None else args.lmbda
    for value in lambdas:
        _check_lambda(value, parser)
    count = image_vbr.model_architectures[args.model].levels
    if args.stage == 1:
        if args.lmbda is not None and len(lambdas) > 1:
            parser.error(f"--lambda takes one number for --stage 1, got {len(lambdas)}")
        args.lmbda = lambdas[-1]
    elif len(lambdas) != count:
        parser.error(f"--lambda takes {count} numbers for {args.model}, got {len(lambdas)}")
    else:
        args.lmbda = lambdas


def _settle_scale(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """A model whose qualities are a scale knows the weight of the distortion at each."""
    for option, value in (("--stage", args.stage), ("--lambda", args.lmbda)):
        if value is not None:
            parser.error(f"{option} is not for {args.model}, whose scale of qualities has its own")
    if args.metric != "mse":
        parser.error(f"--metric of {args.model} must be mse, got {args.metric}")


def _check_lambda(value: float, parser: argparse.ArgumentParser) -> None:
    if not (math.isfinite(value) and value > 0):
        parser.error(f"--lambda must be positive and finite, got {value}")


def _parser(program: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=program, description="Train an image model of the zoo.")
    _add_model_options(parser)
    _add_schedule_options(parser)
    _add_machine_options(parser)
    add_output_options(parser)
    return parser


def _key_value(text: str) -> tuple[str, Any]:
    key, separator, value = text.partition("=")
    if not separator:
        raise argparse.ArgumentTypeError(f"expected KEY=VALUE, got {text!r}")
    return key, json.loads(value)


def _add_model_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--recipe",
        choices=recipe_names(),
        help="train a model as this recipe says: batch, crops, learning rates and length; other "
        "options take precedence, and each test is told and drawn beside what to expect",
    )
    add(
        "-m",
        "--model",
        default="bmshj2018-factorized",
        choices=image_models.keys(),
        help="model (default: %(default)s, or that of the recipe)",
    )
    add(
        "-d",
        "--dataset",
        type=str,
        required=True,
        help="folder with train/ and test/, or with images; folders below are entered",
    )
    add(
        "--val-fraction",
        type=float,
        metavar="SHARE",
        help="of a folder without test/, what to test on (default: 0.1)",
    )
    add("--quality", type=int, help="rate point and size in the zoo (default: size of 3)")
    add(
        "--stage",
        type=int,
        choices=(1, 2),
        help="of a variable-rate model: 1 trains its base at the highest rate, 2 all its levels "
        "(default: 2)",
    )
    add(
        "--model-args",
        type=_key_value,
        nargs="+",
        default={},
        metavar="KEY=VALUE",
        help="arguments of the model class instead of a quality, for example N=64 M=96",
    )
    add(
        "--lambda",
        dest="lmbda",
        type=float,
        nargs="+",
        help="weight of the distortion, for a variable-rate model one for each level (default: "
        "what published models were trained with, 0.01 without --quality)",
    )
    add("--metric", choices=("mse", "ms-ssim"), default="mse", help="(default: %(default)s)")
    add(
        "--diffusion-weight",
        type=float,
        metavar="WEIGHT",
        help="of the denoising loss of saaf, 0 to leave it out (default: 0.1)",
    )


def _add_schedule_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("-e", "--epochs", default=100, type=int, help="(default: %(default)s)")
    add("-lr", "--learning-rate", default=1e-4, type=float, help="(default: %(default)s)")
    add(
        "--aux-learning-rate",
        type=float,
        default=1e-3,
        help="for the quantiles (default: %(default)s)",
    )
    add(
        "--batch-size",
        type=int,
        default=16,
        help="images of a step, all processes together (default: %(default)s)",
    )
    add("--test-batch-size", type=int, default=64, help="(default: %(default)s)")
    add(
        "--patch-size",
        type=int,
        nargs=2,
        default=(256, 256),
        metavar=("H", "W"),
        help="size of the crops (default: %(default)s)",
    )
    add(
        "--clip_max_norm",
        "--clip-max-norm",
        type=float,
        help="largest norm of the gradients, 0 for no limit (default: 1.0; none with steps in the "
        "backward pass)",
    )
    add(
        "--optimizer",
        choices=("adam", "adafactor"),
        default="adam",
        help="adafactor keeps next to nothing beside the weights, adam twice as much (default: "
        "%(default)s)",
    )
    add(
        "--step-in-backward",
        action="store_true",
        help="move each weight as soon as its gradient is there, and keep no gradients, to save "
        "memory",
    )
    add(
        "--ema",
        type=float,
        metavar="DECAY",
        help="test and keep a moving average of the weights, for example 0.999",
    )
    add("--weights", type=Path, metavar="FILE", help="model to begin with, instead of at random")
    add("--seed", type=int, help="of all random generators")


def _add_machine_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--cuda", action="store_true", help="train on the GPU")
    add("-n", "--num-workers", type=int, default=4, help="loader processes (default: %(default)s)")
    add(
        "--accumulate",
        type=int,
        default=1,
        metavar="N",
        help="go through a batch in N parts, to save memory (default: %(default)s)",
    )
    add(
        "--per-image-seeds",
        "--per-picture-seeds",  # its name at first
        action=argparse.BooleanOptionalAction,
        help="crop and noise of an image depend on seed, epoch and image alone, so that "
        "processes, --accumulate and --num-workers do not matter (default: under torchrun)",
    )
    add(
        "--precision",
        choices=("fp32", "bf16"),
        default="fp32",
        help="of the transforms; the entropy models and the loss stay in fp32",
    )
    add("--channels-last", action="store_true", help="memory layout, faster on some devices")


def add_output_options(parser: argparse.ArgumentParser) -> None:
    """Options for what a run leaves: checkpoints and logs."""
    add = parser.add_argument
    add(
        "--save",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="write checkpoints (default: yes)",
    )
    add("--save-dir", type=Path, default=Path(), help="where checkpoints go (default: here)")
    add("--checkpoint", type=str, help="checkpoint.pth.tar to resume from")
    add("--log-file", type=Path, help="file to append JSON lines to")
    add("--tensorboard", type=Path, metavar="DIR", help="folder for TensorBoard")
    add("--track", choices=TRACKERS, help="also tell this package, which is to be installed")
