# SPDX-License-Identifier: BSD-3-Clause-Clear
"""HPCM: generalised Gaussian, grids and steps, sizes from weights, coding, training."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from compressai import zoo
from compressai.cli.models import multiplications
from compressai.entropy_models import GaussianConditional, GeneralizedGaussianConditional
from compressai.entropy_models.session import coding_session
from compressai.entropy_models.steps import step_decoder, step_encoder
from compressai.entropy_models.synchrony import Gain, SyncDecoder, SyncEncoder
from compressai.latent_codecs import (
    HierarchicalProgressiveLatentCodec,
    LearnedScaleLatentCodec,
    ProgressivePrior,
    hierarchical,
)
from compressai.layers.hierarchical import PartialConv3x3, WindowedCrossAttention
from compressai.losses import RateDistortionLoss
from compressai.models.hpcm import (
    HPCM,
    SIZES,
    convert_upstream_hpcm_state_dict,
    hpcm_scale_table,
)
from compressai.zoo.image import LAMBDAS, METRICS, entries, training_recipe

KEYMAPS = Path(__file__).parent / "tables" / "hpcm_keymaps.json.gz"
ENTROPY_BUFFERS = re.compile(
    r"\.(bound|scale_bound|scale_table|_offset|_quantized_cdf|_cdf_length)$"
)

SMALL: dict[str, dict[str, Any]] = {
    "attention": {"N": 8, "M": 16, "widths": (8, 8, 8, 16), "blocks": (1, 1, 2, 0),
                  "synthesis_blocks": (0, 1, 1, 2), "hyper_width": 8},
    "phi": {"N": 8, "M": 8, "widths": (8, 8, 8, 8), "blocks": (1, 1, 1, 0),
            "synthesis_blocks": (0, 1, 1, 1), "hyper_width": 8, "attention": False},
    "1b": {"N": 8, "M": 8, "widths": (4, 8, 12, 8), "blocks": (1, 3, 2, 1),
           "synthesis_blocks": (2, 3, 1, 1), "image_kernel": 2, "hyper_width": 12,
           "hyper_blocks": (2, 1), "partial_ratio": 2, "adaptor_blocks": (1, 1, 2),
           "prior_blocks": ((1, 2, 1), (2, 1, 2)), "attention": False},
}  # fmt: skip


def small_hpcm(name: str) -> HPCM:
    """A model whose latent is not all zeros, although its weights are random."""
    torch.manual_seed(1)
    net = HPCM(**SMALL[name])
    with torch.no_grad():
        net.g_a[-1 if SMALL[name]["blocks"][-1] == 0 else 0].weight *= 10
        net.latent_codec.z.means_hyper.uniform_(-0.5, 0.5)
        net.latent_codec.z.scales_hyper.uniform_(-0.5, 2)
    return net.eval()


def images(net: HPCM, batch: int = 1, scale: tuple[int, int] = (1, 1)) -> Tensor:
    torch.manual_seed(2)
    height, width = (net.downsampling_factor * k for k in scale)
    coarse = torch.rand(batch, 3, height // 16, width // 16)
    return torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)


class TestGeneralizedGaussianConditional:
    @settings(max_examples=40, deadline=None)
    @given(
        x=st.floats(-30, 30),
        mean=st.floats(-5, 5),
        scale=st.floats(0.05, 50),
        beta=st.sampled_from([0.7, 1.0, 1.5, 2.0]),
    )
    def test_likelihood_is_the_mass_of_the_bin(
        self, x: float, mean: float, scale: float, beta: float
    ) -> None:
        module = GeneralizedGaussianConditional(None, beta=beta, likelihood_bound=0).double().eval()
        args = [torch.full((1, 1), v, dtype=torch.float64) for v in (x, scale, mean)]
        y, likelihood = module(*args)
        edge = abs(float(y) - mean)
        bound = float(module.scale_bound)
        law = scipy.stats.gennorm(beta, scale=max(scale, bound))
        want = law.cdf(0.5 - edge) - law.cdf(-0.5 - edge)
        assert float(likelihood) == pytest.approx(want, rel=1e-6, abs=1e-14)

    def test_it_is_the_gaussian_for_beta_2(self) -> None:
        mine = GeneralizedGaussianConditional(None, beta=2, scale_bound=0.2).eval()
        gaussian = GaussianConditional(None, scale_bound=0.2 / 2**0.5).eval()
        x, scales = torch.randn(2, 3, 4, 5) * 3, torch.rand(2, 3, 4, 5) * 4
        assert torch.allclose(mine(x, scales)[1], gaussian(x, scales / 2**0.5)[1], atol=1e-6)

    def test_gradients_are_those_of_the_likelihood(self) -> None:
        module = GeneralizedGaussianConditional(None).double()
        x = torch.tensor([[-3.0, -0.5, 0.0, 0.2, 0.5, 4.0]], dtype=torch.float64)
        scales = torch.linspace(0.3, 4, 6, dtype=torch.float64)[None]
        inputs = [t.requires_grad_() for t in (x, scales)]
        assert torch.autograd.gradcheck(module._likelihood, inputs)

    def test_gradient_is_finite_at_the_centre(self) -> None:
        x = torch.zeros(3, requires_grad=True)
        GeneralizedGaussianConditional(None)._standardized_cumulative(x).sum().backward()
        want = scipy.stats.gennorm(1.5).pdf(0)
        assert x.grad.tolist() == pytest.approx([float(want)] * 3)

    @pytest.mark.parametrize("beta", [0, -1, float("nan"), float("inf")])
    def test_bad_exponents_are_refused(self, beta: float) -> None:
        with pytest.raises(ValueError, match="beta"):
            GeneralizedGaussianConditional(None, beta=beta)

    def test_scales_that_are_not_finite_are_refused(self) -> None:
        with pytest.raises(ValueError, match=r"scale_table\[1\] = nan"):
            GeneralizedGaussianConditional(None).update_scale_table([1.0, float("nan")])

    def test_scales_below_the_bound_have_its_table(self) -> None:
        module = GeneralizedGaussianConditional(None)
        module.update_scale_table([-3.0, 0.01, 0.12])
        assert torch.equal(module.quantized_cdf[0], module.quantized_cdf[2])
        assert torch.equal(module.quantized_cdf[1], module.quantized_cdf[2])

    def test_tables_reach_as_far_as_the_tail_mass_tells(self) -> None:
        module = GeneralizedGaussianConditional(None)
        module.update_scale_table(hpcm_scale_table())
        factor = -scipy.stats.gennorm(1.5).ppf(5e-7)
        centers = [-(-scale * factor // 1) for scale in hpcm_scale_table()]
        assert module.offset.tolist() == [-int(center) for center in centers]
        assert module.cdf_length.tolist() == [int(2 * center + 3) for center in centers]

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_what_is_coded_is_decoded(self, dtype: torch.dtype) -> None:
        module = GeneralizedGaussianConditional(None)
        module.update_scale_table(hpcm_scale_table())
        y, means = torch.randn(2, 2, 3, 4, 5, dtype=dtype) * 20
        scales = torch.rand(2, 3, 4, 5, dtype=dtype) * 30 - 1
        strings, y_hat = module.code(y, scales, means)
        assert torch.equal(module.decode(strings, scales, means)["y_hat"], y_hat)
        assert float((y - y_hat).abs().max()) <= 0.5 + 1e-5

    def test_synchronised_strings_decode_with_other_roundings(self) -> None:
        module = GeneralizedGaussianConditional(None)
        module.update_scale_table(hpcm_scale_table())
        y, means = torch.randn(2, 2, 3, 8, 8) * 4
        scales = torch.rand(2, 3, 8, 8) * 5 - 0.5
        gain = Gain(torch.ones(3), torch.ones(3))
        with coding_session(SyncEncoder([gain])):
            strings, y_hat = module.code(y, scales, means)
        noise = [1e-5 * (2 * torch.rand(2, 3, 8, 8) - 1) for _ in range(2)]
        with coding_session(SyncDecoder()):
            out = module.decode(strings, scales + noise[0], means + noise[1])
        assert torch.equal(out["y_hat"], y_hat)


class TestSteps:
    def _coded(self) -> tuple[GeneralizedGaussianConditional, list[list[Tensor]]]:
        module = GeneralizedGaussianConditional(None)
        module.update_scale_table(hpcm_scale_table())
        torch.manual_seed(0)
        sizes = ((4, 2, 2), (1, 4, 4))
        steps = [[torch.randn(3, *s) * 3, torch.rand(3, *s) * 4, torch.randn(3, *s)] for s in sizes]
        return module, steps

    @pytest.mark.parametrize("noise", [None, 1e-5])
    def test_all_steps_are_in_one_string_an_item(self, noise: float | None) -> None:
        module, steps = self._coded()
        gains = [Gain(torch.ones(s[0].size(1)), torch.ones(s[0].size(1))) for s in steps]
        with coding_session(None if noise is None else SyncEncoder(gains)):
            encoder = step_encoder(module)
            wanted = [encoder.code(*step) for step in steps]
            strings = encoder.finish()
        assert len(strings) == 3
        with coding_session(None if noise is None else SyncDecoder()):
            decoder = step_decoder(module, strings)
            for (_, scales, means), want in zip(steps, wanted):
                out = decoder.decode(scales + (noise or 0), means - (noise or 0))
                assert torch.equal(out["y_hat"], want)
            decoder.check_finished()

    def test_lost_strings_have_the_means_in_their_place(self) -> None:
        module, steps = self._coded()
        encoder = step_encoder(module)
        wanted = [encoder.code(*step) for step in steps]
        first, *_ = encoder.finish()
        for coder in (None, SyncDecoder()):
            strings = [first, None, None] if coder is None else [None, None, None]
            with coding_session(coder):
                decoder = step_decoder(module, strings)
                for (_, scales, means), want in zip(steps, wanted):
                    out = decoder.decode(scales, means)
                    fine = out.get("y_fine", out["y_hat"])
                    assert torch.equal(fine[1:], means[1:])
                    assert coder is not None or torch.equal(fine[0], want[0])
                decoder.check_finished()

    def test_what_does_not_fit_is_refused(self) -> None:
        module, steps = self._coded()
        encoder = step_encoder(module)
        for step in steps:
            encoder.code(*step)
        strings = encoder.finish()
        decoder = step_decoder(module, strings)
        decoder.decode(*steps[0][1:])
        with pytest.raises(ValueError, match="more than this latent"):
            decoder.check_finished()
        with pytest.raises(ValueError, match="2 strings for a batch of 3"):
            step_decoder(module, strings[:2]).decode(*steps[0][1:])
        with coding_session(SyncEncoder([])), pytest.raises(RuntimeError, match="encode"):
            step_decoder(module, strings)
        with pytest.raises(ValueError, match="no int32"):
            encoder.code(steps[0][0] * float("nan"), *steps[0][1:])


def _everywhere(step: Any, like: Tensor) -> Tensor:
    """1 where a step codes, on the full map."""
    return step.put_on_map(torch.ones_like(step.take(like)))


class TestGrids:
    def test_every_value_is_coded_once(self) -> None:
        y = torch.zeros(2, 16, 16, 24)
        middle = hierarchical._take(y, hierarchical._MIDDLE_PHASES)
        grids = (hierarchical._take(middle, hierarchical._COARSE_PHASES), middle, y)
        coded = sum(
            _everywhere(hierarchical._Step(grid, cells), grids[grid])
            for grid, steps in enumerate(hierarchical._STEPS)
            for cells in steps
        )
        assert torch.equal(coded, torch.ones_like(y))

    def test_samples_return_to_their_places(self) -> None:
        y = torch.randn(2, 16, 8, 8)
        for phases in (hierarchical._MIDDLE_PHASES, hierarchical._COARSE_PHASES):
            taken = hierarchical._take(y, phases)
            put = hierarchical._put(taken, phases)
            assert torch.equal(hierarchical._take(put, phases), taken)
            assert int((put != 0).sum()) == y.numel() // 4
            assert torch.equal(put[put != 0], y[put != 0])

    def test_side_information_of_the_middle_grid_is_displaced_as_released(self) -> None:
        side = torch.arange(2 * 8 * 4 * 6, dtype=torch.float32).reshape(1, 16, 4, 6) + 1
        got = hierarchical._middle_side(side)
        for half in range(2):
            for g in range(8):
                old, new = side[0, 8 * half + g], got[0, 8 * half + g]
                for a in range(0, 4, 2):
                    odd, even = (old[a, k::2].tolist() for k in (1, 0))
                    lower = old[a + 1].tolist()
                    values = (odd if g < 4 else even) + lower
                    if g < 2:
                        places = [(a, k) for k in (1, 3, 5)] + [(a + 1, k) for k in range(6)]
                    elif g < 4:
                        places = [(a, k) for k in (0, 2, 4)] + [(a + 1, k) for k in range(6)]
                    else:
                        columns = (1, 3, 5) if g < 6 else (0, 2, 4)
                        places = [(a, k) for k in range(6)] + [(a + 1, k) for k in columns]
                    assert [float(new[place]) for place in places] == values
                assert int((new == 0).sum()) == 6


class TestLayers:
    def test_partial_convolution_leaves_the_last_channels(self) -> None:
        x = torch.randn(1, 10, 4, 4)
        out = PartialConv3x3(10, 4)(x)
        assert torch.equal(out[:, 2:], x[:, 2:])
        assert not torch.equal(out[:, :2], x[:, :2])

    def test_attention_stays_within_its_window(self) -> None:
        layer = WindowedCrossAttention(8, 2, num_heads=2)
        x, context = torch.randn(2, 1, 8, 4, 4)
        other = context.clone()
        other[..., :2, :2] += 1
        changed = (layer(x, other) != layer(x, context)).any(1)[0]
        assert changed[:2, :2].all()
        assert not changed[2:].any()
        assert not changed[:, 2:].any()

    def test_what_does_not_fit_is_refused(self) -> None:
        with pytest.raises(ValueError, match="num_heads"):
            WindowedCrossAttention(8, 2, num_heads=3)
        with pytest.raises(ValueError, match="ratio"):
            PartialConv3x3(2, 4)
        with pytest.raises(ValueError, match="multiples of window_size=2"):
            WindowedCrossAttention(8, 2, 2)(torch.rand(1, 8, 4, 3), torch.rand(1, 8, 4, 3))


class TestSizes:
    @pytest.mark.parametrize("name", list(SIZES))
    def test_published_weights_load_name_by_name(self, name: str) -> None:
        table = json.loads(gzip.decompress(KEYMAPS.read_bytes()))[name]
        with torch.device("meta"):
            net = HPCM(**SIZES[name])
            theirs = {f"module.{old}": torch.empty(shape) for old, _, shape in table["rows"]}
        ours = {new: tuple(shape) for _, new, shape in table["rows"] if new}
        mine = {k: tuple(v.shape) for k, v in net.state_dict().items()}
        assert {k: v for k, v in mine.items() if not ENTROPY_BUFFERS.search(k)} == ours
        converted = convert_upstream_hpcm_state_dict(theirs)
        assert {k: tuple(v.shape) for k, v in converted.items()} == ours
        assert sum(p.numel() for p in net.parameters()) == table["parameters"]

    def test_operations_are_those_of_the_paper_less_the_last_attention(self) -> None:
        with torch.device("meta"):
            names = ("phi", "base", "large", "1b")
            phi, base, large, billion = (HPCM(**SIZES[name]) for name in names)
        # The context that attention makes in the last step is of use to nobody.
        channels, window = 2 * base.M, 8 * 8
        last = (4 * channels**2 + 2 * window * channels) / 16**2
        assert multiplications(phi)["all"] == 872794.765625
        assert multiplications(base)["all"] == 918559.765625 - last
        assert multiplications(large)["all"] == 1261316.1875 - last
        assert multiplications(billion)["all"] == 7670824.875

    def test_zoo_has_the_published_models(self) -> None:
        for name in SIZES:
            low, high = entries()[f"hpcm-{name}"].qualities
            with torch.device("meta"):
                net = zoo.image_models[f"hpcm-{name}"](high)
            assert SIZES[name].get("M", 320) == net.M
            for metric in METRICS:
                recipe = training_recipe(f"hpcm-{name}", low, metric)
                assert recipe == {"lmbda": LAMBDAS[metric][low - 1]}
        assert entries()["hpcm-phi"].qualities == (4, 4)
        with pytest.raises(ValueError, match="between 4 and 4"):
            zoo.hpcm_phi(1)

    @pytest.mark.parametrize("name", list(SMALL))
    def test_sizes_are_read_off_weights(self, name: str) -> None:
        net = small_hpcm(name)
        again = HPCM.from_state_dict(net.state_dict())
        for key, value in net.state_dict().items():
            assert torch.equal(value, again.state_dict()[key])
        assert repr(again) == repr(net)
        assert (again.N, again.M) == (net.N, net.M)

    def test_stages_of_1b_are_numbered_in_order(self) -> None:
        net = small_hpcm("1b")
        order = ["down1", "chunk1.0", "down2", "chunk2.0", "chunk2.1", "chunk2.2", "down3"]
        order += ["chunk3.0", "chunk3.1", "down4", "chunk4.0"]
        back = ["chunk4.0", "chunk4.1", "up4", "chunk3.0", "chunk3.1", "chunk3.2", "up3"]
        back += ["chunk2.0", "up2", "chunk1.0", "up1"]
        theirs = {}
        for key, value in net.state_dict().items():
            part, place, *rest = key.split(".")
            if part in ("g_a", "g_s"):
                name = {"g_a": order, "g_s": back}[part][int(place)]
                key = ".".join([part, f"{part}_{name}", *rest])
            theirs[key] = value
        ours = convert_upstream_hpcm_state_dict(theirs)
        assert list(ours) == list(net.state_dict())
        assert all(ours[key] is theirs[old] for old, key in zip(theirs, ours))

    def test_weights_of_another_model_are_refused(self) -> None:
        with pytest.raises(ValueError, match="not of HPCM"):
            HPCM.from_state_dict({"g_a.0.weight": torch.zeros(8, 3, 5, 5)})
        state = small_hpcm("phi").state_dict()
        state["g_a.1.branch.0.pconv.weight"] = torch.zeros(3, 3, 3, 3)
        with pytest.raises(ValueError, match="ratio"):
            HPCM.from_state_dict(state)

    @pytest.mark.parametrize(
        ("change", "match"),
        [
            ({"M": 12}, "M must"),
            ({"M": 8, "widths": None}, "attention of 16"),
            ({"widths": (8, 16)}, "one entry a stage"),
            ({"widths": (8, 8, 8, 8)}, "end with M=16"),
            ({"image_kernel": 3}, "image_kernel"),
        ],
    )
    def test_arguments_that_do_not_fit_are_refused(self, change: dict, match: str) -> None:
        arguments = {**SMALL["attention"], **change}
        if change.get("M") == 12:
            arguments["widths"] = (8, 8, 8, 12)
        with pytest.raises(ValueError, match=match):
            HPCM(**arguments)

    def test_codec_refuses_other_numbers_of_networks(self) -> None:
        parts = {name: [] for name in ("adaptor_s1", "adaptor_s2", "adaptor_s3", "context_net")}
        prior = ProgressivePrior(torch.nn.Identity(), torch.nn.Identity())
        for channels, match in ((8, "networks"), (12, "multiple of 8")):
            with pytest.raises(ValueError, match=match):
                HierarchicalProgressiveLatentCodec(
                    channels, **parts, prior_s1_s2=prior, prior_s3=prior
                )


class TestCoding:
    @pytest.mark.parametrize("sync_safe", [False, True])
    @pytest.mark.parametrize(
        ("name", "batch", "scale"),
        [("attention", 1, (1, 1)), ("phi", 3, (1, 1)), ("phi", 1, (3, 1)), ("1b", 1, (1, 3))],
    )
    def test_what_is_coded_is_decoded(
        self, name: str, batch: int, scale: tuple[int, int], sync_safe: bool
    ) -> None:
        net = small_hpcm(name)
        x = images(net, batch, scale)
        coded = net.compress(x, sync_safe=sync_safe)
        assert [len(step) for step in coded["strings"]] == [batch, batch]
        decoded = net.decompress(coded["strings"], coded["shape"], sync_safe=sync_safe)
        assert torch.equal(decoded["y_hat"], coded["y_hat"])
        assert decoded["x_hat"].shape == x.shape
        assert len(coded["y_hat"].unique()) > 20

    @pytest.mark.parametrize("name", ["attention", "phi"])
    def test_synchronised_decoding_bears_other_arithmetic(self, name: str) -> None:
        net = small_hpcm(name)
        coded = net.compress(images(net), sync_safe=True)
        wide = HPCM.from_state_dict(net.state_dict()).double().eval()
        decoded = wide.decompress(coded["strings"], coded["shape"], sync_safe=True)
        assert torch.equal(decoded["y_hat"].float(), coded["y_hat"])

    def test_forward_is_what_the_decoder_makes(self) -> None:
        net = small_hpcm("attention")
        x = images(net)
        with torch.no_grad():
            out = net(x)
        coded = net.compress(x)
        decoded = net.decompress(**{k: coded[k] for k in ("strings", "shape")})
        assert torch.allclose(out["x_hat"].clamp(0, 1), decoded["x_hat"], atol=1e-5)
        bits = {k: float(-v.log2().sum()) for k, v in out["likelihoods"].items()}
        for name, strings in zip("yz", coded["strings"]):
            # Outliers take fewer bits than the least likelihood tells.
            assert 0.8 * bits[name] < 8 * len(strings[0]) < 1.05 * bits[name] + 64

    def test_strings_of_a_batch_are_those_of_its_images(self) -> None:
        net = small_hpcm("phi")
        x = images(net, 2)
        both = net.compress(x)
        codes = [net.compress(sample[None])["strings"] for sample in x]
        assert both["strings"][1] == [code[1][0] for code in codes]

    def test_lost_latents_are_estimated(self) -> None:
        net = small_hpcm("phi")
        coded = net.compress(images(net))
        out = net.decompress([[None], coded["strings"][1]], coded["shape"])
        assert torch.isfinite(out["x_hat"]).all()

    def test_what_does_not_fit_is_refused(self) -> None:
        net = small_hpcm("attention")
        for call in (net, net.compress):
            with pytest.raises(ValueError, match="multiples of 256"):
                call(torch.rand(1, 3, 128, 256))
        coded = net.compress(images(net))
        (y,), z = coded["strings"]
        shape = coded["shape"]
        for strings, sizes in (
            ([[y, y], z], shape),
            ([[y], z], {**shape, "y": (8, 8)}),
            ([[y + b"more"], z], shape),
            ([[y], z, z], shape),
        ):
            with pytest.raises(ValueError):
                net.decompress(strings, sizes)

    def test_update_keeps_tables_unless_forced(self) -> None:
        net = small_hpcm("phi")
        assert [net.update(), net.update(), net.update(force=True)] == [True, False, True]
        assert net.latent_codec.y.gaussian_conditional.scale_table.tolist() == hpcm_scale_table()
        assert len(net.latent_codec.z.gaussian_conditional.offset) == net.N
        assert net.aux_loss() == 0


class TestTraining:
    @pytest.mark.parametrize("name", list(SMALL))
    def test_two_steps(self, name: str) -> None:
        net = small_hpcm(name).train()
        x = images(net)
        optimizer = torch.optim.Adam(net.parameters(), lr=1e-4)
        criterion = RateDistortionLoss(lmbda=0.013)
        for _ in range(2):
            optimizer.zero_grad()
            loss = criterion(net(x), x)["loss"]
            loss.backward()
            assert torch.isfinite(loss)
            for key, parameter in net.named_parameters():
                assert parameter.grad is not None, key
                assert torch.isfinite(parameter.grad).all(), key
            optimizer.step()

    def test_noise_in_likelihoods_rounding_in_values(self) -> None:
        codec = LearnedScaleLatentCodec(4).train()
        y = torch.randn(1, 4, 8, 8) * 3
        first, second = codec(y), codec(y)
        assert torch.equal(first["y_hat"], torch.round(y))
        assert not torch.equal(first["likelihoods"]["y"], second["likelihoods"]["y"])
