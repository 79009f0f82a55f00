# SPDX-License-Identifier: BSD-3-Clause-Clear
"""``python -m compressai``: the program ``compressai``."""

from __future__ import annotations

from compressai.cli import main

if __name__ == "__main__":
    main()
