# SPDX-License-Identifier: BSD-3-Clause-Clear
"""A whole training run, from its options to its checkpoints."""

from __future__ import annotations

import argparse
import math
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn, optim
from torch.utils.data import DataLoader, DistributedSampler, RandomSampler, SequentialSampler
from torchvision import transforms

from compressai.checkpoint import describe
from compressai.datasets import ImageFiles
from compressai.extensions import load_extensions
from compressai.losses import CCARateDistortionLoss, RateDistortionLoss
from compressai.optimizers import net_aux_optimizer, net_optimizer
from compressai.registry import ENTRIES
from compressai.training.averaging import moving_average
from compressai.training.epochs import test_epoch, train_one_epoch
from compressai.training.expected import Expected
from compressai.training.finite import NonFiniteLoss
from compressai.training.images import check_images, find_small, listed, split_images
from compressai.training.initial import load_initial_weights
from compressai.training.levels import Level, Levels
from compressai.training.options import parse_args
from compressai.training.precision import flushed_denormals, keep_entropy_models_in_fp32
from compressai.training.processes import Processes, process_group
from compressai.training.recipes import PiecewiseRate, Recipe, find_recipe
from compressai.training.regularizers import add_regularizers
from compressai.training.report import Reporter
from compressai.training.sampling import RecordingBatchSampler, SeededSamples
from compressai.training.state import load_training_state, save_epoch
from compressai.zoo import image_models

__all__ = [
    "CustomDataParallel",
    "build_criterion",
    "build_levels",
    "build_loaders",
    "build_model",
    "configure_optimizers",
    "main",
]

# Names in the table of optimizers, by what --optimizer calls them.
_OPTIMIZERS = {"adam": "Adam", "adafactor": "MatrixAdafactor"}
# Number of qualities of a scale that steps draw from.
_POINTS = 21


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
    """The optimizer of the network, and Adam for the quantiles, of no parameters without any."""
    # Programs with a command line of their own may not ask for one.
    chosen = _OPTIMIZERS[getattr(args, "optimizer", "adam")]
    conf = {
        "net": {"type": chosen, "lr": args.learning_rate},
        "aux": {"type": "Adam", "lr": args.aux_learning_rate},
    }
    if not any(name.endswith(".quantiles") for name, _ in net.named_parameters()):
        main = net_optimizer(net, conf)["net"]
        return main, optim.Adam([{"params": []}], lr=args.aux_learning_rate)
    optimizers = net_aux_optimizer(net, conf)
    return optimizers["net"], optimizers["aux"]


def build_model(args: argparse.Namespace) -> tuple[nn.Module, dict[str, Any]]:
    """The model that was asked for, and the arguments that rebuild it."""
    entry = ENTRIES[args.model]
    if args.model_args or entry.scale:
        arguments = {**entry.arguments, **entry.training, **args.model_args}
        net = entry.model(**arguments)
    else:
        arguments = {"quality": args.quality, **entry.training}
        net = image_models[args.model](**arguments)
    if args.diffusion_weight is not None:
        net.diffusion_weight = args.diffusion_weight
    return net, arguments


def build_criterion(net: nn.Module, args: argparse.Namespace) -> RateDistortionLoss:
    """The loss of the model: with the terms of CCA where there is an auxiliary entropy model."""
    if getattr(net, "aux_entropy_model", None) is None:
        return RateDistortionLoss(lmbda=args.lmbda, metric=args.metric)
    return CCARateDistortionLoss(lmbda=args.lmbda, metric=args.metric, beta=args.beta)


def build_levels(net: nn.Module, args: argparse.Namespace, seed: int | None) -> Levels:
    """What the steps are for: one rate, or the levels of a variable-rate model, each with its loss.

    Args:
        net: the model.
        args: the options.
        seed: of the draws; ``None`` takes the default generator.
    """
    if ENTRIES[args.model].scale:
        return _points_of_scale(net, seed)
    if args.stage is None:
        return Levels([Level(build_criterion(net, args))])
    if args.stage == 1:
        return Levels([Level(build_criterion(net, args), {"stage": 1})])
    losses = [RateDistortionLoss(lmbda=lmbda, metric=args.metric) for lmbda in args.lmbda]
    return Levels([Level(loss, {"stage": 2, "s": s}) for s, loss in enumerate(losses)], seed)


