# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Train ``lite``: one trunk for all qualities at once, which can then be refined per quality.

A trunk is trained with every quality in every batch: behind ``g_a`` and before ``g_s`` each
quality has a gain for every channel (Cui et al. 2021), and each sample has the multiplier of its
quality. ``--export`` folds the gains into the neighbouring convolutions, which makes one plain
:class:`~compressai.models.lite.Lite` a quality::

    python examples/prepare_photos.py work
    python examples/train_lite.py --data work/photos --run work/trunk
    python examples/train_lite.py --data work/photos --run work/q4 --qualities 4 \
        --start work/trunk/state.safetensors --steps 20000 --learning-rate 5e-4
    python examples/train_lite.py --run work/trunk --export work/lite

Run the same command again to continue: the state is written every few minutes and when the
program is told to stop (SIGINT, SIGTERM), and crops and noise of a step depend on nothing but
seed and step. What happened goes to ``log.jsonl`` in the folder of the run.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
import math
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from pytorch_optimizer import SOAP
from torch import Tensor, nn

from compressai._files import atomic_write
from compressai.checkpoint import METADATA_KEY, describe
from compressai.models.lite import Lite
from compressai.training import Reporter
from compressai.zoo.image import training_recipe

MULTIPLIERS = tuple(training_recipe("lite", quality)["lmbda"] for quality in (1, 2, 3, 4))
REFERENCE = 0.014  # geometric mean of the multipliers: the quality whose gains start at 1
QUANTILES_LEARNING_RATE = 1e-3
# Steps between updates of the bases in which SOAP keeps its moments.
PRECONDITION_EVERY = 16
MOMENTS = ("exp_avg", "exp_avg_sq")  # what SOAP keeps of a parameter,
BASES = ("GG", "Q")  # and of each of its axes
STATE = "state.safetensors"


class Trunk(nn.Module):
    """A model with gains per quality.

    Args:
        net: the model that all qualities share.
        precision: of the transforms in training, ``"fp32"`` or ``"bf16"``; only processors that
            have bfloat16 instructions gain by the latter.

    Source: Cui et al. 2021, "Asymmetric gained deep image compression with continuous rate
    adaptation".
    """

    def __init__(self, net: Lite, precision: str = "fp32") -> None:
        super().__init__()
        self.net = net
        self.half = precision == "bf16"
        # Where distortion costs lmbda, the best step of a uniform quantiser goes with its root.
        start = 0.5 * torch.log(torch.tensor(MULTIPLIERS) / REFERENCE)
        self.log_gain = nn.Parameter(start[:, None].repeat(1, net.M))
        self.log_inverse = nn.Parameter(-start[:, None].repeat(1, net.M))

    def forward(self, x: Tensor, quality: Tensor) -> tuple[Tensor, Tensor]:
        """Rate and distortion of each sample.

        Args:
            x: ``(N, 3, H, W)`` in [0, 1].
            quality: int64 ``(N,)``, from 0.

        Returns:
            ``(bits per pixel, mean square error on the scale of 255)``, each ``(N,)``.
        """
        # The entropy path stays in single precision: a bfloat16 mean is off by too much.
        half = torch.autocast(x.device.type, torch.bfloat16, enabled=self.half and self.training)
        with half:
            y = self.net.g_a(x)
        y = y.float() * self.log_gain.exp()[quality][:, :, None, None]
        out = self.net.latent_codec(y)
        y_hat = out["y_hat"] * self.log_inverse.exp()[quality][:, :, None, None]
        with half:
            x_hat = self.net.g_s(y_hat)
        x_hat = x_hat.float() if self.training else x_hat.clamp(0, 1)
        bits = sum(-p.log2().sum((1, 2, 3)) for p in out["likelihoods"].values())
        return bits / x[0, 0].numel(), 255**2 * (x_hat - x).square().mean((1, 2, 3))

    @torch.no_grad()
    def folded(self, quality: int) -> Lite:
        """The plain model of one quality (from 0), in evaluation mode, with tables."""
        net = copy.deepcopy(self.net).eval()
        last, first = net.g_a[-1], net.g_s[0]
        gain = self.log_gain[quality].exp()
        last.weight.mul_(gain[:, None, None, None])
        last.bias.mul_(gain)
        first.weight.mul_(self.log_inverse[quality].exp()[None, :, None, None])
        net.update(force=True)
        return net


