# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Train an image model of the zoo on a folder of pictures.

The folder holds ``train/`` and ``test/``. After every epoch the state of training goes to
``checkpoint.pth.tar`` (``--checkpoint`` resumes from it, exactly); after every best one a model
that is ready to use goes to ``checkpoint_best.safetensors`` (``compressai.load`` opens it)::

    python examples/train.py -d pictures -m mbt2018-mean --quality 3 --lambda 0.0067 --cuda
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn, optim
from torch.utils.data import DataLoader, RandomSampler, SequentialSampler
from torchvision import transforms

from compressai.checkpoint import describe
from compressai.checkpoint import save_checkpoint as save_model
from compressai.datasets import ImageFolder
from compressai.losses import CCARateDistortionLoss, RateDistortionLoss
from compressai.optimizers import net_aux_optimizer
from compressai.registry import MODELS
from compressai.training import (
    AverageMeter,
    NonFiniteLoss,
    RecordingBatchSampler,
    Reporter,
    check_finite,
    format_losses,
    keep_entropy_models_in_fp32,
    load_training_state,
    random_states,
    save_checkpoint,
)
from compressai.zoo import image_models
from compressai.zoo.image import model_architectures, training_recipe

LOG_INTERVAL = 10


class CustomDataParallel(nn.DataParallel):
    """DataParallel that still shows the methods of the model inside."""

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.module, name)


def configure_optimizers(
    net: nn.Module, args: argparse.Namespace
) -> tuple[optim.Optimizer, optim.Optimizer]:
    """Adam for the network, Adam for the quantiles."""
    optimizers = net_aux_optimizer(
        net,
        {
            "net": {"type": "Adam", "lr": args.learning_rate},
            "aux": {"type": "Adam", "lr": args.aux_learning_rate},
        },
    )
    return optimizers["net"], optimizers["aux"]


def train_one_epoch(
    model: nn.Module,
    criterion: nn.Module,
    train_dataloader: DataLoader,
    optimizer: optim.Optimizer,
    aux_optimizer: optim.Optimizer,
    epoch: int,
    clip_max_norm: float,
    *,
    precision: str = "fp32",
    memory_format: torch.memory_format = torch.contiguous_format,
    reporter: Reporter | None = None,
) -> None:
    """Train on every batch once.

    Args:
        model: model with ``aux_loss()``; its output goes to ``criterion``.
        criterion: gives a dictionary with ``loss``.
        train_dataloader: batches ``(N, 3, H, W)`` in [0, 1].
        optimizer: for the network.
        aux_optimizer: for the quantiles.
        epoch: number shown.
        clip_max_norm: largest norm of the network's gradients; 0 for no limit.
        precision: ``"fp32"`` or ``"bf16"`` (the network only).
        memory_format: layout of the batches.
        reporter: what tells about it.

    Raises:
        NonFiniteLoss: a loss or the norm of the gradients is NaN or infinite; the step is not
            taken.
    """
    model.train()
    device = next(model.parameters()).device
    reporter = reporter or Reporter()
    parameters = [p for group in optimizer.param_groups for p in group["params"]]

    with reporter.bar(f"epoch {epoch}", len(train_dataloader)):
        for i, batch in enumerate(train_dataloader):
            x = batch.to(device, memory_format=memory_format, non_blocking=True)
            optimizer.zero_grad()
            aux_optimizer.zero_grad()

            with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
                out = model(x)
            out["x_hat"] = out["x_hat"].float()
            losses = criterion(out, x)
            check_finite(losses["loss"], "loss", epoch, i, train_dataloader)
            losses["loss"].backward()
            if clip_max_norm > 0:
                norm = nn.utils.clip_grad_norm_(parameters, clip_max_norm)
                check_finite(norm, "norm of the gradients", epoch, i, train_dataloader)
            optimizer.step()

            aux_loss = model.aux_loss()
            check_finite(aux_loss, "auxiliary loss", epoch, i, train_dataloader)
            aux_loss.backward()
            aux_optimizer.step()

            if i % LOG_INTERVAL:
                reporter.advance()
                continue
            losses["aux_loss"] = aux_loss
            values = {key: float(loss.detach()) for key, loss in losses.items()}
            seen, total = i * len(x), len(train_dataloader.dataset)
            reporter.line(
                f"Train epoch {epoch}: [{seen}/{total} ({100.0 * i / len(train_dataloader):.0f}%)]"
                f"\t{format_losses(values)}",
                bar_instead=True,
            )
            reporter.advance(values)
            reporter.record(
                "train",
                epoch=epoch,
                step=epoch * len(train_dataloader) + i,
                batch=i,
                learning_rate=optimizer.param_groups[0]["lr"],
                **values,
            )