def _points_of_scale(net: nn.Module, seed: int | None) -> Levels:
    """Qualities that cover the scale of a model."""
    low, high = net.quality_range
    qualities = [low + (high - low) * i / (_POINTS - 1) for i in range(_POINTS)]
    lambdas = [net.lagrangian_multiplier(quality=quality) for quality in qualities]
    # Losses grow with about the root of the multiplier.
    weights = [(lambdas[_POINTS // 2] / lmbda) ** 0.5 for lmbda in lambdas]
    levels = [
        Level(RateDistortionLoss(lmbda), {"quality": quality}, weight)
        for quality, lmbda, weight in zip(qualities, lambdas, weights)
    ]
    return Levels(levels, seed)


def build_loaders(
    args: argparse.Namespace, processes: Processes, seed: int | None
) -> tuple[DataLoader, DataLoader]:
    """Loaders of random crops to train on and centre crops to test on.

    Args:
        args: the options.
        processes: this process, which gets its part of each batch, and the others.
        seed: of order and crops; ``None`` takes the default generators.
    """
    try:
        images = split_images(args.dataset, args.val_fraction)
    except (OSError, ValueError) as error:
        raise SystemExit(f"train: {error}") from error
    loaders = []
    for split, crop, batch_size in (
        ("train", transforms.RandomCrop(args.patch_size), args.batch_size),
        ("test", transforms.CenterCrop(args.patch_size), args.test_batch_size),
    ):
        transform = transforms.Compose([crop, transforms.ToTensor()])
        dataset: Any = ImageFiles(images[split], transform)
        sampler: Any = RandomSampler(dataset) if split == "train" else SequentialSampler(dataset)
        if seed is not None and split == "train":
            dataset = SeededSamples(dataset, seed)
            # One replica: all processes walk through the same batches, and share each of them.
            sampler = DistributedSampler(dataset, num_replicas=1, rank=0, seed=seed)
        loaders.append(
            DataLoader(
                dataset,
                batch_sampler=RecordingBatchSampler(
                    sampler,
                    batch_size,
                    drop_last=False,
                    rank=processes.rank,
                    processes=processes.count,
                ),
                num_workers=args.num_workers,
                pin_memory=processes.device.type == "cuda",
            )
        )
    return loaders[0], loaders[1]


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


class _Run:
    """What a run consists of, built in the order that a seed promises."""

    def __init__(self, args: argparse.Namespace, processes: Processes) -> None:
        self.args, self.processes = args, processes
        self.seed = image_seed(args, processes)
        self.memory_format = torch.channels_last if args.channels_last else torch.contiguous_format
        first = processes.is_first
        options = {key: value for key, value in vars(args).items() if value is not None}
        self.reporter = Reporter(
            args.log_file,
            tensorboard=args.tensorboard,
            silent=not first,
            track=args.track,
            options={key: str(value) for key, value in options.items()},
        )
        # The order of what draws random numbers is part of what a seed promises: the model comes
        # after the loaders, and nothing else draws.
        self.train_loader, self.test_loader = build_loaders(args, processes, self.seed)
        self._check_images()
        net, self.arguments = build_model(args)
        self._check_crop(net)
        if args.weights is not None:
            try:
                load_initial_weights(net, args.weights)
            except (OSError, ValueError) as error:
                raise SystemExit(f"train: {error}") from error
        self.net = net.to(processes.device, memory_format=self.memory_format)
        self.optimizer, self.aux_optimizer = configure_optimizers(self.net, args)
        self.scheduler: Any = optim.lr_scheduler.ReduceLROnPlateau(self.optimizer, "min")
        self.expected: Expected | None = None
        if args.recipe is not None:
            self._follow(find_recipe(args.recipe))
        if args.decibels:
            self._tell_length()
        self.levels = build_levels(self.net, args, self.seed)
        if args.precision == "bf16":
            keep_entropy_models_in_fp32(self.net, processes.device.type)

        self.recipe = {"lmbda": args.lmbda, "metric": args.metric}
        self.metadata = describe(
            self.net,
            architecture=args.model,
            arguments=self.arguments,
            extra={} if args.stage is None else {"stage": args.stage},
            **self.recipe,
        )
        self.stateful: dict[str, Any] = {
            "optimizer": self.optimizer,
            "aux_optimizer": self.aux_optimizer,
            "lr_scheduler": self.scheduler,
        }
        self.first_epoch, self.best_loss = 0, math.inf
        self.average = None if args.ema is None else moving_average(self.net, args.ema)
        if self.average is not None:
            self.stateful["average"] = self.average
        if args.checkpoint:
            self._resume()
        # Only now: what wraps the model sends the weights of process 0 to the others.
        self.model: nn.Module = processes.wrap(self.net, self._some_loss)
        if args.cuda and not processes.launched and torch.cuda.device_count() > 1:
            self.model = CustomDataParallel(self.net)
        self.best_net = self.net if self.average is None else self.average.module

    def _follow(self, recipe: Recipe) -> None:
        """Length and learning rates of a recipe, and what to expect of it."""
        if self.args.epochs is None:
            self.args.epochs = math.ceil(recipe.steps / len(self.train_loader))
        self.scheduler = PiecewiseRate(self.optimizer, recipe.rates, self.args.epochs)
        folder = self.args.save_dir if self.args.save and self.processes.is_first else None
        self.expected = Expected(recipe, self.args.quality, folder)
        self.reporter.line(self.expected.introduction())

    def _tell_length(self) -> None:
        """What is trained on how many images, before the first epoch, which may take long."""
        epochs, images = self.args.epochs, len(self.train_loader.dataset)
        self.reporter.line(
            f"Run: {self.args.model}, {_count(epochs, 'epoch')} of {_count(images, 'image')}, "
            f"{_count(epochs * len(self.train_loader), 'step')}; "
            f"tests on {_count(len(self.test_loader.dataset), 'image')}"
        )

    def _check_crop(self, net: nn.Module) -> None:
        height, width = self.args.patch_size
        multiple = getattr(net, "downsampling_factor", 1)
        if height % multiple or width % multiple:
            raise SystemExit(
                f"train: --patch-size: sides must be multiples of {multiple} for "
                f"{self.args.model}, got {height} {width}"
            )

    def _check_images(self) -> None:
        """Each process looks at its part of the headers."""
        crop = self.args.patch_size
        part = slice(self.processes.rank, None, self.processes.count)
        test = self.test_loader.dataset.samples[part]
        try:
            check_images(self.train_loader.dataset.samples[part], crop)
            small, unreadable = find_small(test, crop)
            if unreadable:
                raise ValueError(listed(unreadable))
        except ValueError as error:
            raise SystemExit(f"train: {error}") from error
        if small:
            self.reporter.line(
                f"Filled up with black to the crop of {crop[1]} x {crop[0]}: {listed(small)}"
            )

    def _resume(self) -> None:
        self.reporter.line(f"Loading {self.args.checkpoint}")
        try:
            self.first_epoch, self.best_loss, seed = load_training_state(
                self.args.checkpoint, self.net, self.stateful, self.metadata
            )
        except ValueError as error:
            raise SystemExit(f"train: {error}") from error
        if self.seed is not None and seed is not None:
            self.seed = self.train_loader.dataset.seed = self.levels.seed = seed
            self.train_loader.batch_sampler.sampler.seed = seed

    def _some_loss(self, net: nn.Module) -> Tensor:
        x = torch.zeros(1, 3, *self.args.patch_size, device=self.processes.device)
        # All levels depend on the same parameters.
        level = self.levels.levels[0]
        out = net.train()(x, **level.arguments)
        return add_regularizers(level.criterion(out, x), out, net)["loss"]

    def epoch(self, epoch: int) -> Tensor:
        """Train and test once; the test loss."""
        common = {
            "memory_format": self.memory_format,
            "reporter": self.reporter,
            "processes": self.processes,
        }
        train_one_epoch(
            self.model,
            self.levels,
            self.train_loader,
            self.optimizer,
            self.aux_optimizer,
            epoch,
            self.args.clip_max_norm,
            precision=self.args.precision,
            accumulate=self.args.accumulate,
            average=self.average,
            step_in_backward=self.args.step_in_backward,
            **common,
        )
        tested = self.model if self.average is None else self.average.module
        return test_epoch(epoch, self.test_loader, tested, self.levels, **common)

    def tell_test(self, epoch: int) -> None:
        """The last test in decibels, beside what is expected, and when the run ends."""
        values = self.reporter.latest.get("test", {})
        step = (epoch + 1) * len(self.train_loader)
        text = None
        if self.expected is not None:
            text = self.expected.note(step, values)
        elif self.args.decibels and values.get("mse_loss", 0) > 0:
            text = f"PSNR: {-10 * math.log10(values['mse_loss']):.2f} dB"
        if text is not None:
            done = epoch + 1 - self.first_epoch
            self.reporter.line(text + self.reporter.run_ends(done))

    def save(self, epoch: int, loss: Tensor, is_best: bool) -> str:
        """Write the checkpoints of an epoch; the path of the one to resume from."""
        state = {"epoch": epoch, "loss": loss, "best_loss": self.best_loss}
        if self.seed is not None:
            state["picture_seed"] = self.seed
        return save_epoch(
            self.args.save_dir,
            state,
            self.stateful,
            self.net,
            metadata=self.metadata,
            is_best=is_best,
            steps=len(self.train_loader),
            best_net=self.best_net,
        )


def image_seed(args: argparse.Namespace, processes: Processes) -> int | None:
    """Seed of order, crops and noise by image; ``None`` for the default generators."""
    wanted = processes.launched if args.per_image_seeds is None else args.per_image_seeds
    if not wanted:
        if processes.count > 1:
            raise SystemExit("train: several processes need --per-image-seeds")
        return None
    if args.cuda and not processes.launched and torch.cuda.device_count() > 1:
        raise SystemExit(
            "train: --per-image-seeds on several GPUs needs torchrun --nproc-per-node="
            f"{torch.cuda.device_count()}"
        )
    return processes.same(random.randrange(2**31) if args.seed is None else args.seed)


def main(argv: Sequence[str], program: str | None = None) -> None:
    """Train as the command line says.

    Args:
        argv: command line without the program's name, see :func:`parse_args`.
        program: the name; default: that of the process.

    Raises:
        SystemExit: the command line is wrong, or training cannot begin or go on; says why.
    """
    load_extensions()
    args = parse_args(argv, program)
    with flushed_denormals(), process_group(args.cuda) as processes:
        _run(args, processes)


def _run(args: argparse.Namespace, processes: Processes) -> None:
    if args.seed is not None:
        torch.manual_seed(args.seed)
        random.seed(args.seed)
        np.random.seed(args.seed % 2**32)  # noqa: NPY002 (the global one)
    if args.save and processes.is_first:
        args.save_dir.mkdir(parents=True, exist_ok=True)
    if args.step_in_backward and processes.count > 1:
        raise SystemExit("train: --step-in-backward is for one process")
    run = _Run(args, processes)
    run.reporter.plan(args.epochs - run.first_epoch)
    last_good = args.checkpoint
    for epoch in range(run.first_epoch, args.epochs):
        run.reporter.line(f"Learning rate: {run.optimizer.param_groups[0]['lr']}")
        try:
            loss = run.epoch(epoch)
        except NonFiniteLoss as error:
            run.reporter.record("stopped", reason=str(error), checkpoint=last_good)
            message = f"train: stopped, {error}; last good checkpoint: {last_good or 'none'}"
            raise SystemExit(message if processes.is_first else 1) from error
        run.tell_test(epoch)
        run.scheduler.step(loss)

        is_best = float(loss) < run.best_loss
        run.best_loss = min(float(loss), run.best_loss)
        if args.save and processes.is_first:
            last_good = run.save(epoch, loss, is_best)
    run.reporter.close()
