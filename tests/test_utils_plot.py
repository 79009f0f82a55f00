# SPDX-License-Identifier: BSD-3-Clause-Clear
"""``compressai.utils.plot``: its command line, output and files stay what they were."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from PIL import Image

from compressai.utils.plot import __main__ as plot


def run(program, capsys, *arguments):
    """What a program prints on stdout and on stderr."""
    program.main([str(argument) for argument in arguments])
    return capsys.readouterr()


@pytest.fixture
def result_file(folder):
    path = folder / "jpeg.v1.json"
    results = {"bpp": [0.5, 1.0], "psnr-rgb": [30, 33], "ms-ssim-rgb": [0.9, 0.99]}
    path.write_text(json.dumps({"name": "JPEG", "results": results}))
    return path


def test_parsed_results_are_a_curve(result_file, capsys):
    parse = plot.parse_json_file
    expected = {"name": "JPEG", "xs": [0.5, 1.0], "ys": [30, 33]}
    assert parse(result_file, "psnr") == parse(result_file, "psnr-rgb") == expected
    assert parse(result_file, "ms-ssim")["ys"] == pytest.approx([10, 20])
    with pytest.raises(ValueError, match=r"psnr-rgb, ms-ssim-rgb"):
        parse(result_file, "vmaf")
    result_file.write_text("{")
    with pytest.raises(ValueError, match="no JSON"):
        parse(result_file, "psnr")
    assert "cannot be read" in capsys.readouterr().out


@pytest.mark.parametrize("metric", ["psnr", "psnr-rgb", "ms-ssim-rgb"])
def test_plot_draws_with_matplotlib(metric, result_file, capsys, folder):
    pytest.importorskip("matplotlib")
    before = sorted(folder.iterdir())
    run(plot, capsys, "-f", result_file, "-m", metric)
    assert sorted(folder.iterdir()) == before
    run(
        *(plot, capsys, "-f", result_file, result_file, "-m", metric, "-t", "title"),
        *("-o", "out.png", "--figsize", "4", "3", "--axes", "0", "2", "0", "40"),
    )
    with Image.open("out.png") as sample:
        assert sample.size == (1200, 900)


@pytest.mark.parametrize(
    ("backend", "figures", "method"),
    [
        ("matplotlib", "matplotlib.figure", "savefig"),
        ("plotly", "plotly.graph_objects", "write_html"),
    ],
)
def test_plot_that_fails_keeps_the_old_file(
    backend, figures, method, result_file, folder, monkeypatch
):
    def fail(figure, path, **options):
        Path(path).write_text("half")
        raise OSError("no space left")

    monkeypatch.setattr(pytest.importorskip(figures).Figure, method, fail)
    Path("out.png").write_text("old")
    before = sorted(folder.iterdir())
    with pytest.raises(OSError, match="no space"):
        plot.main(["-f", str(result_file), "-o", "out.png", "--backend", backend])
    assert Path("out.png").read_text() == "old"
    assert sorted(folder.iterdir()) == before


def test_plot_without_suffix_is_png(result_file):
    pytest.importorskip("matplotlib")
    plot.main(["-f", str(result_file), "-o", "curves"])
    with Image.open("curves.png") as sample:
        assert sample.format == "PNG"


def test_plot_with_plotly_is_a_page(result_file, monkeypatch):
    pytest.importorskip("plotly")
    opened = []
    monkeypatch.setattr(plot.webbrowser, "open", opened.append)
    options = ["-f", str(result_file), "--backend", "plotly", "--axes", "0", "2", "0", "40"]
    plot.main([*options, "-o", "out.html", "-t", "a title"])
    page = Path("out.html").read_text(encoding="utf-8")
    assert "a title" in page
    assert "Bit-rate [bpp]" in page
    assert opened == []
    plot.main([*options, "--show"])
    assert opened == [Path("plot.html").resolve().as_uri()]


def test_plot_with_plotly_says_when_it_is_missing(result_file, monkeypatch):
    monkeypatch.setitem(sys.modules, "plotly", None)
    with pytest.raises(SystemExit, match="plotly"):
        plot.main(["-f", str(result_file), "--backend", "plotly"])
