# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Convert a checkpoint of the MambaIC authors' program.

    python examples/convert_mambaic_checkpoint.py --src theirs.pth.tar --dst ours.pth --smoke

``compressai convert`` does the same and more.
"""

from __future__ import annotations

from compressai.cli.convert import run_script
from compressai.models.mambaic import convert_upstream_mambaic_state_dict

__all__ = ["convert_upstream_mambaic_state_dict"]

if __name__ == "__main__":
    run_script(__doc__.partition("\n")[0], ("mambaic",))
