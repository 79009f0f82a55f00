# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Checks of DCAE, SAAF and of TCM with its AuxT branch, and of the layers that they are made of.

`KINDS` is for check_golden.py, beside which this file lies. It also runs alone:

    python checks_dictionary.py GOLDEN [--project DIR] [--only 'dcae*']...

Names that are used, next to those of check_golden.py:
  compressai.models.dcae.DCAE, compressai.models.saaf.SAAF, compressai.models.tcm.TCM
  convert_upstream_{dcae,saaf,tcm}_state_dict, in these modules or in examples/convert_*_checkpoint.py
  compressai.models._helpers.auxt: OLP, WLS, iWLS, aux_loss
  compressai.layers.attn.dictionary, compressai.layers.wave
"""

from __future__ import annotations

import importlib
import math
import sys
from pathlib import Path

import numpy as np


def common_checker():
    """The check_golden.py that is running, or else the one beside this file."""
    for module in list(sys.modules.values()):
        names = getattr(module, "__dict__", {})
        if "ChannelSliceCase" in names and str(names.get("__file__", "")).endswith("check_golden.py"):
            return module
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    return importlib.import_module("check_golden")


golden = common_checker()
Mismatch, close = golden.Mismatch, golden.close

golden.CHANNEL_SLICE.update(
    {
        "dcae": ("dcae", "DCAE", "convert_upstream_dcae_state_dict", "convert_dcae_checkpoint"),
        "saaf": ("saaf", "SAAF", "convert_upstream_saaf_state_dict", "convert_saaf_checkpoint"),
        "auxt": ("tcm", "TCM", "convert_upstream_tcm_state_dict", "convert_tcm_checkpoint"),
    }
)

# Some names of each layout, and texts that no name may contain.
STACK = (
    "latent_codec.h_s.h_mean_s.0.{first}", "latent_codec.h_s.h_scale_s.0.{first}",
    "latent_codec.z.entropy_bottleneck.quantiles",
    "latent_codec.y.channel_context.y0.mean_cc.0.weight", "latent_codec.y.channel_context.y1.scale_cc.4.bias",
    "latent_codec.y.latent_codec.y0.lrp_transform.2.weight",
    "latent_codec.y.latent_codec.y1.gaussian_conditional.scale_table",
)  # fmt: skip
DICTIONARY = (
    *(name.format(first="weight") for name in STACK), "shared_dictionary.dt", "latent_codec.h_a.0.conv.weight",
    "latent_codec.y.channel_context.y0.cross_attention.x_trans.weight",
    "latent_codec.y.channel_context.y1.cross_attention.msa.dense.conv_layers.2.1.dw_conv.weight",
    "g_a.1.layers.0.msa.embedding_layer.weight", "g_s.5.layers.0.mlp.dwconv.dwconv.weight",
)  # fmt: skip
NAMES = {
    "dcae": (*DICTIONARY, "g_a.1.layers.0.msa.relative_position_params", "g_s.6.res3.conv3.weight"),
    "saaf": (
        *DICTIONARY, "aux_enc.0.olp.linear.weight", "aux_enc.3.freq_weights", "aux_dec.3.freq_attn.2.bias",
        "diffusion_prior.noise_predictor.0.weight", "g_a.1.layers.0.msa.relative_position_bias_table",
    ),
    "auxt": (
        *(name.format(first="conv.weight") for name in STACK), "g_a.transform.0.conv1.weight",
        "g_s.transform.9.0.weight", "g_a.auxiliary_layers.0.olp.linear.weight",
        "g_s.auxiliary_layers.3.scaling_factors",
    ),
}  # fmt: skip
FORBIDDEN = ("module.", "dt_cross_attention", "h_z_s", "OLP", "AuxT_", ".w_ll", ".filters", "identity_matrix")


class DictionaryCase(golden.ChannelSliceCase):
    """The authors' weights, converted; what their program computes from them."""

    def state_dict(self):
        import torch

        state = super().state_dict()
        for key in self.spec["scalars"]:
            if key in state:
                state[key] = state[key].reshape(())
        for key, size in self.spec["identities"].items():
            state[key] = torch.eye(size)
        return state

    def layout(self):
        keys = list(self.net.state_dict())
        for name in NAMES[self.spec["model"]]:
            if name not in keys:
                raise Mismatch(f"the state dict has no {name}")
        for key in keys:
            for text in FORBIDDEN:
                if key.startswith(text) or text in key:
                    raise Mismatch(f"the state dict has {key}")
        dictionaries = [key for key in keys if key.rpartition(".")[2] == "dt"]
        if self.spec["model"] != "auxt" and dictionaries != ["shared_dictionary.dt"]:
            raise Mismatch(f"the dictionary is listed as {dictionaries}")
        for name, want in self.spec["attributes"].items():
            got = getattr(self.net, name)
            got = list(got) if isinstance(got, (tuple, list)) else got
            if got != want:
                raise Mismatch(f"{name} is {got}, expected {want}")

    def same_picture(self, state, what):
        net = type(self.net).from_state_dict(state).eval()
        want, _ = self.forward_result
        got = net(self.input())
        close(got["x_hat"], want["x_hat"], f"x_hat of {what}", atol=1e-6, rtol=0)

    def reload(self):
        self.same_picture(self.net.state_dict(), "the model rebuilt from its own state dict")

    def ortho_loss(self):
        aux_loss = golden.resolve("compressai.models._helpers.auxt.aux_loss")
        close(aux_loss(self.net), self.spec["ortho_loss"], "sum of the orthogonality losses", atol=1e-4)

    def diffusion(self):
        """The denoising loss of SAAF for given t and noise; `torch.rand` and so on are replaced."""
        import torch

        prior = self.net.diffusion_prior.eval()  # built before anything is replaced
        arrays = golden.build_tensors(self.spec["diffusion"], self.spec["seed"], self.tensors)
        y, z_hat, t, noise = (golden.torch_from(value) for value in arrays.values())
        names = ("rand", "randn", "rand_like", "randn_like")
        kept = [getattr(torch, name) for name in names]

        def draw(name):
            value = noise if name.startswith("randn") else t

            def drawn(*args, **kwargs):
                return value.clone()

            return drawn

        for name in names:
            setattr(torch, name, draw(name))
        try:
            loss = prior(y, z_hat)
        finally:
            for name, function in zip(names, kept):
                setattr(torch, name, function)
        close(loss, self.spec["diffusion_loss"], "diffusion loss")
        out, _ = self.forward_result
        if float(out["diffusion_loss"]) != 0 or out["diffusion_loss"].ndim != 0:
            raise Mismatch(f"diffusion_loss in evaluation mode is {out['diffusion_loss']}, expected 0")

    def other_layouts(self):
        """Layouts of AuxT in CompressAI: with the kernels that its wavelet package registers, and flat."""
        import torch

        s = math.sqrt(0.5)
        low, high = torch.tensor([s, s]), torch.tensor([s, -s])
        kernels = {}
        for i in range(4):
            for letter, where, part in (("h", "g_a", "dwt.transform"), ("g", "g_s", "idwt.inverse")):
                for k, row in enumerate((low, high)):
                    name = f"{where}.auxiliary_layers.{i}.{part}.{letter}{k}"
                    kernels[f"{name}_col"] = row.view(1, 1, 2, 1)
                    kernels[f"{name}_row"] = row.view(1, 1, 1, 2)
        merged = {**self.net.state_dict(), **kernels}
        self.same_picture(merged, "the layout with wavelet kernels")

        def flat(key):
            for where, branch in (("g_a", "AuxT_enc"), ("g_s", "AuxT_dec")):
                key = key.replace(f"{where}.transform.", f"{where}.")
                key = key.replace(f"{where}.auxiliary_layers.", f"{branch}.")
            return key

        self.same_picture({flat(key): value for key, value in merged.items()}, "the flat layout")

    def checks(self):
        yield "convert", self.load
        yield "layout", self.layout
        yield "forward", self.forward
        yield "y_hat", self.y_hat
        yield "encode", self.encode
        yield "decode", self.decode
        yield "reload", self.reload
        if "ortho_loss" in self.spec:
            yield "ortho_loss", self.ortho_loss
        if "diffusion" in self.spec:
            yield "diffusion", self.diffusion
        if self.spec["model"] == "auxt":
            yield "other_layouts", self.other_layouts


class LayerCase(golden.Case):
    """A public layer, loaded strictly; its output, and its loss if it has one."""

    def module(self):
        spec = self.spec
        module = golden.resolve(spec["class"])(*spec["args"], **spec["kwargs"]).eval()
        arrays = golden.build_tensors(spec["state_dict"], spec["seed"], self.tensors)
        module.load_state_dict({key: golden.torch_from(np.asarray(v)) for key, v in arrays.items()})
        return module

    def forward(self):
        arrays = golden.build_tensors(self.spec["inputs"], self.spec["seed"], self.tensors)
        out = self.module()(*(golden.torch_from(value) for value in arrays.values()))
        close(out, self.tensor("out"), "output")

    def loss(self):
        module = self.module()
        close(getattr(module, "olp", module).loss(), self.spec["loss"], "loss()", atol=1e-5)

    def checks(self):
        yield "forward", self.forward
        if "loss" in self.spec:
            yield "loss", self.loss


def case(name, spec, tensors, options):
    return (LayerCase if spec["check"] == "layer" else DictionaryCase)(name, spec, tensors, options)


KINDS = {"dictionary": case}

if __name__ == "__main__":
    golden.KINDS = KINDS  # the other files of the folder are for check_golden.py
    sys.exit(golden.main())
