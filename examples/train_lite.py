# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Train ``lite``: one network for every rate, on a processor or on a GPU.

Each batch has samples of all rates: their qualities are spread over the whole scale, and each
sample has the multiplier of its quality::

    python examples/prepare_photos.py work
    python examples/train_lite.py --data work/photos.zip --run work/run --minutes 60
    python examples/train_lite.py --run work/run --export work/lite.safetensors

Run the same command again to continue. The state is written every few minutes, and when the
program stops: at the end of its time or its steps, or when it is told to (SIGINT, SIGTERM). Crops
and noise of a step depend on nothing but seed and step, and what is written is what the run itself
goes on with, so that a run that was interrupted gives the same weights as one that was not, on the
same machine. What happened goes to ``log.jsonl`` in the folder of the run.

The learning rate falls with the root of the number of steps, so that a run can go on for as long as
there is time, and to zero over the last ``--cool-down`` steps: say ``--steps`` when the end is
known.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import copy
import io
import json
import math
import signal
import sys
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from PIL import Image
from torch import Tensor, nn

from compressai._files import atomic_write
from compressai.checkpoint import METADATA_KEY, describe
from compressai.inference import PRECISIONS, choose_precision
from compressai.models.lite import Lite, lagrangian
from compressai.training import Reporter, flushed_denormals

STATE = "state.safetensors"
# The geometric mean of the multipliers: the quality whose loss has the weight 1.
REFERENCE = lagrangian(50)
VALIDATED = (0, 20, 40, 60, 80, 100)
STEP = 2**0.5  # between the sizes of a photograph
SMALLEST_SIDE = 256
MOMENTUM = 0.95
ADAM_BETAS = (0.9, 0.99)
# Coefficients of the iteration that makes a matrix orthogonal, and how often it is done.
NEWTON_SCHULZ, NEWTON_SCHULZ_STEPS = (3.4445, -4.7750, 2.0315), 5
# Kernels are made orthogonal in blocks of so many rows, and whole only now and then: the two widest
# would take a third of the time of a step.
BLOCK, WHOLE_EVERY = 144, 5
AHEAD = 3  # batches that are made in the background


