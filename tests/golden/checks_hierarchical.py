# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Checks of the hierarchical models (HPCM), for check_golden.py to take up.

Until it does, `python checks_hierarchical.py GOLDEN [the options of check_golden.py]` runs them.

A case of kind `hierarchical` holds the authors' weights and what their program makes of a picture.
`strings`: one string a picture for y (all eleven steps), one a picture for z. `symbols` and `indexes`:
per picture, in coding order; `steps`: channels, rows, columns of each step. `tables`: per latent the CDF
rows one after another, their lengths, and the offsets. `sizes`: attributes of the model. `loose` cases are
of the released size; their decisions were not checked one by one, so a few values may differ.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent))

import check_golden
from check_golden import Mismatch, as_numpy, same
from checks_multi_reference import MultiReferenceCase


class HierarchicalCase(MultiReferenceCase):
    models = {"hpcm": ("hpcm", "HPCM", "convert_upstream_hpcm_state_dict", "convert_hpcm_checkpoint")}

    def compare(self, got, field, what):
        if not self.spec["loose"]:
            return super().compare(got, field, what)
        step = self.spec["stride"].get(field, 1)
        got, want = as_numpy(got)[..., ::step, ::step].astype(np.float64), self.tensor(field).astype(np.float64)
        if got.shape != want.shape or not np.isfinite(got).all():
            raise Mismatch(f"{what}: shape {got.shape}, expected {want.shape}, or not finite")
        wrong = (np.abs(got - want) > 1e-3 + 1e-3 * np.abs(want)).mean()
        limit = 0.05 if field.endswith("x_hat") else 0.005  # a value that rounds the other way spreads
        if wrong > limit:
            raise Mismatch(f"{what}: {100 * wrong:.2f} % of the values differ, allowed {100 * limit} %")

    def rows(self, letter):
        flat, lengths, offset = (self.tensors[name] for name in self.spec["tables"][letter])
        rows = [row.tolist() for row in np.split(flat, np.cumsum(lengths)[:-1])]
        return rows, lengths.tolist(), offset.tolist()

    def latents(self):
        """(name, symbols, indexes) of what the two lists of strings hold."""
        symbols, z_symbols = self.tensor("symbols"), self.tensor("z_symbols")
        channels = len(self.tensors[self.spec["tables"]["z"][1]])
        z_indexes = np.repeat(np.arange(channels), z_symbols.shape[1] // channels)
        return [
            ("y", symbols, self.tensor("indexes")),
            ("z", z_symbols, np.broadcast_to(z_indexes, z_symbols.shape)),
        ]

    def describe(self, got, want) -> str:
        """Why the bytes differ: decodes them with the reference's indexes and tables."""
        from compressai.ans import RansDecoder

        if len(got) != 2:
            return "the layout should be two lists, y and z"
        report = []
        ends = np.cumsum([int(np.prod(step)) for step in self.spec["steps"]])
        for (name, symbols, indexes), mine, wanted in zip(self.latents(), got, want):
            for b, string in enumerate(mine):
                if string == wanted[b]:
                    continue
                try:
                    decoded = RansDecoder().decode_with_indexes(string, indexes[b].tolist(), *self.rows(name))
                except ValueError:  # some decoders refuse what no encoder would write
                    report.append(f"{name} of picture {b}: other indexes or tables")
                    continue
                wrong = np.flatnonzero(np.asarray(decoded) != symbols[b])
                where = f", first in step {int(np.searchsorted(ends, wrong[0], 'right'))}" if name == "y" and len(wrong) else ""
                report.append(f"{name} of picture {b}: {len(wrong)} of {symbols[b].size} symbols{where}")
        return "with the reference's indexes and tables " + ("; ".join(report[:4]) or "nothing")

    def tables(self):
        """The model's strings decode with the reference's tables: tables and indexes are the same."""
        from compressai.ans import RansDecoder

        strings = [list(s) for s in self.net.compress(self.input())["strings"]]
        if len(strings) != 2:
            raise Mismatch(f"{len(strings)} lists of strings, expected two: y and z")
        for (name, symbols, indexes), mine in zip(self.latents(), strings):
            for b, string in enumerate(mine):
                decoded = RansDecoder().decode_with_indexes(string, indexes[b].tolist(), *self.rows(name))
                same(np.asarray(decoded, np.int64), symbols[b], f"symbols of {name}, picture {b}")

    def checks(self):
        yield "convert", self.load
        yield "forward", self.forward
        yield "y_hat", self.y_hat
        yield "bits", self.bits
        if self.spec["loose"]:
            return
        yield "encode", self.encode
        yield "tables", self.tables
        yield "decode", self.decode
        yield "reload", self.reload


KINDS = {"hierarchical": HierarchicalCase}

if __name__ == "__main__":
    check_golden.KINDS = {**check_golden.KINDS, **KINDS}
    arguments = sys.argv[1:]
    if "--only" not in arguments and "--list" not in arguments:
        arguments += ["--only", "hpcm.*"]
    sys.exit(check_golden.main(arguments))
