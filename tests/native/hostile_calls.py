# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Calls every native function with one argument after the other replaced by something hostile.

    python tests/native/hostile_calls.py [--every N] [BUILD_FOLDER]

Each call has to return, or to raise TypeError or ValueError and name an argument. It must write to
nothing but its output, and not beyond that. Where only the kind of an array differs (its layout,
alignment or type) and the call returns, the result must be that of the plain array.

The calls of a function run in a process of their own, forked from this one; when it dies, the call
is noted and another process goes on behind it. With a folder, the native modules of that build are
called, such as one with sanitisers. With `--every`, only one of so many calls is made. Prints what
failed, then how many calls there were, and exits with 1 if something failed.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from hostile_values import Case, cases, check_memory, plain
from run_with_build import use_build

Arguments = dict[str, Any]

SECONDS = 60  # for one call, with sanitisers on a busy machine
# Arrays of no bytes may have so many rows that the list of results does not fit into memory.
FINE = (TypeError, ValueError, MemoryError)
# What messages call an argument that is several arrays together, or came from afar.
SUBJECTS = ("the stream", "a stream", "of the latent")


class Call(NamedTuple):
    """A function with arguments that it takes; ``self`` of methods is one of them."""

    name: str
    function: Callable[..., Any]
    arguments: Callable[[], Arguments]

    def __call__(self, arguments: Arguments) -> Any:
        named = dict(arguments)
        first = [named.pop("self")] if "self" in named else []
        return self.function(*first, **named)


def int32(*values: Any) -> np.ndarray:
    return np.array(values, dtype=np.int32)


def float32(*values: Any) -> np.ndarray:
    return np.array(values, dtype=np.float32)


def ans_calls() -> Iterator[Call]:
    from compressai import ans

    cdfs, sizes, offsets = [[0, 30000, 50000, 65536], [0, 65536]], [4, 2], [-1, 0]
    padded = int32(cdfs[0], [0, 65536, 0, 0])
    symbols, indexes = [0, -1, 5, 70000, 0, -9], [0, 0, 0, 0, 1, 1]
    tables = ans.CdfTables(cdfs, sizes, offsets)
    stream = ans.RansEncoder().encode_with_indexes(symbols, indexes, tables)
    both = (int32(symbols, symbols), int32(indexes, indexes))

    def decoder() -> ans.RansDecoder:
        decoder = ans.RansDecoder()
        decoder.set_stream(stream)
        return decoder

    as_lists = {"cdfs": cdfs, "cdfs_sizes": sizes, "offsets": offsets}
    as_arrays = {"cdfs": padded, "cdfs_sizes": int32(*sizes), "offsets": int32(*offsets)}
    some = {"symbols": symbols, "indexes": indexes}
    arrays = {"symbols": int32(*symbols), "indexes": int32(*indexes)}

    yield Call("CdfTables", ans.CdfTables, lambda: {**as_lists})
    yield Call("CdfTables", ans.CdfTables, lambda: {**as_arrays})
    for method in ("__len__", "__repr__", "__copy__", "__reduce__"):
        yield Call(f"CdfTables.{method}", getattr(ans.CdfTables, method), lambda: {"self": tables})
    yield Call("CdfTables.nbytes", ans.CdfTables.nbytes.fget, lambda: {"self": tables})
    yield Call(
        "CdfTables.__deepcopy__", ans.CdfTables.__deepcopy__, lambda: {"self": tables, "memo": {}}
    )
    for coder in (ans.RansEncoder, ans.BufferedRansEncoder):
        for given, prepared in (
            (some, as_lists),
            (some, {"tables": tables}),
            (arrays, {"tables": tables}),
            (arrays, as_arrays),
        ):
            yield Call(
                f"{coder.__name__}.encode_with_indexes",
                coder.encode_with_indexes,
                lambda coder=coder, given=given, prepared=prepared: {
                    "self": coder(),
                    **given,
                    **prepared,
                },
            )
    yield Call(
        "BufferedRansEncoder.flush",
        ans.BufferedRansEncoder.flush,
        lambda: {"self": ans.BufferedRansEncoder(), "interleave": True},
    )
    for given, prepared in (
        (indexes, as_lists),
        (indexes, {"tables": tables}),
        (int32(*indexes), {"tables": tables}),
        (int32(*indexes), as_arrays),
    ):
        yield Call(
            "RansDecoder.decode_with_indexes",
            ans.RansDecoder.decode_with_indexes,
            lambda given=given, prepared=prepared: {
                "self": ans.RansDecoder(),
                "encoded": stream,
                "indexes": given,
                **prepared,
                "check_end": True,
            },
        )
        yield Call(
            "RansDecoder.decode_stream",
            ans.RansDecoder.decode_stream,
            lambda given=given, prepared=prepared: {
                "self": decoder(),
                "indexes": given,
                **prepared,
            },
        )
    yield Call(
        "RansDecoder.set_stream",
        ans.RansDecoder.set_stream,
        lambda: {"self": ans.RansDecoder(), "encoded": stream},
    )
    yield Call("RansDecoder.finished", ans.RansDecoder.finished.fget, lambda: {"self": decoder()})
    yield Call(
        "encode_batch",
        ans.encode_batch,
        lambda: {
            "symbols": both[0],
            "indexes": both[1],
            "tables": tables,
            "threads": 2,
            "interleave": True,
        },
    )
    yield Call(
        "decode_batch",
        ans.decode_batch,
        lambda: {
            "encoded": [stream, bytearray(stream)],
            "indexes": both[1],
            "tables": tables,
            "threads": 2,
            "check_end": True,
        },
    )


