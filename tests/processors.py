# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The tests whose results depend on arithmetic, as on other processors: ``make test-processors``.

One machine can compute as several do: libraries are told to leave out instructions that the
processor has, and whether it is said to have AMX, whether there are native kernels and how many
threads torch takes is pretended, by :func:`pretend`, through variables of the environment:

| variable | |
|---|---|
| ``COMPRESSAI_TEST_AMX`` | ``yes`` or ``no``: whether bfloat16 counts as fast |
| ``COMPRESSAI_TEST_KERNELS`` | ``no``: do without native kernels |
| ``COMPRESSAI_TEST_THREADS`` | of torch in tests that ask for few (1) |

::

    python tests/processors.py [--only NAME ...] [options of pytest]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

TESTS = Path(__file__).parent

# Where a result of floating-point arithmetic decides about what is asserted, or where a precision
# is chosen; by what of a processor it depends on.
_TABLES = (
    "test_conformance_vectors.py",
    "test_entropy_bottleneck.py",
    "test_entropy_models.py",
    "test_gaussian_conditional.py",
)
_NETWORKS = (
    "test_bitstream_codec.py",
    "test_bitstream_corpus.py",
    "test_integer.py",
    "test_synchrony.py",
    "test_zoo_lite.py",
)
_KERNELS = ("test_inference.py", "test_kernels.py", "test_window_kernel.py")
_PRECISION = (
    "test_cli.py::test_files_of_every_precision_decode_in_every_precision",
    "test_cli.py::test_photo_goes_to_a_file_and_back_with_a_checkpoint",
    "test_cli.py::test_tiles_can_be_decoded_alone",
    "test_cli_levels.py",
    "test_cli_weights.py",
)
NUMERIC = (
    *_TABLES,
    "test_golden.py",
    *_NETWORKS,
    *_KERNELS,
    *_PRECISION,
    "test_benchmarks_precision.py",
    "test_recipe.py",
)
# One has all. The others have what their own instructions, kernels, threads or precision reach:
# all on each would take a quarter of an hour.
TESTS_OF = {
    "oldest": NUMERIC,
    "avx2": (
        *_TABLES,
        "test_golden.py::test_tables_are_those_of_the_reference_but_for_the_last_bits_of_functions",
        *_PRECISION,
        "test_inference.py",
        "test_recipe.py",
    ),
    "no-kernels": ("test_inference.py", "test_window_kernel.py", "test_bitstream_codec.py"),
    "avx512": ("test_entropy_bottleneck.py", "test_golden.py", *_NETWORKS),
    "amx": (*_PRECISION, "test_inference.py", "test_bitstream_corpus.py"),
}
# The markers and names of tests in them that take long and are the same on every processor.
SELECTION = (
    *("-m", "not slow", "-k"),
    "not compiled_training and not memory_stays and not every_whole_quality",
)


def pretend(environment: Mapping[str, str]) -> None:
    """Let torch and the library believe what the variables say.

    To be called before tests are imported.

    Raises:
        ValueError: a variable has none of its values.
    """
    amx = _choice(environment, "COMPRESSAI_TEST_AMX", ("yes", "no"))
    kernels = _choice(environment, "COMPRESSAI_TEST_KERNELS", ("no",))
    if amx:
        import torch

        pretended = {**_capabilities(), "amx_bf16": amx == "yes", "amx_tile": amx == "yes"}
        torch.cpu.get_capabilities = lambda: pretended
    if kernels:
        from compressai import _kernels

        _kernels.available = lambda: False


def _capabilities() -> dict[str, object]:
    import torch

    # Missing in torch 2.10.
    return getattr(torch.cpu, "get_capabilities", dict)()


def threads(environment: Mapping[str, str] = os.environ) -> int:
    """How many threads torch takes in tests that ask for few."""
    return int(environment.get("COMPRESSAI_TEST_THREADS", "1"))


def _choice(environment: Mapping[str, str], name: str, values: tuple[str, ...]) -> str | None:
    value = environment.get(name)
    if value is not None and value not in values:
        raise ValueError(f"{name} must be one of {values}, got {value!r}")
    return value


def variations(capabilities: Mapping[str, object]) -> Iterator[tuple[str, dict[str, str]]]:
    """Names of processors that this one can stand for, and the variables that make it do so.

    Each value of a variable is in one of them at least; all combinations would take an hour. What
    is run on each is in :data:`TESTS_OF`.

    Args:
        capabilities: what the processor at hand has, as ``torch.cpu.get_capabilities()`` says.
    """
    yield "oldest", _variables("default", "SSE41", amx="no", threads=1)
    if capabilities.get("avx2"):
        yield "avx2", _variables("avx2", "AVX2", amx="yes", threads=2)
        yield "no-kernels", _variables(None, "DEFAULT", amx="no", threads=1, kernels="no")
    if capabilities.get("avx512_f"):
        yield "avx512", _variables("avx512", "AVX512_CORE", amx="no", threads=2)
    # One that has AMX is that processor, as which all tests run anyway.
    if not (capabilities.get("amx_bf16") and capabilities.get("amx_tile")):
        yield "amx", _variables(None, "DEFAULT", amx="yes", threads=1)


def _variables(
    aten: str | None, onednn: str, *, amx: str, threads: int, kernels: str | None = None
) -> dict[str, str]:
    variables = {
        "ATEN_CPU_CAPABILITY": aten,
        "ONEDNN_MAX_CPU_ISA": onednn,
        "COMPRESSAI_TEST_AMX": amx,
        "COMPRESSAI_TEST_THREADS": str(threads),
        "COMPRESSAI_TEST_KERNELS": kernels,
    }
    return {name: value for name, value in variables.items() if value is not None}


def _paths(tests: Iterable[str]) -> list[str]:
    return [str((TESTS / test).relative_to(Path.cwd())) for test in tests]


def main(argv: list[str] | None = None) -> int:
    """Run the tests as on one processor after the other; the exit status of the program."""

    table = dict(variations(_capabilities()))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=table, default=list(table))
    parser.add_argument("--list", action="store_true", help="print the files of tests, run nothing")
    args, options = parser.parse_known_args(argv)
    if args.list:
        print(" ".join(_paths(NUMERIC)))
        return 0
    failed = []
    for name in args.only:
        words = " ".join(f"{key}={value}" for key, value in table[name].items())
        print(f"{name}: {words}", flush=True)
        start = time.monotonic()
        command = [sys.executable, "-m", "pytest", "-q", *SELECTION, *options]
        environment = {**os.environ, **table[name]}
        files = _paths(TESTS_OF[name])
        if subprocess.run([*command, *files], env=environment, check=False).returncode:
            failed.append(name)
        print(f"{name}: {time.monotonic() - start:.0f} s", flush=True)
    if failed:
        print(f"failed as on {', '.join(failed)}")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