class Photos:
    """Crops of the photographs in a file that ``prepare_photos.py`` wrote, all in memory.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        import pillow_jxl  # noqa: F401 (tells Pillow about the format)

        self.splits: dict[str, list[np.ndarray]] = {"train": [], "validation": []}
        with zipfile.ZipFile(path) as file:
            for name in file.namelist():
                with Image.open(io.BytesIO(file.read(name))) as image:
                    image = image.convert("RGB")
                split = name.partition("/")[0]
                for version in _smaller(image) if split == "train" else (image,):
                    self.splits[split].append(np.asarray(version))
        areas = np.array([p.shape[0] * p.shape[1] for p in self.splits["train"]], np.float64)
        self.bounds = np.cumsum(np.sqrt(areas) / np.sqrt(areas).sum())

    def batch(self, size: int, crop: int, generator: np.random.Generator) -> Tensor:
        """Random crops, flipped, turned, scaled and darkened at random.

        Returns:
            uint8 ``(size, 3, crop, crop)``.
        """
        crops = np.empty((size, crop, crop, 3), np.uint8)
        for i in range(size):
            crops[i] = self._crop(crop, generator)
        return torch.from_numpy(crops).permute(0, 3, 1, 2)

    def _crop(self, crop: int, generator: np.random.Generator) -> np.ndarray:
        while True:
            place = int(np.searchsorted(self.bounds, generator.random()))
            image = self.splits["train"][min(place, len(self.bounds) - 1)]
            if min(image.shape[:2]) >= crop:
                break
        side = crop
        if generator.random() < 0.5:
            side = min(round(crop * generator.uniform(1, STEP)), *image.shape[:2])
        top, left = (generator.integers(full - side + 1) for full in image.shape[:2])
        patch = image[top : top + side, left : left + side]
        if side != crop:
            patch = np.asarray(
                Image.fromarray(patch).resize((crop, crop), Image.Resampling.LANCZOS)
            )
        if generator.random() < 0.25:
            brightness, contrast = generator.uniform(0.6, 1.1), generator.uniform(0.7, 1.1)
            mean = patch.mean() * brightness
            values = (patch * np.float32(brightness) - mean) * np.float32(contrast) + mean
            patch = np.clip(np.rint(values), 0, 255).astype(np.uint8)
        return np.rot90(patch, generator.integers(4))[:, :: generator.choice((-1, 1))]

    def validation(self) -> Iterator[Tensor]:
        """Centres of the held-out images at middle size, ``(1, 3, H, W)`` in [0, 1]."""
        for pixels in self.splits["validation"]:
            image = Image.fromarray(pixels)
            image.thumbnail((640, 640), Image.Resampling.LANCZOS)
            patch = np.asarray(image)
            height, width = (side - side % 64 for side in patch.shape[:2])
            top, left = (patch.shape[0] - height) // 2, (patch.shape[1] - width) // 2
            patch = patch[top : top + height, left : left + width]
            yield torch.from_numpy(patch / np.float32(255)).permute(2, 0, 1)[None]


def _smaller(image: Image.Image) -> Iterator[Image.Image]:
    """An image and smaller versions of it, at least ``SMALLEST_SIDE`` high and wide."""
    factor = 1.0
    while factor == 1 or factor * min(image.size) >= SMALLEST_SIDE:
        size = tuple(round(length * factor) for length in image.size)
        yield image.resize(size, Image.Resampling.LANCZOS) if factor < 1 else image
        factor /= STEP


def orthogonal(matrix: Tensor) -> Tensor:
    """The nearly orthogonal matrix that is nearest to a matrix ``(m, n)``.

    Source: Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks".
    """
    a, b, c = NEWTON_SCHULZ
    wide = matrix.size(0) <= matrix.size(1)
    x = matrix if wide else matrix.mT
    x = x / (x.norm() + 1e-12)
    # All factors are polynomials of one small matrix, and x is multiplied once, by their product.
    # In single precision: eigenvalues that rounding makes negative would grow beyond all bounds.
    gram = x.float() @ x.float().mT
    product = identity = torch.eye(len(gram), device=gram.device)
    for _ in range(NEWTON_SCHULZ_STEPS):
        factor = torch.addmm(torch.add(a * identity, gram, alpha=b), gram, gram, alpha=c)
        product = factor @ product
        gram = factor @ (factor @ gram)
    x = product.to(x.dtype) @ x
    return x if wide else x.mT


class Optimizer:
    """Muon for the kernels of convolutions, Adam for all else.

    The state is one tensor a kernel and two for each of the few other parameters, which is what
    lets it be kept beside the weights in 16 megabytes.

    Args:
        parameters: by name.
        dtype: of the products of matrices.

    Source: Jordan et al. 2024 as above; size of the steps, Liu et al. 2025, "Muon is scalable for
    LLM training", eq. 4; blocks, Khaled et al. 2025, "MuonBP: faster Muon via block-periodic
    orthogonalization". Kingma and Ba 2015, "Adam".
    """

    def __init__(
        self, parameters: dict[str, nn.Parameter], dtype: torch.dtype = torch.float32
    ) -> None:
        self.parameters, self.dtype = parameters, dtype
        self.state: dict[str, dict[str, Tensor]] = {}
        for name, p in parameters.items():
            keys = ("momentum",) if _is_kernel(p) else ("mean", "square")
            self.state[name] = {key: torch.zeros_like(p) for key in keys}

    @torch.no_grad()
    def step(self, number: int, rate: float) -> None:
        """Take a step.

        Args:
            number: of the step, from 0.
            rate: learning rate.
        """
        for name, p in self.parameters.items():
            state = self.state[name]
            if _is_kernel(p):
                momentum = state["momentum"].lerp_(p.grad, 1 - MOMENTUM)
                # Rows in the order of channels-last memory, so that nothing is copied.
                matrix = p.grad.lerp(momentum, MOMENTUM).permute(0, 2, 3, 1)
                rows = len(matrix) if number % WHOLE_EVERY == 0 else BLOCK
                blocks = matrix.flatten(1).to(self.dtype).split(rows)
                update = torch.cat([orthogonal(b) * math.sqrt(max(b.shape)) for b in blocks])
                p.add_(update.view(matrix.shape).permute(0, 3, 1, 2), alpha=-0.2 * rate)
            else:
                mean = state["mean"].lerp_(p.grad, 1 - ADAM_BETAS[0])
                square = state["square"].lerp_(p.grad.square(), 1 - ADAM_BETAS[1])
                first, second = (1 - beta ** (number + 1) for beta in ADAM_BETAS)
                p.addcdiv_(mean, (square / second).sqrt_().add_(1e-10), value=-rate / first)


def _is_kernel(parameter: Tensor) -> bool:
    return parameter.dim() == 4


class Training:
    """Everything that changes from step to step, and how it is kept.

    Args:
        args: the command line.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        torch.manual_seed(args.seed)
        self.device = torch.device(args.device)
        self.half = choose_precision(args.precision, self.device) == torch.bfloat16
        self.step, self.cpu_seconds = 0, 0.0
        self.net = Lite(**args.model_args)
        self.net.to(self.device, memory_format=torch.channels_last)
        self.average = copy.deepcopy(self.net).eval()
        self.parameters = dict(self.net.named_parameters())
        self.network = [p for n, p in self.parameters.items() if not n.endswith(".quantiles")]
        self.optimizer = Optimizer(self.parameters, torch.bfloat16 if self.half else torch.float32)
        self.file = args.run / STATE
        start = self.file if self.file.exists() else args.start
        if start is not None:
            self._load(start)

    @torch.no_grad()
    def save(self, path: Path) -> None:
        """Write the state, and round what this run goes on with to what was written."""
        tensors = {}
        for kind, name, value in self._tensors():
            stored = value.to(_stored_type(kind))
            value.copy_(stored)
            # Files have one layout only; the values of kernels are kept in another in memory.
            tensors[f"{kind}.{name}"] = stored.cpu().contiguous()
        metadata = {"step": str(self.step), "cpu_seconds": str(self.cpu_seconds)}
        with atomic_write(path) as unfinished:
            unfinished.write_bytes(safetensors.torch.save(tensors, metadata=metadata))

    @torch.no_grad()
    def _load(self, path: Path) -> None:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata()
            for kind, name, value in self._tensors():
                value.copy_(file.get_tensor(f"{kind}.{name}"))
        self.step, self.cpu_seconds = int(metadata["step"]), float(metadata["cpu_seconds"])

    def _tensors(self) -> Iterator[tuple[str, str, Tensor]]:
        """All that is kept: kind, name of the parameter, and the values themselves."""
        averages = dict(self.average.named_parameters())
        for name, parameter in self.parameters.items():
            yield "weight", name, parameter
            yield "average", name, averages[name]
            for kind, value in self.optimizer.state[name].items():
                yield kind, name, value

    def update(self, x: Tensor, args: argparse.Namespace) -> dict[str, float]:
        """Take one step.

        Args:
            x: a batch of images, uint8 ``(N, 3, H, W)``.
            args: the command line.

        Raises:
            FloatingPointError: the gradient is NaN or infinite; the step is not taken.
        """
        generator = np.random.default_rng((args.seed, self.step, 1))
        torch.manual_seed(int(generator.integers(2**62)))
        x = (x.to(self.device).float() / 255).contiguous(memory_format=torch.channels_last)
        # One sample from each of so many equal parts of the scale.
        shares = (generator.permutation(len(x)) + generator.random(len(x))) / len(x)
        quality = torch.from_numpy(100 * shares).float()
        multiplier = torch.tensor([lagrangian(q) for q in quality.tolist()], device=self.device)
        self.net.zero_grad()
        bpp, mse = self.rate_and_distortion(self.net.train(), x, quality)
        # Without the root the highest qualities would have all the say.
        loss = ((bpp + multiplier * mse) * (REFERENCE / multiplier).sqrt()).mean()
        (loss + self.net.aux_loss()).backward()
        norm = nn.utils.clip_grad_norm_(self.network, args.clip, error_if_nonfinite=False)
        if not torch.isfinite(norm):
            raise FloatingPointError(f"norm of the gradient is {float(norm)} in step {self.step}")
        self.optimizer.step(self.step, learning_rate(self.step, args))
        self.step += 1
        weight = 1 - min(args.average, (1 + self.step) / (10 + self.step))
        averages = list(self.average.parameters())
        with torch.no_grad():
            torch._foreach_lerp_(averages, list(self.net.parameters()), weight)
        return {"loss": float(loss.detach()), "gradient": float(norm)}

    def rate_and_distortion(self, net: Lite, x: Tensor, quality: Tensor) -> tuple[Tensor, Tensor]:
        """``(bits per pixel, mean square error on the scale of 255)`` of each sample."""
        # The entropy path stays in single precision: a bfloat16 mean is off by too much.
        half = torch.autocast(self.device.type, torch.bfloat16, enabled=self.half and net.training)
        with half:
            y = net.g_a(x)
        out = net.latent_codec(y.float(), **net.encoder_gains(quality))
        with half:
            x_hat = net.g_s(out["y_hat"])
        x_hat = x_hat.float() if net.training else x_hat.clamp(0, 1)
        bits = sum(-p.log2().sum((1, 2, 3)) for p in out["likelihoods"].values())
        return bits / x[0, 0].numel(), 255**2 * (x_hat - x).square().mean((1, 2, 3))

    @torch.no_grad()
    def validate(self, photos: Photos) -> dict[str, Any]:
        """Rate, PSNR and loss of the averaged weights on the held-out photographs."""
        result: dict[str, Any] = {"loss": 0.0}
        images = [x.to(self.device) for x in photos.validation()]
        for q in VALIDATED:
            quality = torch.tensor([float(q)])
            pairs = [self.rate_and_distortion(self.average, x, quality) for x in images]
            bpp = sum(float(b) for b, _ in pairs) / len(pairs)
            mse = sum(float(m) for _, m in pairs) / len(pairs)
            psnr = sum(10 * math.log10(255**2 / float(m)) for _, m in pairs) / len(pairs)
            lmbda = lagrangian(q)
            result["loss"] += (bpp + lmbda * mse) * (REFERENCE / lmbda) ** 0.5 / len(VALIDATED)
            result[f"q{q}"] = {"bpp": round(bpp, 5), "psnr": round(psnr, 4)}
        return result