def cxx_calls() -> Iterator[Call]:
    from compressai import _CXX

    levels = _CXX.ScaleLevels([0.1, 1.0, 2.0, 50.0])
    scales = float32([-1, 0, 0.05, 0.5], [1.5, 30, 60, 1e9])
    values = float32([-0.5, 0.5, 0.4, 100], [3, 2, -7.25, 0])
    ranks = int32(0, 127, 3, 64)
    pmfs = float32([0.5, 0.25, 0.25], [1, 0, 0])

    yield Call(
        "pmf_to_quantized_cdf",
        _CXX.pmf_to_quantized_cdf,
        lambda: {"pmf": float32(0.5, 0.25, 0.25), "precision": 16},
    )
    yield Call(
        "pmf_to_quantized_cdf",
        _CXX.pmf_to_quantized_cdf,
        lambda: {"pmf": [0.5, 0.25, 0.25], "precision": 16},
    )
    yield Call(
        "pmfs_to_quantized_cdfs",
        _CXX.pmfs_to_quantized_cdfs,
        lambda: {
            "pmfs": pmfs,
            "tail_masses": float32([0.1], [0.2]),
            "lengths": int32(3, 1),
            "precision": 16,
        },
    )
    yield Call("ScaleLevels", _CXX.ScaleLevels, lambda: {"levels": float32(0.1, 1, 2, 50)})
    yield Call("ScaleLevels", _CXX.ScaleLevels, lambda: {"levels": [0.1, 1, 2, 50]})
    yield Call("ScaleLevels.__len__", _CXX.ScaleLevels.__len__, lambda: {"self": levels})
    yield Call(
        "table_rows", _CXX.table_rows, lambda: {"scales": scales, "levels": levels, "first": 1}
    )
    for means in (values, None):
        yield Call(
            "latent_symbols",
            _CXX.latent_symbols,
            lambda means=means: {
                "values": values,
                "means": None if means is None else means / 3,
                "scales": scales,
                "levels": levels,
                "first": 1,
            },
        )
        yield Call(
            "dead_zone_symbols",
            _CXX.dead_zone_symbols,
            lambda means=means: {
                "values": values,
                "means": None if means is None else means / 3,
                "scales": scales,
                "dead_zone": 0.02,
            },
        )
    # Levels of which the first threshold can be shifted below 0, and guards of 0 beside it.
    for guards in (float32(0.01, 0.5), float32(0, 0)):
        for given in (values, None):
            yield Call(
                "plan_sync",
                _CXX.plan_sync,
                lambda guards=guards, given=given: {
                    "scales": scales,
                    "values": given,
                    "levels": levels,
                    "step": 0.25,
                    "scale_guards": guards,
                    "value_guards": None if given is None else guards / 2,
                    "slope": 0.01,
                    "max_blocks": 4,
                },
            )
    yield Call(
        "round_scales",
        _CXX.round_scales,
        lambda: {"scales": scales, "levels": levels, "ranks": ranks},
    )
    yield Call(
        "round_values", _CXX.round_values, lambda: {"values": values, "step": 0.25, "ranks": ranks}
    )


