# SPDX-License-Identifier: BSD-3-Clause-Clear
"""Values of the command line that need no conversion, without what typer imports to convert them.

Since 0.27, typer has pydantic convert all of them, whose import takes longer than to tell what is
in a file. Other versions are left as they are.
"""

from __future__ import annotations

import enum
from typing import Any

__all__ = ["take_plain_values"]


def take_plain_values(command: Any, ctx: Any) -> None:
    """Let a command take texts, flags and names of choices as they are.

    Args:
        command: of typer.
        ctx: its context, or that of the group.
    """
    for parameter in command.get_params(ctx):
        if getattr(parameter, "_runtime_param", parameter) is None:
            parameter._runtime_param = _PlainValue()


class _PlainValue:
    """Stands in for typer's conversion of a parameter, and asks for it where it is needed."""

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        many = param.multiple or param.nargs == -1
        if value is None:
            return () if many else None
        kind = param.type_descriptor.annotation
        if many and kind == list[str] and all(isinstance(one, str) for one in value):
            return list(value)
        if not many and isinstance(kind, type):
            if type(value) is kind:
                return value
            if issubclass(kind, enum.Enum) and value in [one.value for one in kind]:
                return kind(value)
        param._runtime_param = None
        return param.get_runtime_param().coerce(value, param=param, ctx=ctx)
