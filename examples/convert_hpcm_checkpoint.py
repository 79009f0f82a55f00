# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Convert a checkpoint of the HPCM authors' programs.

    python examples/convert_hpcm_checkpoint.py --src theirs.pth.tar --dst ours.pth --smoke

``compressai convert`` does the same and more.
"""

from __future__ import annotations

from compressai.cli.convert import run_script
from compressai.models.hpcm import _is_upstream_hpcm_state_dict, convert_upstream_hpcm_state_dict

__all__ = ["_is_upstream_hpcm_state_dict", "convert_upstream_hpcm_state_dict"]

if __name__ == "__main__":
    run_script(
        __doc__.partition("\n")[0],
        ("hpcm-base", "hpcm-large", "hpcm-phi", "hpcm-1b"),
        option="--variant",
    )