def kernel_calls() -> Iterator[Call]:
    from compressai import _kernels

    yield Call("available", _kernels.available, dict)
    yield Call("has_tiles", _kernels.has_tiles, dict)
    if not _kernels.available():
        return
    random = np.random.default_rng(0)

    def some(*shape: int) -> np.ndarray:
        return random.normal(size=shape).astype(np.float32)

    def zeros(*shape: int) -> np.ndarray:
        return np.zeros(shape, dtype=np.float32)

    x = some(1, 5, 6, 16)
    # Pieces of 32 inputs and 64 outputs, two numbers of bfloat16 in each.
    pieces = (some(4, 3, 512).view(np.uint32) >> 16).astype(np.uint16).view(np.float32)
    tiled = [("conv1x1", pieces)] if _kernels.has_tiles() else []
    for name, weights in (
        *tiled,
        ("conv3x3", some(36, 4, 16, 16)),
        ("conv5x5", some(36, 4, 16, 16)),
        ("conv1x1", some(4, 16, 16)),
        ("conv1x1", some(14, 16, 16)),  # of the products of halves of 32 inputs and 64 outputs
    ):
        whole = {
            "x": some(1, 5, 6, 32) if len(weights) == 14 or weights.shape[2] == 256 else x,
            "weights": weights,
            "bias": some(64),
            "slope": 0.1,
            "gelu": False,
            "residual": some(1, 10, 12, 16),
            "activate_sum": True,
            "shuffle": 2,
            "planes": 0,
            "out": zeros(1, 10, 12, 16),
            "threads": 2,
        }
        planar = {
            **whole,
            "bias": None,
            "gelu": True,
            "residual": None,
            "activate_sum": False,
            "planes": 3,
            "out": zeros(1, 3, 10, 12),
        }
        for given in (whole, planar):
            yield Call(name, getattr(_kernels, name), lambda given=given: given)
    depthwise = {
        "x": x,
        "weights": some(3, 3, 16),
        "bias": some(16),
        "slope": 0.1,
        "gelu": False,
        "gate": x / 2,
        "out": zeros(*x.shape),
        "threads": 2,
    }
    yield Call("depthwise3x3", _kernels.depthwise3x3, lambda: depthwise)
    pair = {
        "x": x,
        "hidden_weights": some(3, 16, 16),
        "hidden_bias": some(48),
        "hidden_slope": 0.1,
        "hidden_gelu": False,
        "weights": some(2, 48, 16),
        "bias": some(32),
        "slope": 1.0,
        "gelu": False,
        "residual": some(1, 5, 6, 32),
        "activate_sum": False,
        "out": zeros(1, 5, 6, 32),
        "threads": 2,
    }
    yield Call("conv1x1_pair", _kernels.conv1x1_pair, lambda: pair)
    normalisation = {
        "x": x,
        "gamma": np.abs(some(1, 16, 16)),
        "beta": np.abs(some(16)),
        "inverse": False,
        "rootless": False,
        "residual": x / 2,
        "out": zeros(*x.shape),
        "threads": 2,
    }
    yield Call("gdn", _kernels.gdn, lambda: normalisation)

    norm = (some(16), some(16), 1e-5)
    wide = some(1, 5, 6, 32)
    block = {
        "x": x,
        "out": zeros(*x.shape),
        "window": (2, 4),
        "shift": 1,
        "heads": 2,
        "scale": 0.5,
        "bias": some(4 * 2 * 8 * 32),
        "skip": True,
        "norm1": norm,
        "qkv": (some(3, 16, 16), some(48)),
        "proj": (some(1, 16, 16), some(16)),
        "norm2": norm,
        "mlp": (20, (some(2, 16, 16), some(32)), (some(1, 20, 16), some(16))),
        "threads": 2,
    }
    parts = {**block, "x": wide[..., :16], "out": zeros(1, 5, 6, 32)[..., 16:], "mlp": None}
    for given in (block, {**parts, "norm1": None, "norm2": None}):
        yield Call("window_block", _kernels.window_block, lambda given=given: given)

    scan = {
        "x": some(1, 3, 4, 20),
        "params": some(1, 3, 4, 4, 2 + 2 * 5),
        "weights": some(4, 2, 20),
        "bias": some(4, 20),
        "decay": -np.abs(some(4, 5, 20)),
        "skip": some(4, 20),
        "out": zeros(1, 3, 4, 20),
        "threads": 2,
    }
    for given in (scan, {**scan, "params": some(1, 3, 4, 4, 20 + 2 * 5), "weights": None}):
        yield Call("selective_scan", _kernels.selective_scan, lambda given=given: given)


