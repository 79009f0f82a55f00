# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Convert a checkpoint of the MLIC++ authors' program.

    python examples/convert_mlic_checkpoint.py --src theirs.pth.tar --dst ours.pth --smoke

``compressai convert`` does the same and more.
"""

from __future__ import annotations

from compressai.cli.convert import run_script
from compressai.models.mlic import (
    _is_upstream_mlicpp_state_dict,
    convert_upstream_mlicpp_state_dict,
)

__all__ = ["_is_upstream_mlicpp_state_dict", "convert_upstream_mlicpp_state_dict"]

if __name__ == "__main__":
    run_script(
        __doc__.partition("\n")[0],
        ("mlicpp", "mlic", "mlicplus", "mlicv2"),
        option="--variant",
    )
