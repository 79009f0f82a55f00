# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Checks of the multi-reference models (MLIC++), for check_golden.py to take up.

Until it does, `python checks_multi_reference.py GOLDEN [the options of check_golden.py]` runs them.

A case of kind `multi_reference` holds the authors' weights and what their program makes of a picture.
Beyond the cases of kind `channel_slice`: every slice is coded in two passes, anchors first, so
`strings` are 2 K lists (slice 0 anchors, slice 0 the rest, slice 1 anchors, ...), then z; `symbols`
and `indexes` lie in that order along the channels, each pass squeezed to half the width;
`authors_y_string` is the authors' one string of all of them.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path

import numpy as np

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent))

import check_golden
from check_golden import ChannelSliceCase, Mismatch, as_numpy, resolve_attribute, same, same_bytes

MODELS = {
    # model: (module, class, converter, example script)
    "mlicpp": ("mlic", "MLICPlusPlus", "convert_upstream_mlicpp_state_dict", "convert_mlic_checkpoint"),
}


class MultiReferenceCase(ChannelSliceCase):
    models = MODELS

    def converter(self):
        module, _, function, script = self.models[self.spec["model"]]
        try:
            return getattr(importlib.import_module(f"compressai.models.{module}"), function)
        except (ImportError, AttributeError) as error:
            path = Path(self.options.project or ".") / "examples" / f"{script}.py"
            if not path.is_file():
                raise Mismatch(f"no {function}: {error}; no {path.name} under --project") from error
            spec = importlib.util.spec_from_file_location(script, path)
            loaded = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(loaded)
            return getattr(loaded, function)

    def build(self):
        module, name, _, _ = self.models[self.spec["model"]]
        cls = getattr(importlib.import_module(f"compressai.models.{module}"), name)
        net = cls.from_state_dict(self.converter()(self.state_dict())).eval()
        if self.spec["update"]:
            net.update(force=True)
        return net

    @property
    def net(self):
        if "_net" not in self.__dict__:
            self.__dict__["_net"] = self.build()
        return self.__dict__["_net"]

    def load(self):
        sizes = {key: getattr(self.net, key) for key in self.spec["sizes"]}
        if sizes != self.spec["sizes"]:
            raise Mismatch(f"sizes {sizes}, expected {self.spec['sizes']}")

    def reload(self):
        """A model built from the model's own state dict gives the same strings."""
        state = {key: value.clone() for key, value in self.net.state_dict().items()}
        again = type(self.net).from_state_dict(state).eval()
        first = self.net.compress(self.input())["strings"]
        second = again.compress(self.input())["strings"]
        if [list(s) for s in first] != [list(s) for s in second]:
            raise Mismatch("strings of the model built from its own state dict differ")

    def conditional(self):
        return resolve_attribute(self.net, "latent_codec.y.latent_codec.y0.y.gaussian_conditional")

    def describe(self, got, want) -> str:
        """Why the bytes differ: decodes them with the authors' indexes and counts wrong symbols."""
        from compressai.ans import RansDecoder

        if len(got) != len(want):
            return f"the layout should be {len(want) - 1} lists (anchors and rest of each slice), then z"
        module = self.conditional()
        model = [getattr(module, name).tolist() for name in ("_quantized_cdf", "_cdf_length", "_offset")]
        report = []
        for k, (symbols, indexes) in enumerate(zip(*self.slices())):
            for b, string in enumerate(got[k]):
                if string != want[k][b]:
                    step = ("anchors", "rest")[k % 2]
                    what = f"slice {k // 2} {step} sample {b}: "
                    try:
                        decoded = RansDecoder().decode_with_indexes(string, indexes[b].ravel().tolist(), *model)
                    except ValueError:  # some decoders refuse what no encoder would write
                        report.append(what + "other indexes")
                        continue
                    wrong = int((np.asarray(decoded) != symbols[b].ravel()).sum())
                    report.append(what + f"{wrong} of {symbols[b].size} symbols")
        return "with the reference's indexes " + ("; ".join(report[:4]) or "z only")

    def bits(self):
        """Estimated rate: small likelihoods, which the comparison of likelihoods hardly sees."""
        out, _ = self.forward_result
        for key in ("y", "z"):
            if self.spec["stride"].get(f"forward/likelihoods/{key}", 1) == 1:
                got, want = as_numpy(out["likelihoods"][key]), self.tensor(f"forward/likelihoods/{key}")
                got, want = (float(-np.log2(p.astype(np.float64)).sum()) for p in (got, want))
                if abs(got - want) > 0.01 * want:
                    raise Mismatch(f"{key}: {got:.1f} bits, expected {want:.1f}")

    def authors_stream(self):
        """The authors' one string: all passes of all slices in order through one encoder."""
        from compressai.ans import BufferedRansEncoder, RansDecoder

        module = self.conditional()
        model = [getattr(module, name).tolist() for name in ("_quantized_cdf", "_cdf_length", "_offset")]
        want = bytes.fromhex(self.spec["authors_y_string"])
        symbols, indexes = (np.concatenate([part.ravel() for part in parts]) for parts in self.slices())
        encoder = BufferedRansEncoder()
        encoder.encode_with_indexes(symbols.tolist(), indexes.tolist(), *model)
        same_bytes(encoder.flush(), want, "authors' string")
        got = RansDecoder().decode_with_indexes(want, indexes.tolist(), *model)
        same(np.asarray(got, np.int64), symbols, "symbols of the authors' string")

    def checks(self):
        yield "convert", self.load
        yield "forward", self.forward
        yield "y_hat", self.y_hat
        yield "bits", self.bits
        yield "encode", self.encode
        yield "decode", self.decode
        yield "reload", self.reload
        if "authors_y_string" in self.spec:
            yield "authors_stream", self.authors_stream


KINDS = {"multi_reference": MultiReferenceCase}

if __name__ == "__main__":
    check_golden.KINDS = {**check_golden.KINDS, **KINDS}
    arguments = sys.argv[1:]
    if "--only" not in arguments and "--list" not in arguments:
        arguments += ["--only", "mlicpp.*"]
    sys.exit(check_golden.main(arguments))
