# SPDX-License-Identifier: BSD-3-Clause-Clear
"""``from_pretrained`` and ``save_pretrained``, as models of other libraries have them."""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["PretrainedModel"]


class PretrainedModel:
    """Base of models that come from published folders and go into them.

    Models know no files: :mod:`compressai.hub` does the work, which stands above them and is
    imported when it is asked for.
    """

    @classmethod
    def from_pretrained(cls, source: Any, **options: Any) -> Any:
        """The model of a path, a URL or ``hf://OWNER/NAME``, ready to code.

        Args:
            source, options: as for :func:`compressai.hub.from_pretrained`: ``quality``, ``metric``,
                ``revision``, ``device``.

        Returns:
            The model, which is of this class.

        Raises:
            FileNotFoundError: there is nothing.
            ImportError: the extra ``hub`` is not installed.
            OSError: it cannot be fetched.
            ValueError: it is damaged, or of another class.
        """
        hub = importlib.import_module("compressai.hub")
        return hub.from_pretrained(source, kind=cls, **options)

    def save_pretrained(self, folder: Any, **options: Any) -> Any:
        """Write the model into a folder that :meth:`from_pretrained` takes.

        Args:
            folder, options: as for :func:`compressai.hub.save_pretrained`: ``architecture``,
                ``arguments``, ``quality``, ``metric``, ``licence``, ``replace``.

        Returns:
            The file of weights.

        Raises:
            FileExistsError: one exists and is not to be replaced.
            ValueError: the architecture is not known, or cannot be rebuilt.
        """
        hub = importlib.import_module("compressai.hub")
        return hub.save_pretrained(self, folder, **options)