def _stored_type(kind: str) -> torch.dtype:
    return {"average": torch.float16, "momentum": torch.bfloat16}.get(kind, torch.float32)


def learning_rate(step: int, args: argparse.Namespace) -> float:
    """Linear warm-up, a fall with the root of the steps, and a linear cool-down over the last."""
    left = max(args.steps - step, 0)
    rate = args.learning_rate / math.sqrt(1 + step / args.slow_down)
    return rate * min(1.0, (step + 1) / args.warm_up, left / args.cool_down)


def batches(photos: Photos, start: int, args: argparse.Namespace) -> Iterator[Tensor]:
    """Batches from a step on, made a few steps ahead of their use.

    Each step draws one of the sizes of crops, with the number of samples that goes with it.
    """

    def make(step: int) -> Tensor:
        generator = np.random.default_rng((args.seed, step))
        share, place = generator.random() * sum(args.crop_weights), 0
        while share > args.crop_weights[place]:
            share -= args.crop_weights[place]
            place += 1
        return photos.batch(args.batch_sizes[place], args.crops[place], generator)

    with concurrent.futures.ThreadPoolExecutor(args.loaders) as pool:
        ahead = AHEAD * args.loaders
        waiting = [pool.submit(make, start + i) for i in range(ahead)]
        step = start
        try:
            while True:
                yield waiting.pop(0).result()
                waiting.append(pool.submit(make, step + ahead))
                step += 1
        finally:
            for future in waiting:
                future.cancel()


