# SPDX-License-Identifier: BSD-3-Clause-Clear
"""What is compiled for other systems; compiling itself needs a compiler from the index."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "packages"))
import cross_compile


@pytest.mark.parametrize(
    ("system", "machine"), [("windows", "x86_64"), ("macos", "aarch64"), ("linux", "x86_64")]
)
def test_every_source_is_compiled_with_warnings_as_errors(system: str, machine: str) -> None:
    units = list(cross_compile._units(Path("nanobind"), system, machine))
    ours = {source for source, flags in units if "-Werror" in flags}
    assert ours == set(cross_compile.SOURCES.rglob("*.cpp"))
    kernels = [
        flags for source, flags in units if any("KERNEL_INSTRUCTIONS" in flag for flag in flags)
    ]
    assert bool(kernels) == (machine == "x86_64")
    assert any("-mamx-tile" in flags for flags in kernels) == (system == "linux")


def test_windows_gets_a_configuration_of_its_own(tmp_path: Path) -> None:
    headers = cross_compile.python_headers(tmp_path / "python", "windows")
    assert "MS_WIN64" in (headers / "pyconfig.h").read_text()
    assert (headers / "Python.h").exists()


def test_targets_of_other_systems_are_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 12, 1))
    with pytest.raises(SystemExit):
        cross_compile.main(["x86_64-beos"])
    assert "x86_64-beos is none of MACHINE-windows-gnu" in capsys.readouterr().err
