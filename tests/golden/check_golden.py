# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Checks whatever `compressai` Python imports against a folder of golden data.

    python check_golden.py GOLDEN [--project DIR] [--only GLOB]... [--list]

One line per check: 'ok NAME' or 'FAIL NAME reason'; the last line is 'N passed, M failed'.
The exit status is 1 if anything failed. A check that raises, crashes its child process or takes
longer than --timeout counts as failed and does not stop the others.

Only public names are used: those of compressai 1.2.8, and for the channel-slice models the classes
and `convert_upstream_*_state_dict` functions of `compressai.models.{stf,tcm,cca}`; a converter that
is not there is looked for in DIR/examples/convert_*_checkpoint.py.

Needs numpy and torch only. The data format is explained in the golden folder's README.md.

Tolerances
  integers, CDF tables, bytes   exact
  fp32 tensors                  |got - want| <= 1e-4 + 1e-4 * |want|

  Why 1e-4: float32 sums in another order (oneDNN off, channels_last, other kernels) move x_hat by at
  most 4e-6 and the latents by 2e-5 (measured for every case, see `sensitivity` in the JSON files),
  while mistakes that were tried on purpose moved x_hat by more: the residual correction scaled by 0.98
  by 7e-3, a LayerNorm epsilon of 1e-6 instead of 1e-5 (or the other way) by 1e-1, attention windows
  shifted the other way by 3e-1, the tanh form of GELU by 4e-4 (in the least sensitive model), a blur
  1 % too wide by 1e-2, one weight changed by 0.01 by 1e-1.
  Exact checks of symbols and bytes would be unfair if float noise could change a symbol: the pictures
  are chosen so that no value comes close to a rounding or table decision (`margins`), and so that
  float64 and another order of sums give the same symbols.
"""

from __future__ import annotations

import argparse
import fnmatch
import hashlib
import importlib
import importlib.util
import inspect
import json
import signal
import subprocess
import sys
import traceback
import warnings
import zlib
from functools import cached_property
from pathlib import Path

import numpy as np

ATOL = RTOL = 1e-4


# --------------------------------------------------------------------------------------------------
# The data format: safetensors files, and tensors given by a recipe instead of by their values
# --------------------------------------------------------------------------------------------------

_DTYPES = {
    "F64": np.float64, "F32": np.float32, "F16": np.float16, "I64": np.int64, "I32": np.int32,
    "I16": np.int16, "I8": np.int8, "U8": np.uint8, "BOOL": np.bool_,
}  # fmt: skip


class Tensors:
    """Reads a .safetensors file (8 bytes of header length, a JSON header, then the raw arrays)."""

    def __init__(self, path):
        self._raw = Path(path).read_bytes()
        size = int.from_bytes(self._raw[:8], "little")
        self._index = json.loads(self._raw[8 : 8 + size])
        self._index.pop("__metadata__", None)
        self._start = 8 + size

    def __getitem__(self, name) -> np.ndarray:
        entry = self._index[name]
        begin, end = (self._start + offset for offset in entry["data_offsets"])
        data = np.frombuffer(self._raw[begin:end], _DTYPES[entry["dtype"]])
        return data.reshape(entry["shape"]).copy()

    def __contains__(self, name):
        return name in self._index


def raw_bits(seed: int, key: str, count: int) -> np.ndarray:
    """`count` raw 64-bit words of numpy's PCG64 seeded with crc32(key) + 2**32 * seed."""
    generator = np.random.PCG64(zlib.crc32(key.encode()) + (int(seed) << 32))
    return generator.random_raw(count)


def uniform(seed: int, key: str, shape) -> np.ndarray:
    """float64 in [0, 1): the upper 53 bits of each raw word, times 2**-53, in C order."""
    count = int(np.prod(shape, dtype=np.int64))
    return ((raw_bits(seed, key, count) >> np.uint64(11)) * 2.0**-53).reshape(shape)


def fill(seed: int, key: str, shape, offset: float, scale: float) -> np.ndarray:
    """float32(offset + scale * (2 u - 1)), computed in float64."""
    return (offset + scale * (2 * uniform(seed, key, shape) - 1)).astype(np.float32)


