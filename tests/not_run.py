# SPDX-License-Identifier: BSD-3-Clause-Clear
"""What a run of the tests left out, and how to run it: the last thing that pytest prints."""

from __future__ import annotations

import re
from collections import Counter

import pytest

__all__ = ["print_not_run"]

# What to do, by words of the reason.
_CURES = (
    (r"could not import", "make install, which installs all extras"),
    (r"CUDA device", "make test on a machine that has one, or has none"),
    (r"emscripten", "apt-get install emscripten nodejs npm, then make web test"),
    (r"make web", "make web test"),
    (r"chromium|chromedriver", "apt-get install chromium chromium-driver, then make test"),
    (r"no kernels for the processor", "make test on an x86 processor with AVX2"),
    (r"oneDNN", "make test with a torch that has oneDNN, as those for x86 have"),
    (r"glibc|linux|VTM|/dev/full|device that is always full", "make test on Linux with glibc"),
)
_NO_CURE = "make test where the reason does not hold"
# What `make test` does not include, since it takes long or an environment of its own.
_OTHERS = (
    ("tests/test_cluster_ray.py, on a Ray cluster of two nodes", "make test-slow"),
    ("numeric tests as on other processors", "make test-processors"),
    ("tests with the oldest versions of what the library needs", "make test-lowest"),
    ("native code under sanitisers, and fuzzing", "make sanitize, make fuzz"),
)


def print_not_run(reporter: pytest.TerminalReporter) -> None:
    """Print a section about skipped tests, those left out by options, and other targets.

    Args:
        reporter: of the run, when it is over.
    """
    skipped = Counter(_reason(report) for report in reporter.stats.get("skipped", []))
    lines = [
        f"{count} skipped, {reason}\n    to run: {_cure(reason)}"
        for reason, count in skipped.most_common()
    ]
    deselected = len(reporter.stats.get("deselected", []))
    if deselected:
        lines.append(f"{deselected} left out by options\n    to run: without -k and -m")
    if reporter.config.args_source is pytest.Config.ArgsSource.TESTPATHS:
        lines += [f"{what}\n    to run: {how}" for what, how in _OTHERS]
    if lines:
        reporter.section("not run")
        for line in lines:
            reporter.write_line(line)


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    """Where and why; of a parametrised test the same for all its cases."""
    path, _, reason = report.longrepr
    return f"{report.nodeid.partition('::')[0] or path}: {reason.removeprefix('Skipped: ')}"


def _cure(reason: str) -> str:
    return next((cure for words, cure in _CURES if re.search(words, reason)), _NO_CURE)
