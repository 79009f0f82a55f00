# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Speed of the entropy coder, on one thread, against constriction's AnsCoder.

Both code the same symbols, drawn from zero-mean Gaussians of random scales: ours with the 64 tables
of ``get_scale_table()``, constriction with its QuantizedGaussian and each symbol's scale. NumPy in,
NumPy out; calls in turn; processor time. Before that, all bytes are compared with those of the
plain Python coder of the tests. Ideal is the mean of -log2 of the symbols' probabilities under
exact Gaussians. ``interleaved`` is the layout of long strings in files, compared with the plain
one.

    python benchmarks/coder.py [--symbols 1000000] [--repeats 21] [--seed 0]
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import constriction
import numpy as np
import scipy.special
from _report import alternate, machine, summary

from compressai import ans
from compressai.entropy_models import GaussianConditional
from compressai.models import get_scale_table

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import reference_coder

AIMS = {"encode": 6, "decode": 10}
INTERLEAVED_AIMS = {"decode, symbols/s": 150e6, "bytes": 1.001}
SHORT_CALL = 192  # symbols of one position in the autoregressive models


def gaussian_tables() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Scales, and the tables for them as int32 arrays: (64,), (64, n), (64,), (64,)."""
    gaussian = GaussianConditional(None)
    gaussian.update_scale_table(get_scale_table())
    buffers = (gaussian.quantized_cdf, gaussian.cdf_length, gaussian.offset)
    return gaussian.scale_table.numpy().astype(float), *(buffer.numpy() for buffer in buffers)


def ideal_bits(symbols: np.ndarray, scales: np.ndarray) -> float:
    """Bits per symbol of an ideal coder that knows the Gaussians."""
    # Of the two tails, the one in which the difference does not cancel.
    far = -np.abs(symbols)
    mass = scipy.special.ndtr((far + 0.5) / scales) - scipy.special.ndtr((far - 0.5) / scales)
    return float(-np.log2(mass).mean())


def check(
    encoded: bytes, symbols: np.ndarray, indexes: np.ndarray, *tables: np.ndarray, lanes: int = 1
) -> None:
    """Compare with the plain Python coder: all bytes, and the first decoded symbols."""
    lists = [table.tolist() for table in tables]
    if encoded != reference_coder.encode(symbols.tolist(), indexes.tolist(), *lists, lanes=lanes):
        raise SystemExit("the stream differs from that of the plain Python coder")
    first = indexes[:500].tolist()
    if reference_coder.decode(encoded, first, *lists) != symbols[:500].tolist():
        raise SystemExit("the plain Python coder decodes other symbols")


def microseconds(function: Callable[[], Any], calls: int = 20_000) -> float:
    """Lowest mean time of a call in several rounds."""
    rounds = []
    for _ in range(5):
        start = time.process_time()
        for _ in range(calls // 5):
            function()
        rounds.append((time.process_time() - start) / (calls // 5))
    return min(rounds) * 1e6


def measure(count: int, repeats: int, seed: int) -> dict[str, Any]:
    scale_table, *arrays = gaussian_tables()
    rng = np.random.default_rng(seed)
    indexes = rng.integers(0, len(scale_table), count).astype(np.int32)
    scales = scale_table[indexes]
    symbols = np.round(rng.normal(0, scales)).astype(np.int32)

    tables = ans.CdfTables(*arrays)
    encoder, decoder = ans.RansEncoder(), ans.RansDecoder()
    encoded = encoder.encode_with_indexes(symbols, indexes, tables)
    check(encoded, symbols, indexes, *arrays)
    batch = symbols[None], indexes[None], tables
    [interleaved] = ans.encode_batch(*batch, threads=1, interleave=True)
    check(interleaved, symbols, indexes, *arrays, lanes=4)

    bound = int(-arrays[2].min())
    family = constriction.stream.model.QuantizedGaussian(-bound, bound)
    means = np.zeros(count)

    def other_encode() -> np.ndarray:
        coder = constriction.stream.stack.AnsCoder()
        coder.encode_reverse(symbols, family, means, scales)
        return coder.get_compressed()

    other_encoded = other_encode()

    def other_decode() -> np.ndarray:
        return constriction.stream.stack.AnsCoder(other_encoded).decode(family, means, scales)

    for decoded in (
        decoder.decode_with_indexes(encoded, indexes, tables),
        decoder.decode_with_indexes(interleaved, indexes, tables, check_end=True),
        other_decode(),
    ):
        np.testing.assert_array_equal(decoded, symbols)

    seconds = alternate(
        {
            "encode": lambda: encoder.encode_with_indexes(symbols, indexes, tables),
            "encode, constriction": other_encode,
            "encode, tables not prepared": lambda: encoder.encode_with_indexes(
                symbols, indexes, *arrays
            ),
            "encode, interleaved": lambda: ans.encode_batch(*batch, threads=1, interleave=True),
            "decode": lambda: decoder.decode_with_indexes(encoded, indexes, tables),
            "decode, interleaved": lambda: decoder.decode_with_indexes(
                interleaved, indexes, tables
            ),
            "decode, constriction": other_decode,
            "decode, tables not prepared": lambda: decoder.decode_with_indexes(
                encoded, indexes, *arrays
            ),
        },
        repeats,
        clock=time.process_time,
    )
    ratios = {
        task: summary([b / a for a, b in zip(seconds[task], seconds[f"{task[:6]}, constriction"])])
        for task in seconds
        if "constriction" not in task
    }
    short = np.ascontiguousarray(indexes[:SHORT_CALL])
    short_encoded = encoder.encode_with_indexes(symbols[:SHORT_CALL], short, tables)

    def short_decode() -> np.ndarray:
        return decoder.decode_with_indexes(short_encoded, short, tables)

    return {
        "symbols": count,
        "repeats": repeats,
        "seed": seed,
        "bits_per_symbol": {
            "ours": 8 * len(encoded) / count,
            "constriction": 32 * len(other_encoded) / count,
            "ideal": ideal_bits(symbols, scales),
        },
        "symbols_per_second": {
            task: summary([count / value for value in values]) for task, values in seconds.items()
        },
        "times_constriction": ratios,
        "times_plain": {
            task: summary([b / a for a, b in zip(seconds[f"{task}, interleaved"], seconds[task])])
            for task in AIMS
        },
        "interleaved_bytes_over_plain": len(interleaved) / len(encoded),
        "microseconds": {
            "prepare the tables": microseconds(lambda: ans.CdfTables(*arrays), 500),
            f"decode {SHORT_CALL} symbols": microseconds(short_decode),
        },
        "bytes_of_tables": tables.nbytes,
    }


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--symbols", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=21)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    command = " ".join(["python", *sys.argv])
    versions = {**machine(), "threads": 1, "constriction": version("constriction")}
    print(json.dumps({"benchmark": "coder", "command": command, **versions}))
    result = measure(args.symbols, args.repeats, args.seed)
    print(json.dumps(result))

    bits = result["bits_per_symbol"]
    print(
        f"bits/symbol: {bits['ours']:.5f}, constriction {bits['constriction']:.5f}, "
        f"ideal {bits['ideal']:.5f}"
    )
    for task, rate in result["symbols_per_second"].items():
        print(
            f"{task:<28} {rate['median'] / 1e6:7.1f} M symbols/s "
            f"({rate['min'] / 1e6:.1f} .. {rate['max'] / 1e6:.1f})"
        )
    for task, ratio in result["times_constriction"].items():
        aim = f", aim: at least {AIMS[task]}" if task in AIMS else ""
        print(
            f"{task}: {ratio['median']:.1f} x constriction "
            f"({ratio['min']:.1f} .. {ratio['max']:.1f}{aim})"
        )
    for task, ratio in result["times_plain"].items():
        print(
            f"{task}, interleaved: {ratio['median']:.2f} x plain "
            f"({ratio['min']:.2f} .. {ratio['max']:.2f})"
        )
    print(
        f"interleaved: {result['interleaved_bytes_over_plain'] - 1:.4%} bytes more; aims: at least "
        f"{INTERLEAVED_AIMS['decode, symbols/s'] / 1e6:.0f} M symbols/s, at most "
        f"{INTERLEAVED_AIMS['bytes'] - 1:.1%} bytes"
    )
    for task, value in result["microseconds"].items():
        print(f"{task}: {value:.2f} us")


if __name__ == "__main__":
    main()
