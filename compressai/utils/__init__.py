# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Programs under the names that CompressAI has them: ``python -m compressai.utils.NAME``.

What they do is elsewhere (:mod:`compressai.evaluation`); here are their command lines and the
functions that other code imports from them.
"""

from __future__ import annotations

__all__ = []