def test_epoch(
    epoch: int,
    test_dataloader: DataLoader,
    model: nn.Module,
    criterion: nn.Module,
    *,
    memory_format: torch.memory_format = torch.contiguous_format,  # noqa: PT028
    reporter: Reporter | None = None,  # noqa: PT028
) -> Tensor:
    """Average losses over the test batches, in evaluation mode and full precision.

    Returns:
        The average ``loss``, 0-d.

    Raises:
        NonFiniteLoss: a loss is NaN or infinite.
    """
    model.eval()
    device = next(model.parameters()).device
    reporter = reporter or Reporter()
    meters: dict[str, AverageMeter] = {}

    with torch.no_grad():
        for i, batch in enumerate(test_dataloader):
            x = batch.to(device, memory_format=memory_format, non_blocking=True)
            losses = criterion(model(x), x)
            check_finite(losses["loss"], "test loss", epoch, i, test_dataloader)
            for key, loss in {**losses, "aux_loss": model.aux_loss()}.items():
                meters.setdefault(key, AverageMeter()).update(loss)

    values = {key: float(meter.avg) for key, meter in meters.items()}
    reporter.line(f"Test epoch {epoch}: Average losses:\t{format_losses(values)}\n")
    reporter.record("test", epoch=epoch, **values)
    return meters["loss"].avg


def build_model(args: argparse.Namespace) -> tuple[nn.Module, dict[str, Any]]:
    """The model that was asked for, and the arguments that rebuild it."""
    # The auxiliary entropy model of CCA is there for its loss, and for nothing but training.
    training = {"cca_training": True} if args.model == "cca" else {}
    if args.model_args:
        arguments = {**training, **args.model_args}
        return MODELS[args.model](**arguments), arguments
    arguments = {"quality": args.quality, **training}
    return image_models[args.model](**arguments), arguments


def build_criterion(net: nn.Module, args: argparse.Namespace) -> RateDistortionLoss:
    """The loss of the model: with the terms of CCA where there is an auxiliary entropy model."""
    if getattr(net, "aux_entropy_model", None) is None:
        return RateDistortionLoss(lmbda=args.lmbda, metric=args.metric)
    return CCARateDistortionLoss(lmbda=args.lmbda, metric=args.metric, beta=args.beta)


def build_loaders(args: argparse.Namespace, device: torch.device) -> tuple[DataLoader, DataLoader]:
    """Loaders of random crops of ``train/`` and centre crops of ``test/``."""
    loaders = []
    for split, crop, batch_size in (
        ("train", transforms.RandomCrop(args.patch_size), args.batch_size),
        ("test", transforms.CenterCrop(args.patch_size), args.test_batch_size),
    ):
        transform = transforms.Compose([crop, transforms.ToTensor()])
        dataset = ImageFolder(args.dataset, split=split, transform=transform)
        if len(dataset) == 0:
            raise SystemExit(f"train.py: there are no pictures in {Path(args.dataset) / split}")
        sampler = RandomSampler(dataset) if split == "train" else SequentialSampler(dataset)
        loaders.append(
            DataLoader(
                dataset,
                batch_sampler=RecordingBatchSampler(sampler, batch_size, drop_last=False),
                num_workers=args.num_workers,
                pin_memory=device.type == "cuda",
            )
        )
    return loaders[0], loaders[1]


