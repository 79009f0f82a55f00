# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Convert a checkpoint of the STF and WACNN authors' program.

    python examples/convert_stf_checkpoint.py --src theirs.pth.tar --dst ours.pth --smoke

``compressai convert`` does the same and more.
"""

from __future__ import annotations

from compressai.cli.convert import run_script
from compressai.models.stf import (
    _is_upstream_stf_state_dict,
    convert_upstream_stf_state_dict,
)

__all__ = ["_is_upstream_stf_state_dict", "convert_upstream_stf_state_dict"]

if __name__ == "__main__":
    run_script(__doc__.partition("\n")[0], ("stf", "wacnn"))
