# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Carry the state of lite's training over to the latent with details; was run once."""

import math
import sys
from argparse import Namespace
from pathlib import Path

import safetensors
import safetensors.torch
import torch
import torch.nn.functional as F
from train_lite import Training

OLD, FIT, HIDDEN, NEW = (Path(p) for p in sys.argv[1:])
D, COUNT = 288, 256
LOW, TOP, OLD_TOP = 0.0008, 1.6, 0.64
torch.set_grad_enabled(False)


def resampled(middle, steps, sign):
    stretch = math.log(TOP / LOW) / math.log(OLD_TOP / LOW)
    steps = F.softplus(steps)
    logs = torch.cat((torch.zeros_like(steps[:1]), steps.cumsum(0)))
    old = middle + sign * (logs - logs[len(steps) // 2])
    count = len(steps)
    places = torch.arange(count + 1) * stretch
    left = places.floor().clamp(0, count - 1).long()
    new = old[left] + (places - left)[:, None] * (old[left + 1] - old[left])
    return parts(new, sign)


def parts(logs, sign):
    rise = (sign * logs.diff(dim=0)).clamp_min(1e-4)
    return logs[len(rise) // 2], rise + torch.log(-torch.expm1(-rise))


new = Training(Namespace(seed=1, device="cpu", precision="fp32", model_args={}, run=NEW.parent, start=None))
with safetensors.safe_open(OLD, framework="pt") as file:
    old = {key: file.get_tensor(key).float() for key in file.keys()}
    metadata = file.metadata()
new.step, new.cpu_seconds = int(metadata["step"]), float(metadata["cpu_seconds"])
fit = safetensors.torch.load_file(FIT)
data = safetensors.torch.load_file(HIDDEN)
for key in [key for key in fit if "y3.lrp_transform.2" in key]:
    fit[key].zero_()

nodes = torch.arange(9) * 12.5
lmbda = LOW * (TOP / LOW) ** (nodes / 100)
ideal = torch.log(255 / torch.sqrt(12 * 3 * 0.5 / math.log(2) / lmbda))  # 1 / step
basis = new.net.g_a._basis().flatten(1).double()

for kind, name, value in new._tensors():
    key = f"{kind}.{name}"
    source = fit.get(key, old.get(key))
    value.zero_()
    if "_gain" in name:
        if kind in ("weight", "average"):
            module, part = name.rsplit(".", 1)
            sign = -1 if module.endswith("inv") else 1
            args = old[f"{kind}.{module}.middle"], old[f"{kind}.{module}.steps"]
            got = dict(zip(("middle", "steps"), resampled(*args, sign)))[part]
            value[..., : got.size(-1)] = got
            if module.startswith("y_"):
                own = dict(zip(("middle", "steps"), parts(sign * ideal[:, None].expand(-1, COUNT), sign)))
                value[..., D:] = own[part]
    elif ".y4." in name:
        if kind not in ("weight", "average") or "lrp" in name:
            if "lrp" in name and ".0." in name and kind == "weight":
                torch.nn.init.kaiming_uniform_(value) if value.dim() > 1 else None
            elif "lrp" in name and ".0." in name and kind == "average":
                value.copy_(dict(new.net.named_parameters())[name])
        elif ".0." in name:
            before = old[key.replace("y4", "y3")]
            value[tuple(slice(n) for n in before.shape)] = before
    elif source is None:
        print("nothing for", key)
    elif source.shape == value.shape:
        value.copy_(source)
    elif source.dim() == value.dim() and source.shape[2:] == value.shape[2:]:
        value[tuple(slice(n) for n in source.shape)] = source
    else:
        print("momentum lost", key)

for kind, net in (("weight", new.net), ("average", new.average)):
    f, o, h, q = (data[f"{kind}.{k}"].double() for k in "fohq")
    x = data["x"].double()
    f1 = torch.cat((f, torch.ones_like(f[..., :1])), -1).flatten(0, 1)
    gram = f1.T @ f1 + 1e-6 * len(f1) * torch.eye(f1.size(1))
    w = torch.linalg.solve(gram, f1.T @ o.flatten(0, 1))
    net.g_a[8].weight[D:] = -(basis @ w[:-1].T).view(COUNT, 144, 2, 2).float()
    net.g_a[8].bias[D:] = -(basis @ w[-1]).float()
    y = (x - (f1 @ w).view_as(o)) @ basis.T
    gain = net.y_gain(q.float())[:, D:, 0, 0].double()
    size = (y * gain[:, None]).abs().clamp(max=20) * 1.2
    h1 = torch.cat((h, torch.ones_like(h[..., :1])), -1).flatten(0, 1)
    gram = h1.T @ h1 + 1e-4 * len(h1) * torch.eye(h1.size(1))
    s = torch.linalg.solve(gram, h1.T @ size.flatten(0, 1))
    print(kind, "size", float(size.mean()), "unexplained", float((h1 @ s - size.flatten(0, 1)).var() / size.var()))
    head = net.latent_codec.y.channel_context.y4.scale_cc[2]
    head.weight.copy_(s[:-1].T[:, :, None, None])
    head.bias.copy_(s[-1])
new.save(NEW)
print(new.step)
