# SPDX-License-Identifier: BSD-3-Clause-Clear
"""The wavelet branch of AuxT beside transforms; TCM with it."""

from __future__ import annotations

import pytest
import torch
from slice_nets import small_net
from torch import Tensor, nn

from compressai.layers.wave import DWT2D, IDWT2D
from compressai.models._helpers.auxt import (
    OLP,
    WLS,
    AuxTTransform,
    aux_loss,
    compute_analysis_aux_positions,
    compute_synthesis_aux_positions,
    forward_with_auxt,
    has_auxt_state,
    is_auxt_upstream_wavelet_buffer_key,
    is_auxt_wavelet_buffer_key,
    iWLS,
    normalize_upstream_auxt_key,
)
from compressai.models.tcm import TCM, convert_upstream_tcm_state_dict
from compressai.training.regularizers import add_regularizers

pytestmark = pytest.mark.usefixtures("one_torch_thread")
T = torch.zeros(2)


def _image() -> Tensor:
    return torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))


class TestWavelets:
    def test_bands_of_one_block(self) -> None:
        p, q, r, t = 1.0, 2.0, 4.0, 8.0
        bands = DWT2D()(torch.tensor([[[[p, q], [r, t]]]]))
        wanted = [p + q + r + t, p + q - r - t, p - q + r - t, p - q - r + t]
        assert bands.flatten().tolist() == [value / 2 for value in wanted]

    def test_all_channels_of_a_band_come_together(self) -> None:
        x = torch.rand(2, 3, 4, 6)
        bands = DWT2D()(x)
        assert bands.shape == (2, 12, 2, 3)
        alone = DWT2D()(x[:, 1:2])
        torch.testing.assert_close(bands[:, 1::3], alone)

    def test_inverse_and_energy(self) -> None:
        x = torch.randn(2, 3, 8, 6)
        bands = DWT2D()(x)
        torch.testing.assert_close(IDWT2D()(bands), x)
        torch.testing.assert_close(bands.square().sum(), x.square().sum())
        assert not DWT2D().state_dict()
        assert not IDWT2D().state_dict()

    @pytest.mark.parametrize("cls", [DWT2D, IDWT2D])
    def test_what_is_not_there_is_refused(self, cls: type[nn.Module]) -> None:
        with pytest.raises(ValueError, match="wave must be 'haar', got 'db2'"):
            cls("db2")
        with pytest.raises(ValueError, match="mode must be 'zero', got 'symmetric'"):
            cls(mode="symmetric")
        with pytest.raises(ValueError, match=r"even|multiple of 4"):
            cls()(torch.zeros(1, 3, 3, 4))


class TestProjections:
    @pytest.mark.parametrize(("size", "out"), [(8, 8), (16, 4), (4, 16)])
    def test_loss_is_zero_for_orthogonal_weights_only(self, size: int, out: int) -> None:
        olp = OLP(size, out)
        assert olp.loss().item() > 0
        assert olp.loss().dim() == 0
        nn.init.orthogonal_(olp.linear.weight)
        assert olp.loss().item() < 1e-10

    def test_sum_over_a_model(self) -> None:
        olps = OLP(8, 4), OLP(4, 8)
        net = nn.Sequential(nn.Linear(2, 2), *olps)
        torch.testing.assert_close(aux_loss(net), olps[0].loss() + olps[1].loss())
        none = aux_loss(nn.Linear(2, 2).double())
        assert none.dtype == torch.float64
        assert float(none) == 0

    def test_steps_halve_and_double(self) -> None:
        x = torch.rand(2, 3, 16, 16)
        assert WLS(3, 8)(x).shape == (2, 8, 8, 8)
        assert iWLS(3, 8)(x).shape == (2, 8, 32, 32)


class TestWalker:
    def test_sums_go_into_following_layers(self) -> None:
        x = torch.rand(1, 2)
        layers = nn.Sequential(*(nn.Identity() for _ in range(4)))
        steps = nn.ModuleList((nn.Identity(), nn.Identity()))
        assert torch.equal(forward_with_auxt(layers, steps, (1, 3), x), 3 * x)
        assert torch.equal(forward_with_auxt(layers, None, (), x), x)

    @pytest.mark.parametrize("positions", [(1,), (1, 1), (1, 4), (0, 1, 2)])
    def test_positions_that_do_not_fit_are_refused(self, positions: tuple[int, ...]) -> None:
        layers = nn.Sequential(*(nn.Identity() for _ in range(4)))
        transform = AuxTTransform(layers, nn.ModuleList((nn.Identity(), nn.Identity())), positions)
        with pytest.raises(RuntimeError, match="merge positions"):
            transform(torch.zeros(1))

    def test_positions(self) -> None:
        assert compute_analysis_aux_positions((2,) * 6) == (0, 3, 6, 9)
        assert compute_synthesis_aux_positions((2,) * 6) == (2, 5, 8, 9)