class Photos:
    """Crops of the pictures that ``prepare_photos.py`` wrote, none of them decoded.

    Args:
        folder: holds ``pixels.bin`` and ``index.json``.
    """

    def __init__(self, folder: Path) -> None:
        index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        self.sha256 = index["sha256"]
        self.pixels = np.memmap(folder / "pixels.bin", dtype=np.uint8, mode="r")
        self.splits: dict[str, list[Mapping[str, Any]]] = {"train": [], "validation": []}
        for entry in index["pictures"]:
            self.splits[entry["split"]].append(entry)

    def _picture(self, entry: Mapping[str, Any]) -> np.ndarray:
        shape = (entry["height"], entry["width"], 3)
        return self.pixels[entry["offset"] :][: math.prod(shape)].reshape(shape)

    def batch(self, size: int, crop: int, generator: np.random.Generator) -> Tensor:
        """Random crops, flipped and turned at random: uint8 ``(size, 3, crop, crop)``."""
        fitting = [e for e in self.splits["train"] if min(e["height"], e["width"]) >= crop]
        crops = np.empty((size, crop, crop, 3), np.uint8)
        for i in range(size):
            picture = self._picture(fitting[generator.integers(len(fitting))])
            top, left = (generator.integers(side - crop + 1) for side in picture.shape[:2])
            patch = picture[top : top + crop, left : left + crop]
            crops[i] = np.rot90(patch, generator.integers(4))[:, :: generator.choice((-1, 1))]
        return torch.from_numpy(crops).permute(0, 3, 1, 2)

    def validation(self) -> Iterator[Tensor]:
        """Centres of the held-out pictures of middle size, ``(1, 3, H, W)`` in [0, 1]."""
        for entry in self.splits["validation"]:
            if not 500 < max(entry["height"], entry["width"]) < 700:
                continue
            picture = self._picture(entry)
            sides = [side - side % 64 for side in picture.shape[:2]]
            top, left = ((full - side) // 2 for full, side in zip(picture.shape, sides))
            patch = picture[top : top + sides[0], left : left + sides[1]]
            yield torch.from_numpy(patch / np.float32(255)).permute(2, 0, 1)[None]


class Training:
    """Everything that changes from step to step, and how it is kept.

    Args:
        args: the command line.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        torch.manual_seed(args.seed)
        self.step, self.cpu_seconds = 0, 0.0
        self.trunk = Trunk(Lite(**args.model_args), args.precision)
        self.trunk.to(memory_format=torch.channels_last)
        self.parameters = dict(self.trunk.named_parameters())
        self.network = [p for n, p in self.parameters.items() if not n.endswith(".quantiles")]
        self.views = {n: nn.Parameter(_few_axes(p.detach())) for n, p in self.parameters.items()}
        quantiles = [v for name, v in self.views.items() if name.endswith(".quantiles")]
        network = [v for name, v in self.views.items() if not name.endswith(".quantiles")]
        self.optimizer = SOAP(
            [
                {"params": network, "lr": args.learning_rate},
                {"params": quantiles, "lr": QUANTILES_LEARNING_RATE},
            ],
            betas=(0.95, 0.95),
            weight_decay=0.0,
            precondition_frequency=PRECONDITION_EVERY,
        )
        self.average = copy.deepcopy(self.trunk).eval()
        self.file = args.run / STATE
        if self.file.exists():
            self._load(self.file)
        elif args.start is not None:
            self._load(args.start)
            self.trunk.load_state_dict(self.average.state_dict())
            self.optimizer.state.clear()
            for group in self.optimizer.param_groups:
                group["step"] = 0
            self.step, self.cpu_seconds = 0, 0.0

    def save(self, path: Path, *, compact: bool = False) -> None:
        """Write the state; ``compact`` leaves out that of the optimiser and rounds averages."""
        tensors: dict[str, Tensor] = {}
        averages = dict(self.average.named_parameters())
        for name, parameter in self.parameters.items():
            tensors[f"weight.{name}"] = parameter.detach()
            tensors[f"average.{name}"] = (
                averages[name].detach().to(torch.float16 if compact else None)
            )
            state = {} if compact else self.optimizer.state.get(self.views[name], {})
            for key in MOMENTS if state else ():
                tensors[f"{key}.{name}"] = state[key]
            for key in BASES if state else ():
                for axis, matrix in enumerate(state[key]):
                    # An axis that is not preconditioned has an empty list.
                    if isinstance(matrix, Tensor):
                        tensors[f"{key}{axis}.{name}"] = matrix
        metadata = {
            "step": str(self.step),
            "cpu_seconds": str(self.cpu_seconds),
            "optimizer_step": str(self.optimizer.param_groups[0].get("step", 0)),
            # Sums are rounded otherwise in another layout.
            "strides": json.dumps({key: value.stride() for key, value in tensors.items()}),
        }
        tensors = {
            key: value.clone(memory_format=torch.contiguous_format)
            for key, value in tensors.items()
        }
        with atomic_write(path) as unfinished:
            unfinished.write_bytes(safetensors.torch.save(tensors, metadata=metadata))

    @torch.no_grad()
    def _load(self, path: Path) -> None:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata()
        strides = json.loads(metadata.get("strides", "{}"))
        tensors = {}
        for key, value in safetensors.torch.load_file(path).items():
            layout = torch.empty_strided(value.shape, strides.get(key, value.stride()))
            tensors[key] = layout.copy_(value)
        self.step, self.cpu_seconds = int(metadata["step"]), float(metadata["cpu_seconds"])
        averages = dict(self.average.named_parameters())
        for name, parameter in self.parameters.items():
            parameter.copy_(tensors[f"weight.{name}"])
            averages[name].copy_(tensors[f"average.{name}"])
            if f"{MOMENTS[0]}.{name}" in tensors:
                view = self.views[name]
                self.optimizer.state[view] = {
                    **{k: tensors[f"{k}.{name}"] for k in MOMENTS},
                    **{
                        k: [tensors.get(f"{k}{axis}.{name}", []) for axis in range(view.dim())]
                        for k in BASES
                    },
                    "precondition_frequency": PRECONDITION_EVERY,
                    "shampoo_beta": self.optimizer.param_groups[0]["betas"][1],
                }
        for group in self.optimizer.param_groups:
            group["step"] = int(metadata.get("optimizer_step", 0))

    def update(self, photos: Photos, args: argparse.Namespace) -> dict[str, float]:
        """Take one step.

        Raises:
            FloatingPointError: the gradient is NaN or infinite; the step is not taken.
        """
        generator = np.random.default_rng((args.seed, self.step))
        torch.manual_seed(int(generator.integers(2**62)))
        x = photos.batch(args.batch_size, args.crop, generator)
        x = (x.float() / 255).contiguous(memory_format=torch.channels_last)
        quality = torch.tensor(args.qualities).repeat(args.batch_size)[: args.batch_size] - 1
        multiplier = torch.tensor(MULTIPLIERS)[quality]
        self.optimizer.param_groups[0]["lr"] = learning_rate(self.step, args)
        self.trunk.zero_grad()
        bpp, mse = self.trunk.train()(x, quality)
        # Without the root the highest quality would have all the say.
        loss = ((bpp + multiplier * mse) * (REFERENCE / multiplier).sqrt()).mean()
        (loss + self.trunk.net.aux_loss()).backward()
        norm = nn.utils.clip_grad_norm_(self.network, args.clip, error_if_nonfinite=False)
        if not torch.isfinite(norm):
            raise FloatingPointError(f"norm of the gradient is {float(norm)} in step {self.step}")
        for name, parameter in self.parameters.items():
            self.views[name].grad = _few_axes(parameter.grad)
        self.optimizer.step()
        self.step += 1
        weight = 1 - min(args.average, (1 + self.step) / (10 + self.step))
        averages, parameters = list(self.average.parameters()), list(self.trunk.parameters())
        with torch.no_grad():
            torch._foreach_lerp_(averages, parameters, weight)
        return {"loss": float(loss.detach()), "gradient": float(norm)}

    @torch.no_grad()
    def validate(self, photos: Photos, qualities: Sequence[int]) -> dict[str, Any]:
        """Rate, PSNR and loss of the averaged weights on the held-out photographs."""
        result: dict[str, Any] = {"loss": 0.0}
        pictures = list(photos.validation())
        for q in qualities:
            pairs = [self.average.eval()(x, torch.tensor([q - 1])) for x in pictures]
            bpp = sum(float(b) for b, _ in pairs) / len(pairs)
            mse = sum(float(m) for _, m in pairs) / len(pairs)
            psnr = sum(10 * math.log10(255**2 / float(m)) for _, m in pairs) / len(pairs)
            lmbda = MULTIPLIERS[q - 1]
            result["loss"] += (bpp + lmbda * mse) * (REFERENCE / lmbda) ** 0.5 / len(qualities)
            result[f"q{q}"] = {"bpp": round(bpp, 5), "psnr": round(psnr, 4)}
        return result


def _few_axes(values: Tensor) -> Tensor:
    """Kernels of convolutions as one axis, or none if they are of one pixel; shares memory.

    SOAP keeps a basis for each axis; those of the sides of a kernel are not worth their time.
    """
    return values.flatten(2).squeeze(2) if values.dim() == 4 else values


def learning_rate(step: int, args: argparse.Namespace) -> float:
    """Linear warm-up, constant, and a linear cool-down to zero over the last steps.

    A run can be cooled down from any step of its constant part, and go on from there later.
    """
    left = max(args.steps - step, 0)
    return args.learning_rate * min(1.0, (step + 1) / args.warm_up, left / args.cool_down)


def train(training: Training, args: argparse.Namespace) -> None:
    """Go on until all steps are done, the time is over, or a signal says to stop."""
    photos = Photos(args.data)
    reporter = Reporter(args.run / "log.jsonl")
    stop: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: stop.append(number))
    arguments = {key: value for key, value in vars(args).items() if not isinstance(value, Path)}
    reporter.record("start", step=training.step, photos=photos.sha256, arguments=arguments)

    began, saved = time.monotonic(), time.monotonic()
    used = time.process_time() - training.cpu_seconds
    sums: dict[str, float] = {}
    while training.step < min(args.steps, args.until) and not stop:
        if time.monotonic() - began > 60 * args.minutes:
            break
        values = training.update(photos, args)
        training.cpu_seconds = time.process_time() - used
        sums = {key: sums.get(key, 0.0) + value for key, value in values.items()}
        record = {"step": training.step, "cpu_seconds": round(training.cpu_seconds, 1)}
        if training.step % args.log_every == 0:
            means = {key: round(value / args.log_every, 5) for key, value in sums.items()}
            reporter.record("train", **record, **means)
            sums = {}
        if training.step % args.validate_every == 0:
            result = training.validate(photos, args.qualities)
            reporter.record("validation", **record, **result)
            reporter.line(f"{training.step}: {result}")
        if time.monotonic() - saved > 60 * args.save_minutes:
            training.save(training.file)
            saved = time.monotonic()
    training.save(training.file)
    reporter.record("stop", step=training.step, cpu_seconds=round(training.cpu_seconds, 1))


def export(training: Training, args: argparse.Namespace) -> None:
    """Write one self-describing model a quality, made of the averaged weights.

    Weights are stored in half precision. Of the tables, only those of the bottleneck are stored:
    the others come out the same on every machine. Names are those of
    :mod:`compressai.zoo.weights`.
    """
    args.export.mkdir(parents=True, exist_ok=True)
    for q in args.qualities:
        net = training.average.folded(q - 1)
        for parameter in net.parameters():
            parameter.data = parameter.data.half().float()
        net.update(force=True)
        metadata = describe(
            net,
            architecture="compressai.models.lite.Lite",
            arguments=args.model_args,
            lmbda=MULTIPLIERS[q - 1],
            metric="mse",
            extra={"quality": q, "step": training.step},
        )
        parameters = dict(net.named_parameters())
        content = safetensors.torch.save(
            {
                name: (value.half() if name in parameters else value).contiguous()
                for name, value in net.state_dict().items()
                if ".gaussian_conditional." not in name or value.numel() == 1
            },
            metadata={METADATA_KEY: json.dumps(metadata)},
        )
        digest = hashlib.sha256(content).hexdigest()[:8]
        with atomic_write(args.export / f"lite-mse-{q}-{digest}.safetensors") as unfinished:
            unfinished.write_bytes(content)


def parse_args(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description="Train lite.", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--run", type=Path, required=True, help="folder of state and log")
    add("--data", type=Path, help="folder that prepare_photos.py wrote")
    add("--start", type=Path, help="state whose averaged weights a new run starts from")
    add("--export", type=Path, help="write the models of a run to this folder, and do no more")
    add("--compact", type=Path, help="write the state in 16 bits to this file, and do no more")
    add("--qualities", type=int, nargs="+", default=[1, 2, 3, 4], choices=[1, 2, 3, 4])
    add("--model-args", type=json.loads, default={}, help="arguments of the model, as JSON")
    add("--steps", type=int, default=400_000, help="length of the schedule")
    add("--until", type=int, default=sys.maxsize, help="step of the schedule to stop at")
    add("--cool-down", type=int, default=20_000, help="last steps, of falling learning rate")
    add("--precision", choices=["fp32", "bf16"], default="fp32")
    add("--batch-size", type=int, default=8)
    add("--crop", type=int, default=128, help="a multiple of 64")
    add("--learning-rate", type=float, default=1e-3)
    add("--warm-up", type=int, default=500, help="steps of rising learning rate")
    add("--clip", type=float, default=1.0, help="largest norm of the gradient")
    add("--average", type=float, default=0.999, help="decay of the averaged weights")
    add("--seed", type=int, default=1)
    add("--threads", type=int, default=2)
    add("--minutes", type=float, default=math.inf, help="stop after that time")
    add("--save-minutes", type=float, default=4)
    add("--log-every", type=int, default=100)
    add("--validate-every", type=int, default=2000)
    args = parser.parse_args(argv)
    if args.data is None and args.export is None and args.compact is None:
        parser.error("--data is needed to train")
    if args.crop % 64:
        parser.error(f"--crop must be a multiple of 64, got {args.crop}")
    return args


def main(argv: Sequence[str]) -> None:
    """Do what the command line says."""
    args = parse_args(argv)
    torch.set_num_threads(args.threads)
    args.run.mkdir(parents=True, exist_ok=True)
    training = Training(args)
    if args.export is not None:
        export(training, args)
    elif args.compact is not None:
        training.save(args.compact, compact=True)
    else:
        train(training, args)


if __name__ == "__main__":
    main(sys.argv[1:])