def train(
    training: Training, args: argparse.Namespace, now: Callable[[], float] = time.monotonic
) -> None:
    """Go on until all steps are done, the time is over, or a signal says to stop."""
    photos = Photos(args.data)
    reporter = Reporter(args.run / "log.jsonl")
    stop: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: stop.append(number))
    arguments = {key: value for key, value in vars(args).items() if not isinstance(value, Path)}
    reporter.record("start", step=training.step, arguments=arguments)

    began, saved = now(), now()
    used = time.process_time() - training.cpu_seconds
    sums: dict[str, float] = {}
    samples = batches(photos, training.step, args)
    while training.step < args.steps and not stop and now() - began < 60 * args.minutes:
        values = training.update(next(samples), args)
        training.cpu_seconds = time.process_time() - used
        if training.cpu_seconds > 60 * args.cpu_minutes:
            break
        sums = {key: sums.get(key, 0.0) + value for key, value in values.items()}
        record = {"step": training.step, "cpu_seconds": round(training.cpu_seconds, 1)}
        if training.step % args.log_every == 0:
            means = {key: round(value / args.log_every, 5) for key, value in sums.items()}
            reporter.record("train", **record, **means)
            sums = {}
        if training.step % args.validate_every == 0:
            result = training.validate(photos)
            reporter.record("validation", **record, **result)
            reporter.line(f"{training.step}: {result}")
        if now() - saved > 60 * args.save_minutes:
            training.save(training.file)
            saved = now()
    samples.close()
    training.save(training.file)
    reporter.record("stop", step=training.step, cpu_seconds=round(training.cpu_seconds, 1))