def parse_args(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""

    def key_value(text: str) -> tuple[str, Any]:
        key, separator, value = text.partition("=")
        if not separator:
            raise argparse.ArgumentTypeError(f"expected KEY=VALUE, got {text!r}")
        return key, json.loads(value)

    parser = argparse.ArgumentParser(description="Train an image model of the zoo.")
    add = parser.add_argument
    add(
        "-m",
        "--model",
        default="bmshj2018-factorized",
        choices=image_models.keys(),
        help="model (default: %(default)s)",
    )
    add("-d", "--dataset", type=str, required=True, help="folder with train/ and test/")
    add("-e", "--epochs", default=100, type=int, help="(default: %(default)s)")
    add("-lr", "--learning-rate", default=1e-4, type=float, help="(default: %(default)s)")
    add("-n", "--num-workers", type=int, default=4, help="loader processes (default: %(default)s)")
    add(
        "--lambda",
        dest="lmbda",
        type=float,
        help="weight of the distortion (default: what published models of --quality were trained "
        "with, 0.01 without --quality)",
    )
    add("--batch-size", type=int, default=16, help="(default: %(default)s)")
    add("--test-batch-size", type=int, default=64, help="(default: %(default)s)")
    add(
        "--aux-learning-rate",
        type=float,
        default=1e-3,
        help="for the quantiles (default: %(default)s)",
    )
    add(
        "--patch-size",
        type=int,
        nargs=2,
        default=(256, 256),
        metavar=("H", "W"),
        help="size of the crops (default: %(default)s)",
    )
    add("--cuda", action="store_true", help="train on the GPU")
    add(
        "--save",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="write checkpoints (default: yes)",
    )
    add("--seed", type=int, help="of all random generators")
    add(
        "--clip_max_norm",
        "--clip-max-norm",
        type=float,
        default=1.0,
        help="largest norm of the gradients, 0 for no limit (default: %(default)s)",
    )
    add("--checkpoint", type=str, help="checkpoint.pth.tar to resume from")
    add("--quality", type=int, help="rate point and size in the zoo (default: size of 3)")
    add(
        "--model-args",
        type=key_value,
        nargs="+",
        default={},
        metavar="KEY=VALUE",
        help="arguments of the model class instead of a quality, for example N=64 M=96",
    )
    add("--metric", choices=("mse", "ms-ssim"), default="mse", help="(default: %(default)s)")
    add(
        "--precision",
        choices=("fp32", "bf16"),
        default="fp32",
        help="of the transforms; the entropy models and the loss stay in fp32",
    )
    add("--channels-last", action="store_true", help="memory layout, faster on some devices")
    add("--save-dir", type=Path, default=Path(), help="where checkpoints go (default: here)")
    add("--log-file", type=Path, help="file to append JSON lines to")
    args = parser.parse_args(argv)
    args.model_args = dict(args.model_args)
    recipe = {}
    if args.quality is not None and not args.model_args and args.model in model_architectures:
        try:
            recipe = training_recipe(args.model, args.quality, args.metric)
        except ValueError as error:
            parser.error(str(error))
    args.quality = 3 if args.quality is None else args.quality
    args.beta = recipe.get("beta", 1.0)
    if args.lmbda is None:
        args.lmbda = recipe.get("lmbda", 1e-2)
    if not (math.isfinite(args.lmbda) and args.lmbda > 0):
        parser.error(f"--lambda must be positive and finite, got {args.lmbda}")
    if args.cuda and not torch.cuda.is_available():
        parser.error("--cuda needs a CUDA device, and torch finds none")
    if args.metric == "ms-ssim" and min(args.patch_size) <= 160:
        parser.error(f"--metric ms-ssim needs a --patch-size above 160, got {args.patch_size}")
    return args


def main(argv: Sequence[str]) -> None:
    """Train as the command line says."""
    args = parse_args(argv)
    if args.seed is not None:
        torch.manual_seed(args.seed)
        random.seed(args.seed)
        np.random.seed(args.seed % 2**32)  # noqa: NPY002 (the global one)
    device = torch.device("cuda" if args.cuda else "cpu")
    memory_format = torch.channels_last if args.channels_last else torch.contiguous_format
    reporter = Reporter(args.log_file)
    if args.save:
        args.save_dir.mkdir(parents=True, exist_ok=True)

    # The order of what draws random numbers is part of what a seed promises: the model comes
    # after the loaders, and nothing else draws.
    train_dataloader, test_dataloader = build_loaders(args, device)
    net, arguments = build_model(args)
    net = net.to(device, memory_format=memory_format)
    optimizer, aux_optimizer = configure_optimizers(net, args)
    lr_scheduler = optim.lr_scheduler.ReduceLROnPlateau(optimizer, "min")
    criterion = build_criterion(net, args)
    if args.precision == "bf16":
        keep_entropy_models_in_fp32(net, device.type)

    recipe = {"lmbda": args.lmbda, "metric": args.metric}
    metadata = describe(net, architecture=args.model, arguments=arguments, **recipe)
    stateful = {
        "optimizer": optimizer,
        "aux_optimizer": aux_optimizer,
        "lr_scheduler": lr_scheduler,
    }
    first_epoch, best_loss = 0, math.inf
    if args.checkpoint:
        reporter.line(f"Loading {args.checkpoint}")
        try:
            first_epoch, best_loss = load_training_state(args.checkpoint, net, stateful, metadata)
        except ValueError as error:
            raise SystemExit(f"train.py: {error}") from error

    model = net
    if args.cuda and torch.cuda.device_count() > 1:
        model = CustomDataParallel(net)

    last_good = args.checkpoint
    for epoch in range(first_epoch, args.epochs):
        reporter.line(f"Learning rate: {optimizer.param_groups[0]['lr']}")
        try:
            train_one_epoch(
                model,
                criterion,
                train_dataloader,
                optimizer,
                aux_optimizer,
                epoch,
                args.clip_max_norm,
                precision=args.precision,
                memory_format=memory_format,
                reporter=reporter,
            )
            loss = test_epoch(
                epoch,
                test_dataloader,
                model,
                criterion,
                memory_format=memory_format,
                reporter=reporter,
            )
        except NonFiniteLoss as error:
            reporter.record("stopped", reason=str(error), checkpoint=last_good)
            raise SystemExit(
                f"train.py: stopped, {error}; last good checkpoint: {last_good or 'none'}"
            ) from error
        lr_scheduler.step(loss)

        is_best = float(loss) < best_loss
        best_loss = min(float(loss), best_loss)
        if not args.save:
            continue
        last_good = str(args.save_dir / "checkpoint.pth.tar")
        save_checkpoint(
            {
                "epoch": epoch,
                "state_dict": net.state_dict(),
                "loss": loss,
                **{name: item.state_dict() for name, item in stateful.items()},
                "best_loss": best_loss,
                "random_states": random_states(),
                "compressai": metadata,
            },
            is_best,
            last_good,
        )
        if is_best:
            finished = copy.deepcopy(net)
            finished.update(force=True)
            save_model(
                args.save_dir / "checkpoint_best.safetensors",
                finished,
                architecture=args.model,
                arguments=arguments,
                **recipe,
                extra={
                    "epoch": epoch,
                    "step": (epoch + 1) * len(train_dataloader),
                    "loss": float(loss),
                },
            )


if __name__ == "__main__":
    main(sys.argv[1:])
