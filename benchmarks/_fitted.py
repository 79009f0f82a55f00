# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Entropy models without published weights, trained for minutes on the latent of ``lite``.

TCM and ELIC have no weights that may be shipped, and with random ones neither their rate nor the
way deviations travel through their networks would mean anything. What synchrony is about is the
entropy path, so only that is trained: the hyperprior, contexts and residual prediction of the
model, in the widths of its paper, code the latent that the shipped ``lite`` makes of an image, in
steps of its quantiser and without its details, and the synthesis of ``lite`` shows it. Statistics
of the latent and PSNR are those of a trained codec, the rate is somewhat above it; the transforms
are not the model's own, and far cheaper than those, so that ratios of times are higher than with
them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from compressai.latent_codecs import CheckerboardLatentCodec, LRPGaussianLatentCodec
from compressai.models import Elic2022Official, Lite
from compressai.models.tcm import TCM
from compressai.zoo import lite

__all__ = ["FITTED", "fitted"]

_QUALITY = 2
_CHANNELS = 288
FITTED = {
    "tcm": lambda: TCM(N=64, M=_CHANNELS, num_slices=4, max_support_slices=4),
    "elic2022-official": lambda: Elic2022Official(M=_CHANNELS, groups=[16, 16, 32, 64, 160]),
}


class _Analysis(nn.Module):
    def __init__(self, net: Lite) -> None:
        super().__init__()
        self.g_a = net.g_a
        self.gain: Tensor
        self.register_buffer("gain", net.y_gain.exact(torch.tensor([net.default_quality])))

    def forward(self, x: Tensor) -> Tensor:
        return (self.g_a(x) * self.gain)[:, :_CHANNELS]


class _Synthesis(nn.Module):
    def __init__(self, net: Lite) -> None:
        super().__init__()
        self.g_s, self.rest = net.g_s, net.M - _CHANNELS
        self.gain: Tensor
        self.register_buffer("gain", net.y_gain_inv.exact(torch.tensor([net.default_quality])))

    def forward(self, y: Tensor) -> Tensor:
        return self.g_s(F.pad(y, (0, 0, 0, 0, 0, self.rest)) * self.gain)


_LAYERS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
_CROP, _BATCH = 8, 4  # positions of the latent along a side, crops a step
_LEARNING_RATE = 5e-4


def fitted(name: str, images: Sequence[Tensor], minutes: float, checkpoint: Path) -> nn.Module:
    """A model with the transforms of ``lite``, trained unless there is a checkpoint.

    Args:
        name: a key of :data:`FITTED`.
        images: ``(1, 3, H, W)``, sides of at least 128 and multiples of 64; to train on.
        minutes: of the processor, one thread, that training takes.
        checkpoint: the weights of the entropy path are read from it, or written to it.
    """
    torch.manual_seed(0)
    net = FITTED[name]()
    teacher = lite(_QUALITY, pretrained=True)
    net.g_a, net.g_s = _Analysis(teacher), _Synthesis(teacher)
    if checkpoint.exists():
        net.latent_codec.load_state_dict(load_file(checkpoint))
    else:
        with torch.no_grad():
            latents = [net.g_a(x) for x in images]
        _scale(net.eval(), latents[0])
        _train(net.latent_codec.train(), latents, minutes)
        net.eval().update(force=True, solve_quantiles=True)
        checkpoint.parent.mkdir(parents=True, exist_ok=True)
        weights = {k: v.contiguous() for k, v in net.latent_codec.state_dict().items()}
        save_file(weights, checkpoint)
    net.eval().update()
    return net


def _train(codec: nn.Module, latents: list[Tensor], minutes: float) -> None:
    """Rate, and the error of ``y_hat`` for the residual prediction, on crops of the latents."""
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(codec.parameters(), lr=_LEARNING_RATE)
    start, used, step = time.process_time(), 0.0, 0
    while used < 1:
        for group in optimizer.param_groups:
            group["lr"] = _LEARNING_RATE * max(0.02, math.cos(used * math.pi / 2))
        y = torch.cat([_crop(latents, generator) for _ in range(_BATCH)])
        out = codec(y)
        bits = sum(-p.log2().sum() for p in out["likelihoods"].values()) / y.numel()
        loss = bits + (out["y_hat"] - y).square().mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(codec.parameters(), 1.0)
        optimizer.step()
        step += 1
        used = (time.process_time() - start) / (60 * minutes)
        if step % 50 == 0 or used >= 1:
            print(f"  training step {step}, {used:.0%}: {float(bits.detach()):.3f} bits an element")


def _crop(latents: list[Tensor], generator: torch.Generator) -> Tensor:
    latent = latents[int(torch.randint(len(latents), (), generator=generator))]
    # In multiples of 4 positions, which a position of z stands for.
    top, left = (
        4 * int(torch.randint((side - _CROP) // 4 + 1, (), generator=generator))
        for side in latent.shape[2:]
    )
    return latent[:, :, top : top + _CROP, left : left + _CROP]


def _scale(net: nn.Module, latent: Tensor) -> None:
    """Begin with outputs of unit deviation in each layer, and with scales that are about right."""
    deviations = latent.std(dim=(0, 2, 3)).clamp_min(0.05)
    targets: dict[nn.Module, tuple[Tensor | None, Tensor]] = _heads(net, deviations)

    def scale(layer: nn.Module, _inputs: object, output: Tensor) -> Tensor:
        axis = output.dim() - 1 if isinstance(layer, nn.Linear) else 1
        axes = [other for other in range(output.dim()) if other != axis]
        shape = [-1 if other == axis else 1 for other in range(output.dim())]
        centre, deviation = targets.get(layer, (None, torch.ones(1)))
        factor = deviation / output.std(dim=axes).clamp_min(1e-6)
        shift = (0 if centre is None else centre) - output.mean(dim=axes) * factor
        rows = (1, -1, 1, 1) if isinstance(layer, nn.ConvTranspose2d) else (-1, 1, 1, 1)
        layer.weight.mul_(factor.view(rows[: layer.weight.dim()]))
        if layer.bias is None:
            shift = torch.zeros_like(factor)
        else:
            layer.bias.mul_(factor).add_(shift)
        return output * factor.view(shape) + shift.view(shape)

    layers = [m for m in net.latent_codec.modules() if isinstance(m, _LAYERS)]
    hooks = [m.register_forward_hook(scale) for m in layers]
    try:
        with torch.no_grad():
            net.latent_codec(latent)
    finally:
        for hook in hooks:
            hook.remove()


def _heads(net: nn.Module, deviations: Tensor) -> dict[nn.Module, tuple[Tensor, Tensor]]:
    """Last layers of what predicts scales, means and corrections: with centre and deviation."""
    groups, heads = net.latent_codec.y, {}
    for k, part in enumerate(deviations.split(groups.groups)):
        leaf = groups.latent_codec[f"y{k}"]
        zero, some = torch.zeros_like(part), 0.1 * part
        if isinstance(leaf, LRPGaussianLatentCodec):
            context = groups.channel_context[f"y{k}"]
            heads[context.scale_cc[-1]] = part, some
            heads[context.mean_cc[-1]] = zero, some
            heads[leaf.lrp_transform[-1]] = zero, torch.full_like(part, 0.02)
        elif isinstance(leaf, CheckerboardLatentCodec):
            pairs = {"scales": (part, some), "means": (zero, some)}
            both = [pairs[name] for name in leaf.y.chunks]
            centre, deviation = (torch.cat(each) for each in zip(*both))
            heads[leaf.entropy_parameters[-1]] = centre, deviation
    return heads
