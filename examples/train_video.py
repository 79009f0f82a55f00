# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Train a video model of the zoo on a folder of clips.

The folder is one of :class:`compressai.datasets.VideoFolder`: ``train.list`` and ``test.list`` name
folders of frames below ``sequences/``. Checkpoints are those of ``train.py``::

    python examples/train_video.py -d vimeo --lambda 0.01 --batch-size 8 --cuda
"""

from __future__ import annotations

import argparse
import math
import random
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn, optim
from torch.utils.data import DataLoader, RandomSampler, SequentialSampler
from torchvision import transforms

from compressai.checkpoint import describe
from compressai.datasets import VideoFolder
from compressai.losses import VideoRateDistortionLoss as RateDistortionLoss
from compressai.training import (
    AverageMeter,
    NonFiniteLoss,
    RecordingBatchSampler,
    Reporter,
    check_finite,
    configure_optimizers,
    format_losses,
    load_training_state,
    save_checkpoint,
    save_epoch,
)
from compressai.training.epochs import LOG_INTERVAL
from compressai.training.options import add_output_options
from compressai.zoo import video_models

__all__ = [
    "AverageMeter",
    "RateDistortionLoss",
    "build_loaders",
    "compute_aux_loss",
    "configure_optimizers",
    "main",
    "parse_args",
    "save_checkpoint",
    "test_epoch",
    "train_one_epoch",
]


def compute_aux_loss(aux_list: Sequence[Tensor], backward: bool = False) -> Tensor:
    """Sum of the losses of all bottlenecks.

    Args:
        aux_list: what ``aux_loss()`` of a video model gives.
        backward: also go back through each of them.
    """
    if backward:
        for loss in aux_list:
            loss.backward()
    return torch.stack([loss.detach() for loss in aux_list]).sum()


def _numbers(losses: dict[str, Tensor], aux_loss: Tensor) -> dict[str, float]:
    values = {key: float(loss.detach().mean()) for key, loss in losses.items()}
    return {**values, "aux_loss": float(aux_loss)}


def train_one_epoch(
    model: nn.Module,
    criterion: nn.Module,
    train_dataloader: DataLoader,
    optimizer: optim.Optimizer,
    aux_optimizer: optim.Optimizer,
    epoch: int,
    clip_max_norm: float,
    reporter: Reporter | None = None,
) -> None:
    """Train on every batch once.

    Args:
        model: video model.
        criterion: gives a dictionary with ``loss``.
        train_dataloader: batches of three frames, each ``(N, 3, H, W)`` in [0, 1].
        optimizer: for the network.
        aux_optimizer: for the quantiles.
        epoch: number shown.
        clip_max_norm: largest norm of the network's gradients; 0 for no limit.
        reporter: what tells about it.

    Raises:
        NonFiniteLoss: a loss or the norm of the gradients is NaN or infinite; the step is not
            taken.
    """
    model.train()
    device = next(model.parameters()).device
    reporter = reporter or Reporter()
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    steps = len(train_dataloader)

    with reporter.bar(f"epoch {epoch}", steps):
        for i, batch in enumerate(train_dataloader):
            frames = [frame.to(device, non_blocking=True) for frame in batch]
            optimizer.zero_grad()
            aux_optimizer.zero_grad()

            losses = criterion(model(frames), frames)
            check_finite(losses["loss"], "loss", epoch, i, train_dataloader)
            losses["loss"].backward()
            if clip_max_norm > 0:
                norm = nn.utils.clip_grad_norm_(parameters, clip_max_norm)
                check_finite(norm, "norm of the gradients", epoch, i, train_dataloader)
            optimizer.step()

            aux_loss = compute_aux_loss(model.aux_loss(), backward=True)
            check_finite(aux_loss, "auxiliary loss", epoch, i, train_dataloader)
            aux_optimizer.step()

            if i % LOG_INTERVAL:
                reporter.advance()
                continue
            values = _numbers(losses, aux_loss)
            # Frames times batches, which scripts that read these lines expect.
            seen, total = i * len(frames), len(train_dataloader.dataset)
            reporter.line(
                f"Train epoch {epoch}: [{seen}/{total} ({100.0 * i / steps:.0f}%)]"
                f"\t{format_losses(values)}",
                bar_instead=True,
            )
            reporter.advance(values)
            learning_rate = optimizer.param_groups[0]["lr"]
            step = epoch * steps + i
            reporter.record(
                "train", epoch=epoch, step=step, batch=i, learning_rate=learning_rate, **values
            )


def test_epoch(
    epoch: int,
    test_dataloader: DataLoader,
    model: nn.Module,
    criterion: nn.Module,
    reporter: Reporter | None = None,  # noqa: PT028
) -> Tensor:
    """Average losses over the test batches, in evaluation mode.

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
            frames = [frame.to(device, non_blocking=True) for frame in batch]
            losses = criterion(model(frames), frames)
            check_finite(losses["loss"], "test loss", epoch, i, test_dataloader)
            for key, value in _numbers(losses, compute_aux_loss(model.aux_loss())).items():
                meters.setdefault(key, AverageMeter()).update(value)
    values = {key: meter.avg for key, meter in meters.items()}
    reporter.line(f"Test epoch {epoch}: Average losses:\t{format_losses(values)}\n")
    reporter.record("test", epoch=epoch, **values)
    return torch.tensor(values["loss"])


