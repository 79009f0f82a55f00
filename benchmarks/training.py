# SPDX-License-Identifier: BSD-3-Clause-Clear
"""What two steps of training at full size take: memory and time, and whether gradients are sound.

Each model is built as in the zoo, in a process of its own, and trained for two steps on crops of a
photo as ``compressai train`` does, one image a step. Prints the highest memory of the process,
seconds of a step, and the parameters that have no finite gradient in a step (there should be none).

    python benchmarks/training.py MODEL ... [--quality 1] [--size 256 256] [--threads 1]
    python benchmarks/training.py hpcm-1b --optimizer adafactor --step-in-backward
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from _report import PHOTO, machine
from torch import Tensor, nn

from compressai.bitstream import read_image
from compressai.registry import ENTRIES
from compressai.training.in_backward import steps_in_backward
from compressai.training.options import parse_args
from compressai.training.regularizers import add_regularizers
from compressai.training.run import build_criterion, build_model, configure_optimizers

_SHIFT = 32


def measure(
    model: str, quality: int, size: tuple[int, int], threads: int, options: list[str]
) -> dict[str, Any]:
    """Figures of one model; with options of ``compressai train``."""
    torch.manual_seed(0)
    torch.set_num_threads(threads)
    args = parse_args(["-d", ".", "-m", model, "--quality", str(quality), *options])
    net, _ = build_model(args)
    net.train()
    criterion = build_criterion(net, args)
    optimizer, aux_optimizer = configure_optimizers(net, args)
    photo = read_image(PHOTO).pixels[None]
    losses, unsound, start = [], set(), time.perf_counter()
    for step in range(2):
        height, width = size
        x = photo[..., :height, step * _SHIFT : step * _SHIFT + width].contiguous()
        optimizer.zero_grad()
        aux_optimizer.zero_grad()
        out = net(x)
        loss = add_regularizers(criterion(out, x), out, net)["loss"]
        found = observed(net, unsound) if args.step_in_backward else nullcontext()
        with found, steps_in_backward(optimizer) if args.step_in_backward else nullcontext():
            loss.backward()
        aux_loss = torch.as_tensor(net.aux_loss())
        if aux_loss.requires_grad:
            aux_loss.backward()
        if not args.step_in_backward:
            unsound |= set(without_gradient(net))
            optimizer.step()
        aux_optimizer.step()
        losses.append(loss.item())
    return {
        "model": model,
        "quality": args.quality,
        "size": list(x.shape[2:]),
        "parameters": sum(p.numel() for p in net.parameters()),
        "losses": losses,
        "without_finite_gradient": sorted(unsound),
        "seconds_per_step": (time.perf_counter() - start) / 2,
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
    }


@contextmanager
def observed(net: nn.Module, unsound: set[str]) -> Iterator[None]:
    """Add the parameters that get no finite gradient, before they are moved by it."""
    names = {parameter: name for name, parameter in net.named_parameters()}
    # Of the auxiliary loss, which comes later.
    missing = {name for name in names.values() if not name.endswith("quantiles")}

    def look(parameter: Tensor) -> None:
        if parameter.grad is not None and bool(parameter.grad.isfinite().all()):
            missing.discard(names[parameter])

    with ExitStack() as hooks:
        for parameter in names:
            hooks.callback(parameter.register_post_accumulate_grad_hook(look).remove)
        yield
    unsound |= missing


def without_gradient(net: nn.Module) -> list[str]:
    """Names of parameters whose gradient is missing or not finite."""
    return [
        name
        for name, parameter in net.named_parameters()
        if parameter.grad is None or not bool(parameter.grad.isfinite().all())
    ]


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="+", choices=sorted(ENTRIES), metavar="MODEL")
    parser.add_argument("--quality", type=int, default=1, help="or the nearest that there is")
    parser.add_argument("--size", nargs=2, type=int, default=(256, 256), metavar=("H", "W"))
    parser.add_argument("--threads", type=int, default=1)
    args, options = parser.parse_known_args(argv)  # the others are those of training
    command = " ".join(["python", *sys.argv])
    print(json.dumps({"benchmark": "training", "command": command, **machine()}), flush=True)
    context = multiprocessing.get_context("spawn")
    for model in args.models:
        low, high = ENTRIES[model].qualities
        quality = max(low, min(args.quality, high))
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            task = pool.submit(measure, model, quality, tuple(args.size), args.threads, options)
            print(json.dumps(task.result()), flush=True)


if __name__ == "__main__":
    main()
