# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Checks of the state-space layers and models (MambaVC, MambaIC) for check_golden.py.

Tolerances are those of check_golden.py. Why they fit here, measured (`sensitivity` in the JSON): with a
parallel instead of a sequential scan, no oneDNN and channels_last, and with float64, x_hat moves by less
than 1e-5 and no symbol changes. Public names used: `compressai.layers.ssm` (`selective_scan`, `cross_scan`,
`cross_merge`, `SS2D`, `VSSBlock`), `compressai.models.mambavc.MambaVC`, `compressai.models.mambaic.MambaIC`
and `convert_upstream_{mambavc,mambaic}_state_dict` in the same modules or in `examples/`.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
from functools import cached_property
from pathlib import Path

import numpy as np

import check_golden as golden
from check_golden import Case, ChannelSliceCase, LayerCase, Mismatch, close, from_hex, same, torch_from

MODELS = {
    # model: (module, class, converter, example script)
    "mambavc": ("mambavc", "MambaVC", "convert_upstream_mambavc_state_dict", "convert_mambavc_checkpoint"),
    "mambaic": ("mambaic", "MambaIC", "convert_upstream_mambaic_state_dict", "convert_mambaic_checkpoint"),
}


def build(table, seed, tensors) -> dict:
    """As check_golden.build_tensors, and ["=", key]: the same tensor as another entry."""
    arrays = {
        key: golden.build_tensor(entry, key, seed, tensors) for key, entry in table.items() if entry[0] != "="
    }
    return {key: arrays[entry[1]] if entry[0] == "=" else arrays[key] for key, entry in table.items()}


def ssm(name):
    return getattr(importlib.import_module("compressai.layers.ssm"), name)


class ScanCase(Case):
    """One selective scan: values, and gradients of sum(weight * y)."""

    def arguments(self, gradients=False):
        values = {key: torch_from(self.tensor(key)) for key in self.spec["arguments"]}
        if gradients:
            for value in values.values():
                value.requires_grad_()
        return values

    def run(self, values):
        return ssm("selective_scan")(**values, delta_softplus=self.spec["delta_softplus"])

    def forward(self):
        close(self.run(self.arguments()), self.tensor("y"), "y")

    def reference(self):
        """The plain implementation, which every faster one is measured by."""
        y = ssm("selective_scan_ref")(**self.arguments(), delta_softplus=self.spec["delta_softplus"])
        close(y, self.tensor("y"), "y", atol=1e-5, rtol=1e-5)

    def backward(self):
        import torch

        with torch.enable_grad():
            values = self.arguments(gradients=True)
            (self.run(values) * torch_from(self.tensor("weight"))).sum().backward()
        for key, value in values.items():
            if value.grad is None:
                raise Mismatch(f"no gradient of {key}")
            want = self.tensor(f"grad/{key}")
            scale = 1e-4 * max(1.0, float(np.abs(want).max()))
            close(value.grad, want, f"gradient of {key}", atol=scale, rtol=1e-3)

    def checks(self):
        yield "forward", self.forward
        yield "reference", self.reference
        yield "backward", self.backward


class OrderCase(Case):
    """cross_scan and cross_merge, exactly."""

    def scan(self):
        got = ssm("cross_scan")(torch_from(self.tensor("x").astype(np.float32)))
        same(np.asarray(got).astype(np.int64), self.tensor("scans").astype(np.int64), "scans")

    def merge(self):
        h, w = self.spec["size"]
        ys = torch_from(self.tensor("ys").astype(np.float32))
        got = ssm("cross_merge")(ys.view(*ys.shape[:3], h, w))
        same(np.asarray(got).astype(np.int64), self.tensor("merged").astype(np.int64), "merged")

    def checks(self):
        yield "scan", self.scan
        yield "merge", self.merge


