# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The end of a run says what was left out and how to run it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from not_run import print_not_run

ARGS, ALL = pytest.Config.ArgsSource.ARGS, pytest.Config.ArgsSource.TESTPATHS


class Reporter:
    """Keeps what is printed."""

    def __init__(self, source: pytest.Config.ArgsSource, **stats: list[object]) -> None:
        self.stats = stats
        self.config = SimpleNamespace(args_source=source)
        self.text = ""

    def section(self, title: str) -> None:
        self.text += f"== {title}\n"

    def write_line(self, line: str) -> None:
        self.text += f"{line}\n"


def skip(reason: str, path: str = "tests/test_a.py") -> SimpleNamespace:
    return SimpleNamespace(nodeid=f"{path}::test", longrepr=(path, 3, f"Skipped: {reason}"))


def printed(source: pytest.Config.ArgsSource, **stats: list[object]) -> str:
    reporter = Reporter(source, **stats)
    print_not_run(reporter)
    return reporter.text


def test_skipped_tests_are_counted_by_file_and_reason_with_a_cure() -> None:
    text = printed(
        ARGS,
        skipped=[
            skip("needs a CUDA device"),
            skip("needs a CUDA device"),
            skip("chromedriver not installed", "tests/test_page.py"),
            skip("could not import 'av': No module named 'av'"),
            skip("the moon is full"),
        ],
    )
    assert "2 skipped, tests/test_a.py: needs a CUDA device" in text
    assert "1 skipped, tests/test_page.py: chromedriver" in text
    assert "to run: apt-get install chromium chromium-driver" in text
    assert "to run: make install" in text
    assert "to run: make test where the reason does not hold" in text


def test_tests_left_out_by_options_are_counted() -> None:
    assert "3 left out by options" in printed(ARGS, deselected=[object()] * 3)


def test_a_run_of_all_tests_names_the_other_targets() -> None:
    text = printed(ALL)
    for target in ("test-slow", "test-processors", "test-lowest", "sanitize", "fuzz"):
        assert f"make {target}" in text


def test_nothing_is_printed_when_all_that_was_asked_for_ran() -> None:
    assert printed(ARGS) == ""
