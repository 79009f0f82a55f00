# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Conformance vectors of the specification, with weights that are given by formula."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from deterministic import fill_module, hashed

from compressai import models
from compressai.entropy_models import (
    EntropyBottleneck,
    EntropyBottleneckVbr,
    GaussianConditional,
    GaussianMixtureConditional,
)

TABLES = Path(__file__).parent / "tables"
BASE_MODELS = json.loads((TABLES / "model_vectors.json").read_text())


def _hex(strings: list[list[bytes]]) -> list[list[str]]:
    return [[item.hex() for item in step] for step in strings]


def _vector_id(vector: dict) -> str:
    return f"{vector['model']}-{vector['salt'].rstrip(':')}"


@pytest.mark.parametrize(
    "vector", [v for v in BASE_MODELS if hasattr(models, v["model"])], ids=_vector_id
)
def test_tiny_model_reproduces_strings_and_images(vector: dict) -> None:
    net = getattr(models, vector["model"])(**vector["constructor"]).eval()
    fill_module(net, vector["salt"], vector["weight_gain"])
    net.update()
    if vector["constructor"].get("vr_entbttlnck"):
        net.update(force=True, scale=net.Gain[4])
    x = torch.from_numpy((hashed(vector["salt"] + "x", (2, 3, 64, 128)) + 0.5).astype(np.float32))
    kwargs = vector["call_kwargs"]

    state = net.state_dict()
    for key, digest in vector["cdf_sha256"].items():
        assert hashlib.sha256(state[key].numpy().tobytes()).hexdigest() == digest
    coded = net.compress(x, **kwargs)
    assert _hex(coded["strings"]) == vector["strings_hex"]
    x_hat = net.decompress(coded["strings"], coded["shape"], **kwargs)["x_hat"]
    sample = x_hat.flatten()[::4099][:8]
    torch.testing.assert_close(
        sample, torch.tensor(vector["decompress_x_hat_sample"]), atol=1e-5, rtol=1e-5
    )
    with torch.no_grad():
        out = net(x, **kwargs)
    sample = out["x_hat"].flatten()[::4099][:8]
    torch.testing.assert_close(
        sample, torch.tensor(vector["forward_x_hat_sample"]), atol=1e-5, rtol=1e-4
    )
    bits = {name: float(-p.log2().sum()) for name, p in out["likelihoods"].items()}
    assert bits == pytest.approx(vector["forward_eval_bits"], rel=1e-4)


def _filled_bottleneck(cls: type, vector: dict) -> torch.nn.Module:
    module = cls(vector["channels"]).eval()
    fill_module(module, vector["salt"])
    with torch.no_grad():
        module.quantiles.copy_(torch.tensor(vector["quantiles"])[:, None, :])
    return module


@pytest.fixture
def bottleneck_vector() -> dict:
    return json.loads((TABLES / "entropy_bottleneck_vectors.json").read_text())


def test_bottleneck_reproduces_tables_strings_and_likelihoods(bottleneck_vector: dict) -> None:
    vector = bottleneck_vector
    module = _filled_bottleneck(EntropyBottleneck, vector)
    assert module.update()
    assert module.offset.tolist() == vector["offset"]
    assert module.cdf_length.tolist() == vector["cdf_length"]
    assert module.quantized_cdf.tolist() == vector["quantized_cdf"]
    assert float(module.loss().detach()) == pytest.approx(vector["loss"], rel=1e-5)
    x = torch.tensor(vector["x"])
    y_hat, likelihood = module(x)
    torch.testing.assert_close(y_hat, torch.tensor(vector["y_hat"]))
    torch.testing.assert_close(likelihood, torch.tensor(vector["likelihood"]), atol=1e-6, rtol=1e-4)
    strings = module.compress(x)
    assert [s.hex() for s in strings] == vector["strings_hex"]
    assert torch.equal(module.decompress(strings, x.shape[2:]), y_hat)


def test_bottleneck_bisection_finds_the_quantiles_of_the_reference(bottleneck_vector: dict) -> None:
    module = _filled_bottleneck(EntropyBottleneck, bottleneck_vector)
    module.update(force=True, update_quantiles=True)
    want = torch.tensor(bottleneck_vector["quantiles_after_bisection"])
    torch.testing.assert_close(module.quantiles.detach(), want, atol=2e-3, rtol=2e-3)
    assert module.offset.tolist() == bottleneck_vector["offset_after_bisection"]
    assert module.cdf_length.tolist() == bottleneck_vector["cdf_length_after_bisection"]


def test_variable_rate_bottleneck_reproduces_tables_and_strings(bottleneck_vector: dict) -> None:
    vector = bottleneck_vector["vbr"]
    module = _filled_bottleneck(EntropyBottleneckVbr, bottleneck_vector)
    qs = torch.tensor(vector["qs"])
    assert module.update_variable(force=True, qs=qs)
    assert module.offset.tolist() == vector["offset"]
    assert module.cdf_length.tolist() == vector["cdf_length"]
    x = torch.tensor(bottleneck_vector["x"])
    strings = module.compress(x, qs=qs)
    assert [s.hex() for s in strings] == vector["strings_hex"]
    y_hat, _ = module(x, qs=qs)
    decoded = module.decompress(strings, x.shape[2:], qs=qs)
    torch.testing.assert_close(decoded, y_hat)


def test_mixture_reproduces_tables_and_string() -> None:
    vector = json.loads((TABLES / "gaussian_mixture_vectors.json").read_text())
    module = GaussianMixtureConditional(K=vector["K"]).eval()
    y, scales, means, weights = (
        torch.tensor(vector[name]) for name in ("y", "scales", "means", "weights")
    )
    before = [t.clone() for t in (scales, means, weights)]
    (string, abs_max, bitmap), y_quantized = module.compress(y, scales, means, weights)
    assert (string.hex(), abs_max, bitmap.tolist()) == (
        vector["bytes_hex"],
        vector["abs_max"],
        vector["zero_bitmap"],
    )
    nonzero = bitmap.bool()
    parameters = module.reshape_entropy_parameters(scales, means, weights, nonzero)
    assert module._build_cdf(*parameters, abs_max).tolist() == vector["cdf"]
    decoded = module.decompress(string, abs_max, bitmap, scales, means, weights)
    assert torch.equal(decoded, y_quantized)
    assert all(torch.equal(a, b) for a, b in zip(before, (scales, means, weights)))
    _, likelihood = module(y, scales, means, weights)
    torch.testing.assert_close(likelihood, torch.tensor(vector["forward_likelihood"]))


def test_default_gaussian_tables_are_those_of_the_format() -> None:
    lines = (TABLES / "gaussian_default_cdf.tsv").read_text().splitlines()[1:]
    rows = [line.split("\t") for line in lines]
    meta = json.loads((TABLES / "gaussian_default_cdf.meta.json").read_text())
    table = models.get_scale_table()
    assert table.numpy().tobytes() == b"".join(bytes.fromhex(row[1])[::-1] for row in rows)
    module = GaussianConditional(None)
    module.update_scale_table(table)
    assert module.offset.tolist() == [int(row[5]) for row in rows]
    digest = hashlib.sha256(module.quantized_cdf.numpy().tobytes()).hexdigest()
    assert digest == meta["sha256_int32_le_row_major"]