class ModelCase(ChannelSliceCase):
    """Weights in the layout of the authors' program, converted and loaded."""

    @cached_property
    def arrays(self):
        arrays = build(self.spec["state_dict"], self.spec["seed"], self.tensors)
        if golden.digest(arrays) != self.spec["state_dict_sha256"]:
            raise Mismatch("this numpy does not reproduce the recipe of the weights")
        return arrays

    def converter(self):
        module, _, function, script = MODELS[self.spec["model"]]
        try:
            return getattr(importlib.import_module(f"compressai.models.{module}"), function)
        except (ImportError, AttributeError) as error:
            path = Path(self.options.project or ".") / "examples" / f"{script}.py"
            if not path.is_file():
                raise Mismatch(f"no {function}: {error}; no {path.name} under --project") from error
            spec = importlib.util.spec_from_file_location(script, path)
            loaded = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(loaded)
            return getattr(loaded, function)

    @cached_property
    def net(self):
        module, name, _, _ = MODELS[self.spec["model"]]
        converted = self.converter()(self.state_dict())
        cls = getattr(importlib.import_module(f"compressai.models.{module}"), name)
        strict = "strict" in inspect.signature(cls.from_state_dict).parameters
        net = cls.from_state_dict(converted, **({"strict": True} if strict else {})).eval()
        if self.spec["update"]:
            net.update(force=True)
        return net

    def load(self):
        """Also: sizes were inferred from the weights."""
        for key, want in self.spec["sizes"].items():
            got = getattr(self.net, key, want)
            got = list(got) if isinstance(got, (list, tuple)) else got
            if got != want:
                raise Mismatch(f"{key} is {got}, expected {want}")

    def idempotent(self):
        """Weights in the layout of this library pass the converter unchanged."""
        native = self.net.state_dict()
        again = self.converter()(dict(native))
        if set(again) != set(native):
            raise Mismatch(f"other names: {sorted(set(again) ^ set(native))[:3]}")
        for key, value in native.items():
            if again[key].shape != value.shape or not bool((again[key] == value).all()):
                raise Mismatch(f"{key} changed")

    def steps(self):
        """Symbols and indexes in coding order: slices, and in each the passes."""
        cuts = np.cumsum(self.spec["groups"])[:-1]
        halves = [
            [np.split(half, cuts, axis=1) for half in self.tensor(field)] for field in ("symbols", "indexes")
        ]
        for k in range(len(self.spec["groups"])):
            for step in range(self.spec["passes"]):
                yield k, step, halves[0][step][k], halves[1][step][k]

    def describe(self, got, want) -> str:
        from compressai.ans import RansDecoder
        from compressai.entropy_models import GaussianConditional

        if len(got) != len(want):
            return f"the layout should be {len(want) - 1} lists of slices (and passes), then z"
        conditional = next(m for m in self.net.modules() if isinstance(m, GaussianConditional))
        model = [getattr(conditional, n).tolist() for n in ("_quantized_cdf", "_cdf_length", "_offset")]
        report = []
        for place, (k, step, symbols, indexes) in enumerate(self.steps()):
            for b, string in enumerate(got[place]):
                if string != want[place][b]:
                    decoded = RansDecoder().decode_with_indexes(string, indexes[b].ravel().tolist(), *model)
                    wrong = int((np.asarray(decoded) != symbols[b].ravel()).sum())
                    report.append(f"slice {k} pass {step} sample {b}: {wrong} of {symbols[b].size} symbols")
        return "with the reference's indexes " + ("; ".join(report[:4]) or "z only")

    def decode_own(self):
        """What compress() wrote decodes, with nothing but strings and shape."""
        import torch

        out = self.net.compress(self.input())
        got = self.net.decompress(out["strings"], out["shape"])["x_hat"]
        want = self.net(self.input())["x_hat"].clamp(0, 1)
        if not torch.allclose(got, want, atol=1e-4):
            raise Mismatch(f"x_hat differs from that of forward by {float((got - want).abs().max()):.3g}")

    def checks(self):
        yield from super().checks()
        yield "idempotent", self.idempotent
        yield "decode_own", self.decode_own


PARTS = {"scan": ScanCase, "order": OrderCase, "block": LayerCase, "model": ModelCase}


def make_case(name, spec, tensors, options):
    return PARTS[spec["part"]](name, spec, tensors, options)


KINDS = {"state_space": make_case}
