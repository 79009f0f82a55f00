# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Published points: told as the documentation has them, compared, drawn."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from program import save_photo

from compressai.evaluation import bd_rate, bd_rates_against, published_bd_rates, published_curves
from compressai.zoo import image_models

DOCS = Path(__file__).parents[1] / "docs"
pytestmark = pytest.mark.usefixtures("folder")


def test_curves_rise_and_say_where_they_are_from() -> None:
    for curve in published_curves():
        assert curve.model in image_models
        assert len(curve.bpp) == len(curve.values) >= 5
        for (rate, value), (more, better) in pairwise(zip(curve.bpp, curve.values)):
            assert rate < more
            assert value < better
        assert curve.source
        assert curve.metric == "psnr" or max(curve.values) < 1
    assert all(rate.anchor and rate.source for rate in published_bd_rates())


@pytest.mark.parametrize("page", ["dcae", "saaf", "hpcm", "mlic"])
def test_pages_tell_the_same_points(page: str) -> None:
    told = set(re.findall(r"[0-9]+\.[0-9]+", (DOCS / f"{page}.md").read_text()))
    models = {"hpcm": ["hpcm-base", "hpcm-large"], "mlic": ["mlic", "mlicplus", "mlicpp"]}
    for curve in published_curves(models.get(page, [page]), dataset="kodak", metric="psnr"):
        for value in (*curve.bpp, *curve.values):
            assert any(abs(float(text) - value) <= 0.0051 for text in told), (curve.model, value)


def test_bd_rate_of_saaf_is_that_of_its_page() -> None:
    """Computed from the two tables when the page was written: -0.44, -0.36, -0.53."""
    for dataset, known in (("kodak", -0.44), ("clic", -0.36), ("tecnick", -0.53)):
        anchor = published_curves(["dcae"], dataset=dataset, metric="psnr")[0].points()
        curves = published_curves(["dcae", "saaf"], dataset=dataset, metric="psnr")
        (_, itself), (_, rate) = bd_rates_against(anchor, curves)
        assert itself == pytest.approx(0, abs=1e-9)
        assert rate == pytest.approx(known, abs=0.01)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"models": ["vtm"]}, "model must be one of dcae, .*, got 'vtm'"),
        ({"dataset": "imagenet"}, "dataset must be one of clic, kodak, tecnick, got 'imagenet'"),
        ({"metric": "lpips"}, "metric must be one of ms-ssim, psnr, got 'lpips'"),
        (
            {"models": ["mambavc"], "dataset": "clic"},
            "no points of mambavc are known on clic in any metric",
        ),
    ],
)
def test_what_is_not_known(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        published_curves(**arguments)


def test_program_compares_with_results_of_ones_own(run: Any) -> None:
    curve = published_curves(["dcae"], dataset="kodak", metric="psnr")[0]
    half = {"bpp": [rate / 2 for rate in curve.bpp], "psnr-rgb": [*curve.values]}
    Path("mine.json").write_text(json.dumps({"name": "mine", "results": half}))
    status, out, err = run("published", "dcae", "--anchor", "mine.json", "--json")
    assert (status, err) == (0, "")
    report = json.loads(out)
    assert report["curves"][0]["bd_rate"] == pytest.approx(100)
    assert [rate["percent"] for rate in report["bd_rates_as_published"]] == [-17.0]
    status, out, _ = run("published", "dcae", "hpcm-large", "--anchor", "dcae")
    assert status == 0
    assert "-3.3 %" in out


def test_program_draws_them_beside_results(run: Any) -> None:
    mine = {"name": "mine", "results": {"bpp": [0.2, 0.4], "psnr-rgb": [30.0, 33.0]}}
    Path("mine.json").write_text(json.dumps(mine))
    status, _, err = run("plot", "mine.json", "--published", "dcae", "saaf", "-o", "drawn.svg")
    assert (status, err) == (0, "")
    drawn = Path("drawn.svg").read_text()
    assert all(name in drawn for name in ("mine", "dcae (published)", "saaf (published)"))
    status, _, err = run("plot")
    assert status
    assert "nothing to draw" in err


def test_evaluation_is_compared_with_points_that_others_have(run: Any, folder: Path) -> None:
    """Of a paper, and of the user's own: a BD-rate for each, and all of them drawn."""
    save_photo()
    own = {"bpp": [0.5, 1.0, 2.0, 4.0], "psnr": [25.0, 29.0, 33.0, 38.0]}
    Path("vtm.json").write_text(json.dumps(own))
    status, out, err = run(
        *("eval", "photo.png", "-q", 20, 50, 80, "--against", "jpeg", "dcae", "vtm.json"),
        *("--precision", "fp32", "--no-lpips", "--json", "result.json", "--plot", "plot.svg"),
    )
    assert status == 0, err
    assert re.search(r"lite +dcae \(published\) ", out)
    assert re.search(r"lite +vtm +[+-][0-9.]+ %", out)
    result = json.loads(Path("result.json").read_text())
    assert [curve["name"] for curve in result["references"]] == ["dcae (published)", "vtm"]
    rates = {rate["anchor"]: rate["percent"] for rate in result["reference_bd_rates"]}
    [lite] = [curve["results"] for curve in result["curves"] if curve["name"] == "lite"]
    mine = list(zip(lite["bpp"], lite["psnr-rgb"]))
    assert rates["vtm"] == pytest.approx(bd_rate([*zip(own["bpp"], own["psnr"])], mine))
    assert "vtm" in Path("plot.svg").read_text()
    # What was written is an anchor, too.
    assert run("published", "dcae", "--anchor", "result.json")[0] == 0


@pytest.mark.parametrize(
    ("anchor", "message"),
    [
        ("vtm", "no points of vtm on kodak are known here, only BD-rates against it"),
        ("avif-2020", 'or a JSON file with lists bpp and psnr, as {"bpp": [0.2, 0.5], "psnr": ['),
        ("bpg", "no points of bpg on kodak are known here: name one of dcae, "),
        ("mine.json", "mine.json must have lists bpp and psnr-rgb, got rate"),
    ],
)
def test_points_that_are_not_known_are_refused(run: Any, anchor: str, message: str) -> None:
    save_photo()
    Path("mine.json").write_text(json.dumps({"rate": [1.0], "psnr": [30.0]}))
    status, _, err = run("eval", "photo.png", "-q", 50, "--against", anchor)
    assert status == 2
    assert message in " ".join(err.replace("│", " ").split())


def test_plot_says_where_other_points_come_from(run: Any) -> None:
    Path("vtm.json").write_text(json.dumps({"bpp": [0.2, 0.5], "psnr": [31.0, 34.1]}))
    status, _, err = run("plot", "--published", "vtm", "-o", "plot.svg")
    assert status == 2
    said = " ".join(err.replace("│", " ").split())
    assert "--published: model must be one of dcae, " in said
    assert 'in one of the files, as {"bpp": [0.2, 0.5], "psnr": [31.0, 34.1]}' in said
    pytest.importorskip("matplotlib")
    assert run("plot", "vtm.json", "--published", "dcae", "-o", "plot.svg")[0] == 0
    assert "vtm" in Path("plot.svg").read_text()