def export(training: Training, args: argparse.Namespace) -> None:
    """Write a self-describing model of the averaged weights, in half precision.

    Of the tables, only those of the bottleneck are stored: the others come out the same on every
    machine.
    """
    net = copy.deepcopy(training.average).cpu().to(memory_format=torch.contiguous_format)
    for parameter in net.parameters():
        parameter.data = parameter.data.half().float()
    net.update(force=True)
    metadata = describe(
        net,
        architecture="lite",
        arguments=args.model_args,
        lmbda=list(net.lmbda),
        metric="mse",
        extra={"step": training.step},
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
    with atomic_write(args.export) as unfinished:
        unfinished.write_bytes(content)


def parse_args(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description="Train lite.", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--run", type=Path, required=True, help="folder of state and log")
    add("--data", type=Path, help="file that prepare_photos.py wrote")
    add("--start", type=Path, help="state that a run without one begins with")
    add("--export", type=Path, help="write the model of a run to this file, and do no more")
    add("--model-args", type=json.loads, default={}, help="arguments of the model, as JSON")
    add("--device", default="cpu", help="cpu, or cuda")
    add("--precision", choices=PRECISIONS, default="auto", help="of transforms and Muon")
    add("--steps", type=int, default=2_000_000, help="length of the schedule")
    add("--cool-down", type=int, default=60_000, help="last steps, of falling learning rate")
    add("--crops", type=int, nargs="+", default=[128, 192, 256], help="multiples of 64")
    add("--batch-sizes", type=int, nargs="+", default=[8, 4, 2], help="one for each size of crops")
    add("--crop-weights", type=float, nargs="+", default=[6, 2, 2], help="how often each is drawn")
    add("--learning-rate", type=float, default=1.2e-3)
    add("--warm-up", type=int, default=60, help="steps of rising learning rate")
    add("--slow-down", type=float, default=3000, help="steps that halve its square, early on")
    add("--clip", type=float, default=2.0, help="largest norm of the gradient")
    add("--average", type=float, default=0.9995, help="decay of the averaged weights")
    add("--seed", type=int, default=1)
    add("--threads", type=int, default=1)
    add("--loaders", type=int, default=1, help="threads that make batches")
    add("--minutes", type=float, default=math.inf, help="stop after that time")
    add("--cpu-minutes", type=float, default=math.inf, help="stop after that processor time in all")
    add("--save-minutes", type=float, default=4)
    add("--log-every", type=int, default=100)
    add("--validate-every", type=int, default=2000)
    args = parser.parse_args(argv)
    if args.data is None and args.export is None:
        parser.error("--data is needed to train")
    if not len(args.crops) == len(args.batch_sizes) == len(args.crop_weights):
        parser.error("--crops, --batch-sizes and --crop-weights must be of one length")
    if any(crop % 64 for crop in args.crops):
        parser.error(f"--crops must be multiples of 64, got {args.crops}")
    return args


def main(argv: Sequence[str]) -> None:
    """Do what the command line says."""
    args = parse_args(argv)
    torch.set_num_threads(args.threads)
    args.run.mkdir(parents=True, exist_ok=True)
    training = Training(args)
    if args.export is not None:
        export(training, args)
    else:
        with flushed_denormals():
            train(training, args)


if __name__ == "__main__":
    main(sys.argv[1:])