def check_complete(modules: dict[str, list[Call]]) -> None:
    """Fail if a module has a function or method that is not called."""
    for name, calls in modules.items():
        module = sys.modules[name]
        known = {call.name for call in calls}
        for public in (n for n in dir(module) if not n.startswith("__")):
            value = getattr(module, public)
            if not isinstance(value, type):
                if public not in known:
                    raise SystemExit(f"{name}.{public} is not called")
                continue
            for method, defined in vars(value).items():
                is_plain = method in ("__doc__", "__module__", "__new__", "__init__")
                if is_plain or not (callable(defined) or hasattr(defined, "__get__")):
                    continue
                if f"{public}.{method}" not in known:
                    raise SystemExit(f"{name}.{public}.{method} is not called")


def judge(call: Call, case: Case, expected: Any) -> str | None:
    """What is wrong with the outcome of a call, if anything."""
    try:
        result = call(case.arguments)
    except FINE as error:
        text = str(error)
        names = [*(name.removesuffix("s") for name in case.arguments), *SUBJECTS]
        if isinstance(error, MemoryError) or any(name in text for name in names):
            return check_memory(case)
        return f"{type(error).__name__} that names no argument: {text}"
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
    wrong = check_memory(case)
    if wrong or not case.same:
        return wrong
    got = plain(result, case.arguments)
    return None if got == expected else f"another result: {got} instead of {expected}"


def run_from(call: Call, first: int, every: int, report: int) -> None:
    """In a process of its own: make each so-manyth call from a number on and write about each."""
    warnings.simplefilter("ignore")  # of nanobind, about objects that were never initialised
    baseline = next(cases(call.arguments))()
    expected = plain(call(baseline.arguments), baseline.arguments)
    for number, make_case in enumerate(cases(call.arguments)):
        if number < first or (number - first) % every:
            continue
        case = make_case()
        os.write(report, (json.dumps([number, case.what, "died"]) + "\n").encode())
        signal.alarm(SECONDS)
        wrong = judge(call, case, expected)
        signal.alarm(0)
        os.write(report, (json.dumps([number, case.what, wrong]) + "\n").encode())


def run(call: Call, first: int, every: int) -> tuple[int, list[str]]:
    """Make each so-manyth call from a number on; how many there were, and what failed."""
    failed: list[str] = []
    made = 0
    while True:
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            status = 1
            try:
                os.close(read)
                run_from(call, first, every, write)
                status = 0
            except BaseException:
                traceback.print_exc()  # of this program, not of a call
            finally:
                os._exit(status)
        os.close(write)
        outcomes: dict[int, tuple[str, str | None]] = {}
        with os.fdopen(read) as lines:
            for line in lines:
                number, what, wrong = json.loads(line)
                outcomes[number] = (what, wrong)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        failed += [f"{call.name}: {what}: {bad}" for what, bad in outcomes.values() if bad]
        made += len(outcomes)
        if status == 0:
            return made, failed
        if not outcomes or not outcomes[max(outcomes)][1]:
            return made, [*failed, f"{call.name}: the process ended with {status} between calls"]
        first = max(outcomes) + every
        failed[-1] += f" ({status})"


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("build", type=Path, nargs="?")
    options = parser.parse_args()
    if options.build:
        use_build(options.build)
    torch.set_num_threads(1)
    modules = {
        "compressai.ans": list(ans_calls()),
        "compressai._CXX": list(cxx_calls()),
        "compressai._kernels": list(kernel_calls()),
    }
    check_complete({name: calls for name, calls in modules.items() if len(calls) > 1})
    number, failed = 0, []
    for calls in modules.values():
        for i, call in enumerate(calls):
            made, wrong = run(call, i % options.every, options.every)
            number += made
            failed += wrong
            for what in wrong:
                print(what, flush=True)
    print(f"{number} calls, {len(failed)} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