def picture(seed: int, key: str, shape) -> np.ndarray:
    """Float32 picture in [0, 1): 0.2 * pixels + 0.3 * blocks of 8 x 8 + 0.5 * blocks of 32 x 32."""
    n, c, h, w = shape
    total = 0.2 * uniform(seed, f"{key}/1", shape)
    for weight, block in ((0.3, 8), (0.5, 32)):
        coarse = uniform(seed, f"{key}/{block}", (n, c, -(-h // block), -(-w // block)))
        total = total + weight * coarse.repeat(block, 2).repeat(block, 3)[:, :, :h, :w]
    return total.astype(np.float32)


def build_tensor(entry, key: str, seed: int, tensors) -> np.ndarray:
    """The tensor that one entry of a `state_dict` or `inputs` table of the JSON files stands for."""
    rule = entry[0]
    if rule == "u":
        return fill(seed, key, entry[1], entry[2], entry[3])
    if rule == "picture":
        return picture(seed, key, entry[1])
    if rule == "s":
        return tensors[entry[1]]
    if rule == "b":
        return np.ascontiguousarray(np.broadcast_to(tensors[entry[1]], entry[2]))
    if rule == "r":
        flat, lengths = tensors[entry[1]], tensors[entry[2]]
        rows = np.zeros((len(lengths), entry[3]), flat.dtype)
        ends = np.cumsum(lengths)
        for row, end, length in zip(rows, ends, lengths):
            row[:length] = flat[end - length : end]
        return rows
    raise ValueError(f"unknown rule {rule!r}")


def build_tensors(table, seed, tensors) -> dict:
    return {key: build_tensor(entry, key, seed, tensors) for key, entry in table.items()}


def digest(arrays: dict) -> str:
    """sha256 over keys and values in the table's order: guards the recipe itself."""
    sha = hashlib.sha256()
    for key, value in arrays.items():
        sha.update(key.encode() + b"\0" + np.ascontiguousarray(value).tobytes())
    return sha.hexdigest()


def synthetic_symbols(spec, cdf, sizes, offsets):
    """Symbols and indexes of the long coder cases (recipe in README.md)."""
    words = raw_bits(spec["seed"], spec["key"], 2 * spec["count"]).reshape(-1, 2)
    indexes = (words[:, 0] % np.uint64(len(sizes))).astype(np.int64)
    frequency = (words[:, 1] >> np.uint64(48)).astype(np.int64)
    extra = ((words[:, 0] >> np.uint64(32)) % np.uint64(spec["spread"])).astype(np.int64)
    symbols = np.empty(spec["count"], np.int64)
    ends = np.cumsum(sizes)
    for k, (end, size) in enumerate(zip(ends, sizes)):
        here = indexes == k
        value = np.searchsorted(cdf[end - size : end], frequency[here], side="right") - 1
        out = value == size - 2
        far = np.where(extra[here] % 2 == 0, value + extra[here], -1 - extra[here])
        symbols[here] = np.where(out, far, value) + offsets[k]
    return symbols, indexes


# --------------------------------------------------------------------------------------------------
# Comparison
# --------------------------------------------------------------------------------------------------


class Mismatch(AssertionError):
    pass


def as_numpy(value) -> np.ndarray:
    if hasattr(value, "detach"):
        value = value.detach().cpu().numpy()
    return np.asarray(value)


def close(got, want, what: str, atol=ATOL, rtol=RTOL):
    got, want = as_numpy(got).astype(np.float64), as_numpy(want).astype(np.float64)
    if got.shape != want.shape:
        raise Mismatch(f"{what}: shape {got.shape}, expected {want.shape}")
    if not np.isfinite(got).all():
        raise Mismatch(f"{what}: not finite")
    error = np.abs(got - want)
    bad = error > atol + rtol * np.abs(want)
    if bad.any():
        raise Mismatch(f"{what}: {int(bad.sum())} of {bad.size} values differ, by up to {error.max():.3g}")


def same(got, want, what: str):
    got, want = as_numpy(got), as_numpy(want)
    if got.shape != want.shape:
        raise Mismatch(f"{what}: shape {got.shape}, expected {want.shape}")
    if not np.array_equal(got.astype(np.int64), want.astype(np.int64)):
        bad = np.flatnonzero(got.astype(np.int64).ravel() != want.astype(np.int64).ravel())
        raise Mismatch(
            f"{what}: {bad.size} of {got.size} integers differ, the first at {int(bad[0])}:"
            f" {got.ravel()[bad[0]]}, expected {want.ravel()[bad[0]]}"
        )


def same_bytes(got, want: bytes, what: str):
    if not isinstance(got, (bytes, bytearray, memoryview)):
        raise Mismatch(f"{what}: {type(got).__name__}, expected bytes")
    got = bytes(got)
    if got != want:
        at = next((i for i, (a, b) in enumerate(zip(got, want)) if a != b), min(len(got), len(want)))
        raise Mismatch(f"{what}: {len(got)} bytes, expected {len(want)}; they differ at byte {at}")


def same_strings(got, want, what: str):
    """Nested lists of byte strings."""
    if isinstance(want, (bytes, bytearray)):
        return same_bytes(got, want, what)
    items = list(got.values()) if isinstance(got, dict) else list(got)
    if isinstance(want, dict):
        if not isinstance(got, dict) or set(got) != set(want):
            raise Mismatch(f"{what}: keys {list(got)}, expected {list(want)}")
        for key in want:
            same_strings(got[key], want[key], f"{what}[{key!r}]")
        return None
    if len(items) != len(want):
        raise Mismatch(f"{what}: {len(items)} entries, expected {len(want)}")
    for i, (a, b) in enumerate(zip(items, want)):
        same_strings(a, b, f"{what}[{i}]")
    return None


def from_hex(value):
    if isinstance(value, str):
        return bytes.fromhex(value)
    if isinstance(value, dict):
        return {key: from_hex(v) for key, v in value.items()}
    return [from_hex(v) for v in value]


def to_shape(value):
    """JSON arrays of numbers become torch.Size, other arrays lists."""
    import torch

    if isinstance(value, dict):
        return {key: to_shape(v) for key, v in value.items()}
    if value and all(isinstance(v, int) for v in value):
        return torch.Size(value)
    return [to_shape(v) for v in value]


# --------------------------------------------------------------------------------------------------
# Cases. Each yields its checks: (name of the check, function without arguments)
# --------------------------------------------------------------------------------------------------


class Case:
    def __init__(self, name, spec, tensors, options):
        self.name, self.spec, self.tensors, self.options = name, spec, tensors, options

    def tensor(self, field):
        return self.tensors[f"{self.name}/{field}"]

    def checks(self):
        raise NotImplementedError


def torch_from(array):
    import torch

    return torch.from_numpy(np.ascontiguousarray(array))


class CoderCase(Case):
    def calls(self):
        for call in self.spec["calls"]:
            prefix = f"{self.name}/{call['group']}"
            cdf, sizes, offsets = (self.tensors[f"{prefix}/{part}"] for part in ("cdf", "sizes", "offsets"))
            if "recipe" in call:
                symbols, indexes = synthetic_symbols(call["recipe"], cdf, sizes, offsets)
            else:
                symbols = self.tensors[f"{prefix}/symbols"]
                indexes = self.tensors[f"{prefix}/indexes"]
            rows = [row.tolist() for row in np.split(cdf, np.cumsum(sizes)[:-1])]
            if call.get("padded"):
                width = max(map(len, rows))
                rows = [row + [0] * (width - len(row)) for row in rows]
            yield symbols.tolist(), indexes.tolist(), rows, sizes.tolist(), offsets.tolist()

    def want(self):
        return [bytes.fromhex(h) for h in self.spec["hex"]] if "hex" in self.spec else None

    def encode(self):
        from compressai import ans

        calls = list(self.calls())
        if self.spec["api"] == "RansEncoder":
            strings = [ans.RansEncoder().encode_with_indexes(*call) for call in calls]
        else:
            encoder, strings = ans.BufferedRansEncoder(), []
            for i, call in enumerate(calls):
                encoder.encode_with_indexes(*call)
                if i in self.spec["flush_after"]:
                    strings.append(encoder.flush())
        if self.want() is None:
            for string, sha, length in zip(strings, self.spec["sha256"], self.spec["length"]):
                if (len(string), hashlib.sha256(string).hexdigest()) != (length, sha):
                    raise Mismatch(f"{len(string)} bytes, expected {length}, or their hash differs")
            return
        same_strings(strings, self.want(), "strings")

    def decode(self):
        from compressai import ans

        calls = list(self.calls())
        strings = self.want()
        if strings is None:  # the bytes are not stored: decode what this implementation wrote
            strings = [ans.RansEncoder().encode_with_indexes(*call) for call in calls]
        if self.spec["api"] == "RansEncoder":
            for string, (symbols, indexes, *model) in zip(strings, calls):
                got = ans.RansDecoder().decode_with_indexes(string, indexes, *model)
                same(np.asarray(got, np.int64), np.asarray(symbols, np.int64), "symbols")
                decoder = ans.RansDecoder()
                decoder.set_stream(string)
                got, cut = [], len(indexes) // 3
                for part in (indexes[:cut], indexes[cut:]):
                    got += list(decoder.decode_stream(part, *model))
                same(np.asarray(got, np.int64), np.asarray(symbols, np.int64), "stream symbols")
            return
        ends = self.spec["flush_after"]
        decoder = ans.RansDecoder()
        for i, (symbols, indexes, *model) in enumerate(calls):
            if i == 0 or i - 1 in ends:
                decoder.set_stream(strings[sum(end < i for end in ends)])
            got = decoder.decode_stream(indexes, *model)
            same(np.asarray(got, np.int64), np.asarray(symbols, np.int64), f"symbols of call {i}")

    def checks(self):
        yield "encode", self.encode
        yield "decode", self.decode


class PmfCase(Case):
    def run(self):
        from compressai._CXX import pmf_to_quantized_cdf

        lengths = self.tensor("lengths")
        ends = np.cumsum(lengths)
        want = self.tensor("cdf")
        for i, (end, length) in enumerate(zip(ends, lengths)):
            pmf = self.tensor("pmf")[end - length : end]
            start = end - length + i
            cdf = pmf_to_quantized_cdf([float(p) for p in pmf], self.spec["precision"])
            same(np.asarray(cdf, np.int64), want[start : start + length + 1], f"pmf {i}")

    def errors(self):
        from compressai._CXX import pmf_to_quantized_cdf

        for pmf in self.spec["invalid"]:
            try:
                got = pmf_to_quantized_cdf([float(p) for p in pmf], self.spec["precision"])
            except ValueError:
                continue
            raise Mismatch(f"{pmf}: {list(got)}, expected a ValueError")

    def checks(self):
        yield ("invalid", self.errors) if "invalid" in self.spec else ("cdf", self.run)


class EntropyBottleneckCase(Case):
    def fresh(self):
        from compressai.entropy_models import EntropyBottleneck

        module = EntropyBottleneck(self.spec["channels"], **self.spec["kwargs"])
        arrays = build_tensors(self.spec["state_dict"], 0, self.tensors)
        module.load_state_dict({key: torch_from(value) for key, value in arrays.items()})
        return module.eval()

    @cached_property
    def module(self):
        return self.fresh()

    @cached_property
    def updated(self):
        self.module.update(force=True)
        return self.module

    def update(self):
        for name in ("_offset", "_cdf_length", "_quantized_cdf"):
            same(getattr(self.updated, name), self.tensor(name), name)

    def forward(self):
        x_hat, likelihood = self.module(torch_from(self.tensor("x")))
        close(x_hat, self.tensor("x_hat"), "outputs")
        close(likelihood, self.tensor("likelihood"), "likelihoods")
        close(self.module.loss(), self.spec["loss"], "loss()")

    def compress(self):
        strings = self.updated.compress(torch_from(self.tensor("x")))
        same_strings(strings, from_hex(self.spec["strings"]), "strings")

    def decompress(self):
        x_hat = self.updated.decompress(from_hex(self.spec["strings"]), to_shape(self.spec["size"]))
        close(x_hat, self.tensor("x_hat"), "outputs", atol=1e-6, rtol=0)

    def quantiles(self):
        module = self.fresh()
        module.update(force=True, update_quantiles=True)
        close(module.quantiles, self.tensor("searched"), "quantiles", atol=2e-3, rtol=2e-3)

    def checks(self):
        yield "update", self.update
        yield "forward", self.forward
        if "strings" in self.spec:
            yield "compress", self.compress
            yield "decompress", self.decompress
        if f"{self.name}/searched" in self.tensors:
            yield "quantiles", self.quantiles


class GaussianCase(Case):
    @cached_property
    def module(self):
        from compressai.entropy_models import GaussianConditional

        module = GaussianConditional(None, **self.spec["kwargs"])
        if self.spec["table"] == "default":
            from compressai.models import get_scale_table

            module.update_scale_table(get_scale_table(*self.spec["table_args"]), force=True)
        else:
            module.update_scale_table(torch_from(self.tensor("table")), force=True)
        return module.eval()

    def inputs(self):
        x, scales = (torch_from(self.tensor(name)) for name in ("x", "scales"))
        means = torch_from(self.tensor("means")) if f"{self.name}/means" in self.tensors else None
        return x, scales, means

    def update(self):
        close(self.module.scale_table, self.tensor("table"), "scale_table", atol=0, rtol=3e-7)
        same(self.module._cdf_length, self.tensor("lengths"), "_cdf_length")
        same(self.module._offset, self.tensor("offset"), "_offset")
        want = build_tensor(
            ["r", f"{self.name}/cdf", f"{self.name}/lengths", int(self.tensor("lengths").max())],
            "", 0, self.tensors,
        )  # fmt: skip
        same(self.module._quantized_cdf, want, "_quantized_cdf")

    def indexes(self):
        got = self.module.build_indexes(torch_from(self.tensor("scales")))
        same(got, self.tensor("indexes"), "indexes")

    def forward(self):
        x, scales, means = self.inputs()
        x_hat, likelihood = self.module(x, scales, means=means)
        close(x_hat, self.tensor("x_hat"), "outputs", atol=1e-6, rtol=0)
        close(likelihood, self.tensor("likelihood"), "likelihoods")
        close(
            np.log(as_numpy(likelihood)), np.log(self.tensor("likelihood")), "log likelihoods",
            atol=2e-2, rtol=1e-3,
        )  # fmt: skip

    def compress(self):
        x, _, means = self.inputs()
        indexes = torch_from(self.tensor("indexes"))
        strings = self.module.compress(x, indexes, means=means)
        same_strings(strings, from_hex(self.spec["strings"]), "strings")

    def decompress(self):
        _, _, means = self.inputs()
        indexes = torch_from(self.tensor("indexes"))
        x_hat = self.module.decompress(from_hex(self.spec["strings"]), indexes, means=means)
        close(x_hat, self.tensor("x_hat"), "outputs", atol=1e-6, rtol=0)

    def checks(self):
        for name in ("update", "indexes", "forward", "compress", "decompress"):
            yield name, getattr(self, name)


def resolve(path: str):
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


class LayerCase(Case):
    def forward(self):
        import torch

        module = resolve(self.spec["class"])(*self.spec["args"], **self.spec["kwargs"]).eval()
        arrays = build_tensors(self.spec["state_dict"], self.spec["seed"], self.tensors)
        state = {key: torch_from(value) for key, value in arrays.items()}
        for key in self.spec.get("complex", ()):
            state[key] = torch.view_as_complex(state[key])
        module.load_state_dict(state)
        close(module(torch_from(self.tensor("x"))), self.tensor("out"), "output")

    def checks(self):
        yield "forward", self.forward


class ModelCase(Case):
    """A model of compressai 1.2.8, built with its constructor or from its state dict."""

    @cached_property
    def arrays(self):
        arrays = build_tensors(self.spec["state_dict"], self.spec["seed"], self.tensors)
        if digest(arrays) != self.spec["state_dict_sha256"]:
            raise Mismatch("this numpy does not reproduce the recipe of the weights")
        return arrays

    def state_dict(self):
        return {key: torch_from(value) for key, value in self.arrays.items()}

    @cached_property
    def net(self):
        cls = resolve(self.spec["class"])
        if self.spec["from_state_dict"]:
            net = cls.from_state_dict(self.state_dict(), **self.spec["from_state_dict_kwargs"])
        else:
            net = cls(**self.spec["kwargs"])
            net.load_state_dict(self.state_dict())
        net.eval()
        if self.spec["update"]:
            extra = {}
            if "update_level" in self.spec:
                extra["scale"] = net.Gain[self.spec["update_level"]].detach()
            net.update(force=True, **extra)
        return net

    @cached_property
    def call(self):
        """Extra arguments of forward, compress and decompress (variable-rate models)."""
        import torch

        call = dict(self.spec.get("call", {}))
        if "inputscale" in call:
            call["inputscale"] = torch.tensor(call["inputscale"])
        return call

    def input(self):
        arrays = build_tensors(self.spec["inputs"], self.spec["seed"], self.tensors)
        frames = [torch_from(value) for value in arrays.values()]
        return frames if self.spec.get("frames") else frames[0]

    def compare(self, got, field, what):
        stride = self.spec.get("stride", {}).get(field, 1)
        got = as_numpy(got)
        close(got[..., ::stride, ::stride], self.tensor(field), what)
        if stride > 1:
            mean, scale = self.spec["moments"][field]
            close(got.astype(np.float64).mean(), mean, f"mean of {what}")
            close(np.abs(got.astype(np.float64)).mean(), scale, f"mean magnitude of {what}")

    def load(self):
        net = self.net
        want = {key: tuple(value.shape) for key, value in self.arrays.items()}
        got = {key: tuple(value.shape) for key, value in net.state_dict().items()}
        if self.spec.get("renamed"):
            return
        tables = ("_offset", "_quantized_cdf", "_cdf_length", "scale_table")
        for key in sorted(set(want) | set(got)):
            filled = self.spec["update"] and key.endswith(tables)
            if key not in got or key not in want or (got[key] != want[key] and not filled):
                raise Mismatch(f"state dict: {key} is {got.get(key)}, expected {want.get(key)}")

    def forward(self):
        out = self.net(self.input(), **self.call)
        if self.spec.get("frames"):
            for i, x_hat in enumerate(out["x_hat"]):
                self.compare(x_hat, f"forward/x_hat/{i}", f"x_hat of frame {i}")
            for i, frame in enumerate(out["likelihoods"]):
                for part, values in frame.items():
                    for key, value in values.items():
                        where = f"{i}/{part}/{key}"
                        self.compare(value, f"forward/likelihoods/{where}", f"likelihoods {where}")
            return
        self.compare(out["x_hat"], "forward/x_hat", "x_hat")
        for key in ("y", "z"):
            if f"{self.name}/forward/likelihoods/{key}" in self.tensors:
                self.compare(out["likelihoods"][key], f"forward/likelihoods/{key}", f"likelihoods {key}")

    def aux_loss(self):
        got = self.net.aux_loss()
        got = np.asarray([float(v) for v in got] if isinstance(got, (list, tuple)) else [float(got)])
        close(got, np.asarray(self.spec["aux_loss"]), "aux_loss()", atol=1e-3)

    def tables(self):
        """The CDF tables of the entropy bottlenecks after update() or loading."""
        buffers = self.net.state_dict()
        for key, sha in self.spec["tables"].items():
            value = as_numpy(buffers[key]).astype(np.int32)
            if hashlib.sha256(value.tobytes()).hexdigest() != sha:
                raise Mismatch(f"{key} differs (shape {value.shape})")

    def encode(self):
        out = self.net.compress(self.input(), **self.call)
        strings = out[0] if self.spec.get("frames") else out["strings"]
        same_strings(strings, from_hex(self.spec["strings"]), "strings")

    def decode(self):
        strings, shape = from_hex(self.spec["strings"]), to_shape(self.spec["shape"])
        seen = []
        hooks = [
            resolve_attribute(self.net, name).register_forward_pre_hook(
                lambda _module, args: seen.append(args[0].detach().clone())
            )
            for name in self.spec["y_hat_of"]
        ]
        try:
            out = self.net.decompress(strings, shape, **self.call)
        finally:
            for hook in hooks:
                hook.remove()
        for i, value in enumerate(seen[: self.spec["y_hat_count"]]):
            # An integer symbol that differs moves y_hat by a whole step (times 1/gain).
            close(value, self.tensor(f"decode/y_hat/{i}"), f"y_hat {i}", atol=1e-4, rtol=1e-5)
        if len(seen) < self.spec["y_hat_count"]:
            raise Mismatch(f"y_hat seen {len(seen)} times, expected {self.spec['y_hat_count']}")
        if self.spec.get("frames"):
            for i, x_hat in enumerate(out):
                self.compare(x_hat, f"decode/x_hat/{i}", f"x_hat of frame {i}")
        else:
            self.compare(out["x_hat"], "decode/x_hat", "x_hat")

    def decode_z(self):
        for entry in self.spec["z"]:
            bottleneck = resolve_attribute(self.net, entry["module"])
            strings = from_hex(self.spec["strings"])
            for step in entry["path"]:
                strings = strings[step]
            z_hat = bottleneck.decompress(strings, to_shape(entry["size"]), **self.z_kwargs())
            close(z_hat, self.tensor(entry["field"]), f"z_hat of {entry['module']}", atol=1e-6, rtol=0)

    def z_kwargs(self):
        if "z_step" not in self.spec:
            return {}
        import torch

        return {"qs": torch.tensor(self.spec["z_step"])}

    def checks(self):
        yield "load", self.load
        yield "forward", self.forward
        yield "aux_loss", self.aux_loss
        yield "tables", self.tables
        if "strings" in self.spec:
            yield "encode", self.encode
            yield "decode", self.decode
            if self.spec.get("z"):
                yield "decode_z", self.decode_z


def resolve_attribute(module, path):
    for part in path.split("."):
        module = getattr(module, part)
    return module


CHANNEL_SLICE = {
    # model: (module, class, converter, example script)
    "stf": ("stf", "SymmetricalTransFormer", "convert_upstream_stf_state_dict", "convert_stf_checkpoint"),
    "wacnn": ("stf", "WACNN", "convert_upstream_stf_state_dict", "convert_stf_checkpoint"),
    "tcm": ("tcm", "TCM", "convert_upstream_tcm_state_dict", "convert_tcm_checkpoint"),
    "cca": ("cca", "CCAModel", "convert_upstream_cca_state_dict", "convert_cca_checkpoint"),
}


class ChannelSliceCase(ModelCase):
    """Weights in the layout of the authors' code, converted and loaded into the new model."""

    def converter(self):
        module, _, function, script = CHANNEL_SLICE[self.spec["model"]]
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
        module, name, _, _ = CHANNEL_SLICE[self.spec["model"]]
        converted = self.converter()(self.state_dict())
        cls = getattr(importlib.import_module(f"compressai.models.{module}"), name)
        strict = "strict" in inspect.signature(cls.from_state_dict).parameters
        net = cls.from_state_dict(converted, **({"strict": True} if strict else {})).eval()
        if self.spec["update"]:
            net.update(force=True)
        return net

    def load(self):
        assert self.net is not None

    @cached_property
    def forward_result(self):
        """Output of forward, and the y_hat that the latent codec handed to the synthesis."""
        seen = []
        hook = self.net.latent_codec.register_forward_hook(lambda _m, _args, out: seen.append(out))
        try:
            out = self.net(self.input())
        finally:
            hook.remove()
        return out, seen

    def forward(self):
        out, _ = self.forward_result
        self.compare(out["x_hat"], "forward/x_hat", "x_hat")
        for key in ("y", "z"):
            self.compare(out["likelihoods"][key], f"forward/likelihoods/{key}", f"likelihoods {key}")

    def y_hat(self):
        _, seen = self.forward_result
        if not seen or "y_hat" not in seen[-1]:
            raise Mismatch("net.latent_codec(...) was not called, or its result has no 'y_hat'")
        self.compare(seen[-1]["y_hat"], "y_hat", "y_hat")

    def auxiliary(self):
        out, _ = self.forward_result
        for key in ("y_aux", "y_cca"):
            value = find_key(out, key)
            if value is None:
                raise Mismatch(f"the output of forward has no {key!r} likelihoods")
            self.compare(value, f"forward/likelihoods/{key}", f"likelihoods {key}")

    def loss(self):
        out, _ = self.forward_result
        for want in self.spec["losses"]:
            criterion = resolve("compressai.losses.cca.CCARateDistortionLoss")(lmbda=want["lmbda"])
            result = criterion(out, self.input())
            for key in ("bpp_loss", "mse_loss", "loss"):
                close(result[key], want[key], f"{key} at lmbda {want['lmbda']}")
            for key in ("cca_loss", "aux2_loss"):  # the authors' names of the two other terms
                if key in result:
                    close(result[key], want[key], key)

    def slices(self):
        """Integer symbols and CDF indexes of every slice, as the authors' code computed them."""
        symbols, indexes = self.tensor("symbols"), self.tensor("indexes")
        cuts = np.cumsum(self.spec["groups"])[:-1]
        return np.split(symbols, cuts, axis=1), np.split(indexes, cuts, axis=1)

    def encode(self):
        got = [list(strings) for strings in self.net.compress(self.input())["strings"]]
        want = from_hex(self.spec["strings"])
        try:
            same_strings(got, want, "strings")
        except Mismatch as error:
            raise Mismatch(f"{error}; {self.describe(got, want)}") from None

    def describe(self, got, want) -> str:
        """Why the bytes differ: decodes them with the authors' indexes and counts wrong symbols."""
        from compressai.ans import RansDecoder

        if len(got) != len(want):
            return f"the layout should be {len(want) - 1} slices, then z"
        module = resolve_attribute(self.net, "latent_codec.y.latent_codec.y0.gaussian_conditional")
        model = [getattr(module, name).tolist() for name in ("_quantized_cdf", "_cdf_length", "_offset")]
        report = []
        for k, (symbols, indexes) in enumerate(zip(*self.slices())):
            for b, string in enumerate(got[k]):
                if string != want[k][b]:
                    decoded = RansDecoder().decode_with_indexes(string, indexes[b].ravel().tolist(), *model)
                    wrong = int((np.asarray(decoded) != symbols[b].ravel()).sum())
                    report.append(f"slice {k} sample {b}: {wrong} of {symbols[b].size} symbols")
        return "with the reference's indexes " + ("; ".join(report[:4]) or "z only")

    def decode(self):
        """The reference's symbols, one string per slice, decode to the reference's y_hat and x_hat."""
        import torch

        strings = from_hex(self.spec["strings"])
        shape = self.net.compress(self.input())["shape"]
        seen = []
        codec = self.net.latent_codec
        inner = codec.decompress

        def spy(*args, **kwargs):
            out = inner(*args, **kwargs)
            seen.append(out)
            return out

        codec.decompress = spy
        try:
            out = self.net.decompress(strings, shape)
        finally:
            del codec.decompress
        want = torch_from(self.tensor("forward/x_hat")).clamp(0, 1)
        stride = self.spec.get("stride", {}).get("forward/x_hat", 1)
        if not torch.is_tensor(out["x_hat"]):
            raise Mismatch("x_hat is no tensor")
        if seen and "y_hat" in seen[-1]:
            self.compare(seen[-1]["y_hat"], "y_hat", "y_hat")
        close(as_numpy(out["x_hat"])[..., ::stride, ::stride], want, "x_hat")

    def checks(self):
        yield "convert", self.load
        yield "forward", self.forward
        yield "y_hat", self.y_hat
        if "losses" in self.spec:
            yield "auxiliary", self.auxiliary
            yield "loss", self.loss
        yield "encode", self.encode
        yield "decode", self.decode


def find_key(value, key):
    if isinstance(value, dict):
        if key in value:
            return value[key]
        for inner in value.values():
            found = find_key(inner, key)
            if found is not None:
                return found
    return None


KINDS = {
    "coder": CoderCase,
    "pmf": PmfCase,
    "entropy_bottleneck": EntropyBottleneckCase,
    "gaussian": GaussianCase,
    "layer": LayerCase,
    "model": ModelCase,
    "channel_slice": ChannelSliceCase,
}


# --------------------------------------------------------------------------------------------------
# The runner
# --------------------------------------------------------------------------------------------------


def one_line(error: BaseException) -> str:
    text = str(error).strip() if isinstance(error, Mismatch) else f"{type(error).__name__}: {error}"
    text = " ".join(text.split())
    return text if len(text) <= 400 else text[:397] + "..."


def in_child(options, name) -> str | None:
    """Runs one check in a process of its own, for a minute at most; the reason if it failed."""
    limit = min(options.timeout, 60)
    command = [sys.executable, __file__, str(options.golden), "--only", name, "--here"]
    if options.project:
        command += ["--project", str(options.project)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit)
    except subprocess.TimeoutExpired:
        return f"not done after {limit} s"
    if done.returncode < 0:
        return f"the process was killed by signal {-done.returncode}"
    for line in done.stdout.splitlines():
        if line.startswith(f"FAIL {name} "):
            return line[len(f"FAIL {name} ") :]
    return None if f"ok {name}\n" in done.stdout else f"the process ended with {done.returncode}"


def on_alarm(_signum, _frame):
    raise TimeoutError("not done in time")


def run_check(options, name, function, isolate) -> str | None:
    if isolate and not options.here:
        return in_child(options, name)
    if hasattr(signal, "SIGALRM"):
        signal.signal(signal.SIGALRM, on_alarm)
        signal.alarm(options.timeout)
    try:
        import torch

        with torch.no_grad():
            function()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever the implementation throws is this check's result
        if options.verbose:
            traceback.print_exc()
        return one_line(error) or type(error).__name__
    finally:
        if hasattr(signal, "SIGALRM"):
            signal.alarm(0)
    return None


def cases(options):
    """(case, name of the check, function) for every check in the folder, cheap files first."""
    files = sorted(options.golden.glob("*.json"), key=lambda path: (path.stat().st_size, path.name))
    for path in files:
        data = json.loads(path.read_text())
        if data.get("kind") not in KINDS:
            continue
        tensors = Tensors(path.with_suffix(".safetensors"))
        for name, spec in data["cases"].items():
            case = KINDS[data["kind"]](name, spec, tensors, options)
            for check, function in case.checks():
                yield case, f"{name}.{check}", function


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("golden", type=Path, help="folder with the golden data")
    parser.add_argument("--project", type=Path, help="project folder, to find examples/convert_*.py")
    parser.add_argument("--only", action="append", help="glob of check names, may be repeated")
    parser.add_argument("--list", action="store_true", help="print the names of the checks only")
    parser.add_argument("--verbose", action="store_true", help="print tracebacks to stderr")
    parser.add_argument("--timeout", type=int, default=600, help="seconds per check (default 600)")
    parser.add_argument("--threads", type=int, default=1, help="torch threads (default 1)")
    parser.add_argument(
        "--reference", action="store_true",
        help="skip what compressai 1.2.8 itself cannot do (inputs that crash it, channel-slice models)",
    )  # fmt: skip
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if not options.golden.is_dir():
        parser.error(f"{options.golden} is not a folder")
    warnings.simplefilter("ignore")

    passed = failed = 0
    for case, name, function in cases(options):
        if options.only and not any(fnmatch.fnmatchcase(name, glob) for glob in options.only):
            continue
        if options.list:
            print(name)
            continue
        if options.reference and (case.spec.get("beyond_reference") or isinstance(case, ChannelSliceCase)):
            print(f"skip {name} not in compressai 1.2.8", flush=True)
            continue
        import torch

        torch.set_num_threads(options.threads)
        reason = run_check(options, name, function, case.spec.get("isolate", False))
        if reason is None:
            passed += 1
            print(f"ok {name}", flush=True)
        else:
            failed += 1
            print(f"FAIL {name} {reason}", flush=True)
    if not options.list:
        print(f"{passed} passed, {failed} failed", flush=True)
    return 1 if failed or (not options.list and not passed) else 0


def take_up_families() -> None:
    """Add the checks of later families, the files checks_*.py beside this one, to KINDS."""
    here = Path(__file__).resolve()
    sys.modules["check_golden"] = sys.modules[__name__]
    sys.path.insert(0, str(here.parent))
    for path in sorted(here.parent.glob("checks_*.py")):
        KINDS.update(importlib.import_module(path.stem).KINDS)


if __name__ == "__main__":
    take_up_families()
    sys.exit(main())
