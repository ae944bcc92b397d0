"""Groups of options that commands share: the fields of a dataclass."""

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any


def takes_groups(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the fields of its dataclass parameters as options; it is called with dataclasses of them.

    Args:
        command: A function whose parameters carry typer's annotations, or are dataclasses whose fields do; none of
            these annotations is a string.

    Returns:
        A function for typer.
    """
    options: dict[str, inspect.Parameter] = {}
    groups: dict[str, Any] = {}
    for name, parameter in inspect.signature(command).parameters.items():
        group = parameter.annotation
        if not dataclasses.is_dataclass(group):
            options[name] = parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            continue
        groups[name] = group
        for each in dataclasses.fields(group):
            default = inspect.Parameter.empty if each.default is dataclasses.MISSING else each.default
            options[each.name] = inspect.Parameter(
                each.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=each.type
            )

    def with_groups(**values: Any) -> None:
        made = {
            name: group(**{each.name: values.pop(each.name) for each in dataclasses.fields(group)})
            for name, group in groups.items()
        }
        command(**made, **values)

    with_groups.__name__, with_groups.__doc__ = command.__name__, command.__doc__
    with_groups.__module__ = command.__module__
    with_groups.__annotations__ = {name: each.annotation for name, each in options.items()}
    with_groups.__signature__ = inspect.Signature([*options.values()])  # type: ignore[attr-defined]
    return with_groups