def build_loaders(args: argparse.Namespace) -> tuple[DataLoader, DataLoader]:
    """Loaders of random crops and intervals of ``train``, and of centre crops of ``test``."""
    loaders = []
    for split, crop, batch_size in (
        ("train", transforms.RandomCrop(args.patch_size), args.batch_size),
        ("test", transforms.CenterCrop(args.patch_size), args.test_batch_size),
    ):
        is_train = split == "train"
        dataset = VideoFolder(
            args.dataset,
            rnd_interval=is_train,
            rnd_temp_order=is_train,
            transform=transforms.Compose([transforms.ToTensor(), crop]),
            split=split,
        )
        if not len(dataset):
            raise RuntimeError(f"there are no clips in {split}.list of {args.dataset}")
        sampler = RandomSampler(dataset) if is_train else SequentialSampler(dataset)
        loaders.append(
            DataLoader(
                dataset,
                batch_sampler=RecordingBatchSampler(sampler, batch_size, drop_last=False),
                num_workers=args.num_workers,
                pin_memory=args.cuda,
            )
        )
    return loaders[0], loaders[1]


def parse_args(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Train a video model of the zoo.")
    add = parser.add_argument
    shown = "(default: %(default)s)"
    add("-m", "--model", default="ssf2020", choices=video_models.keys(), help=f"model {shown}")
    add("-d", "--dataset", required=True, help="folder with lists and sequences")
    add("-e", "--epochs", default=100, type=int, help=shown)
    add("-lr", "--learning-rate", default=1e-4, type=float, help=shown)
    add("-n", "--num-workers", type=int, default=4, help=f"loader processes {shown}")
    add("--lambda", dest="lmbda", type=float, default=1e-2, help=f"weight of distortion {shown}")
    add("--batch-size", type=int, default=16, help=shown)
    add("--test-batch-size", type=int, default=64, help=shown)
    add("--aux-learning-rate", type=float, default=1e-3, help=f"for the quantiles {shown}")
    add("--patch-size", type=int, nargs=2, default=(256, 256), metavar=("H", "W"), help=shown)
    add("--cuda", action="store_true", help="train on the GPU")
    add("--seed", type=int, help="of all random generators")
    add(
        "--clip_max_norm",
        "--clip-max-norm",
        type=float,
        default=1.0,
        help=f"largest norm of the gradients, 0 for no limit {shown}",
    )
    add_output_options(parser)
    args = parser.parse_args(argv)
    if not (math.isfinite(args.lmbda) and args.lmbda > 0):
        parser.error(f"--lambda must be positive and finite, got {args.lmbda}")
    if any(side < 1 or side % 128 for side in args.patch_size):
        parser.error(f"--patch-size must be multiples of 128, got {list(args.patch_size)}")
    if args.cuda and not torch.cuda.is_available():
        parser.error("--cuda needs a CUDA device, and torch finds none")
    return args


def main(argv: Sequence[str]) -> None:
    """Train as the command line says.

    Raises:
        SystemExit: the command line is wrong, or training cannot begin or go on; says why.
    """
    args = parse_args(argv)
    if args.seed is not None:
        torch.manual_seed(args.seed)
        random.seed(args.seed)
        np.random.seed(args.seed % 2**32)  # noqa: NPY002 (the global one)
    reporter = Reporter(args.log_file, tensorboard=args.tensorboard, track=args.track)
    # In this order, because both draw random numbers, and a seed promises which.
    try:
        train_dataloader, test_dataloader = build_loaders(args)
    except RuntimeError as error:
        raise SystemExit(f"train_video.py: {error}") from error
    # All qualities have one architecture.
    arguments = {"quality": 3}
    net = video_models[args.model](**arguments).to("cuda" if args.cuda else "cpu")
    optimizer, aux_optimizer = configure_optimizers(net, args)
    scheduler = optim.lr_scheduler.ReduceLROnPlateau(optimizer, "min")
    criterion = RateDistortionLoss(lmbda=args.lmbda, return_details=True)
    metadata = describe(
        net, architecture=args.model, arguments=arguments, lmbda=args.lmbda, metric="mse"
    )
    stateful: dict[str, Any] = {
        "optimizer": optimizer,
        "aux_optimizer": aux_optimizer,
        "lr_scheduler": scheduler,
    }
    first_epoch, best_loss = 0, math.inf
    if args.checkpoint:
        reporter.line(f"Loading {args.checkpoint}")
        try:
            first_epoch, best_loss, _ = load_training_state(
                args.checkpoint, net, stateful, metadata
            )
        except (OSError, ValueError) as error:
            raise SystemExit(f"train_video.py: {error}") from error
    if args.save:
        args.save_dir.mkdir(parents=True, exist_ok=True)

    last_good = args.checkpoint
    for epoch in range(first_epoch, args.epochs):
        reporter.line(f"Learning rate: {optimizer.param_groups[0]['lr']}")
        try:
            train_one_epoch(
                net,
                criterion,
                train_dataloader,
                optimizer,
                aux_optimizer,
                epoch,
                args.clip_max_norm,
                reporter,
            )
            loss = test_epoch(epoch, test_dataloader, net, criterion, reporter)
        except NonFiniteLoss as error:
            reporter.record("stopped", reason=str(error), checkpoint=last_good)
            raise SystemExit(
                f"train_video.py: stopped, {error}; last good checkpoint: {last_good or 'none'}"
            ) from error
        scheduler.step(loss)
        is_best, best_loss = float(loss) < best_loss, min(float(loss), best_loss)
        if args.save:
            last_good = save_epoch(
                args.save_dir,
                {"epoch": epoch, "loss": loss, "best_loss": best_loss},
                stateful,
                net,
                metadata=metadata,
                is_best=is_best,
                steps=len(train_dataloader),
            )
    reporter.close()


if __name__ == "__main__":
    main(sys.argv[1:])