class TestNames:
    @pytest.mark.parametrize("place", ["AuxT_enc", "g_a.auxiliary_layers"])
    def test_kernels_and_projections(self, place: str) -> None:
        assert is_auxt_wavelet_buffer_key(f"{place}.0.dwt.transform.h0_col")
        assert is_auxt_wavelet_buffer_key(f"{place}.3.idwt.inverse.g1_row")
        assert is_auxt_upstream_wavelet_buffer_key(f"{place}.0.dwt.w_lh")
        assert is_auxt_upstream_wavelet_buffer_key(f"{place}.0.idwt.filters")
        assert not is_auxt_wavelet_buffer_key(f"{place}.0.scaling_factors")
        assert normalize_upstream_auxt_key(f"{place}.0.OLP.linear.bias") == (
            f"{place}.0.olp.linear.bias"
        )
        assert normalize_upstream_auxt_key("g_a.0.OLP.weight") is None
        assert has_auxt_state({f"module.{place}.0.scaling_factors": T})
        assert not has_auxt_state({"g_a.0.conv1.weight": T})

    def test_layout_of_the_authors(self) -> None:
        theirs = {
            "module.g_a.0.conv1.weight": T,
            "module.g_s.9.0.weight": T,
            "module.AuxT_enc.0.OLP.linear.weight": T,
            "module.AuxT_enc.0.dwt.w_ll": torch.zeros(2, 2),
            "module.AuxT_dec.1.scaling_factors": T,
            "module.AuxT_dec.1.idwt.filters": torch.zeros(4, 4),
        }
        ours = convert_upstream_tcm_state_dict(theirs)
        assert set(ours) == {
            "g_a.transform.0.conv1.weight",
            "g_s.transform.9.0.weight",
            "g_a.auxiliary_layers.0.olp.linear.weight",
            "g_s.auxiliary_layers.1.scaling_factors",
        }
        assert convert_upstream_tcm_state_dict(ours).keys() == ours.keys()


class TestTCM:
    def test_with_and_without_the_branch(self) -> None:
        plain, net = small_net("tcm"), small_net("tcm+auxt")
        assert not plain.use_auxt
        assert not hasattr(plain.g_a, "auxiliary_layers")
        assert plain.ortho_loss().item() == 0
        assert net.use_auxt
        assert len(net.g_a.auxiliary_layers) == len(net.g_s.auxiliary_layers) == 4
        again = TCM.from_state_dict(net.state_dict())
        assert again.use_auxt
        assert again.config == net.config

    def test_auxiliary_loss_holds_that_of_the_projections(self) -> None:
        net = small_net("tcm+auxt")
        ortho = net.ortho_loss().detach()
        assert ortho.item() > 0
        bottleneck = net.latent_codec.z.entropy_bottleneck.loss()
        torch.testing.assert_close(net.aux_loss(), bottleneck + ortho)

    def test_weights_of_the_first_release_merge_elsewhere(self) -> None:
        net, x = small_net("tcm+auxt"), _image()
        with torch.no_grad():
            before = net(x)
            net.g_s.merge_positions = net.g_a.merge_positions
            after = net(x)
        assert net.g_s.merge_positions == (0, 2, 4, 6)
        assert torch.equal(before["likelihoods"]["y"], after["likelihoods"]["y"])
        assert not torch.allclose(before["x_hat"], after["x_hat"])

    @pytest.mark.parametrize("sync_safe", [False, True])
    def test_coding(self, sync_safe: bool) -> None:
        net = small_net("tcm+auxt")
        coded = net.compress(_image(), sync_safe=sync_safe)
        decoded = net.decompress(coded["strings"], coded["shape"], sync_safe=sync_safe)
        assert torch.equal(decoded["y_hat"], coded["y_hat"])

    def test_training_keeps_projections_orthogonal(self) -> None:
        net, loss = small_net("tcm+auxt"), torch.tensor(2.0)
        found = add_regularizers({"loss": loss}, {}, net)
        torch.testing.assert_close(found["loss"], loss + 0.1 * net.ortho_loss())
        assert add_regularizers({"loss": loss}, {}, small_net("tcm")) == {"loss": loss}

    def test_half_a_branch_is_refused(self) -> None:
        weights = small_net("tcm+auxt").state_dict()
        weights = {key: v for key, v in weights.items() if "g_s.auxiliary" not in key}
        with pytest.raises(RuntimeError, match=r"g_s\.auxiliary_layers"):
            TCM.from_state_dict(weights)
