"""A recipe without writing one: looks at a model and at data, and writes the recipe that suits them.

`look_at` finds out what can be known, asks for what cannot, and `starting_recipe` writes it down with comments. Each
kind of data has a file in `found/`.
"""

from typing import TYPE_CHECKING

from ..core.lazy import lazy_exports

if TYPE_CHECKING:
    from .look import Found, Request, look_at
    from .questions import Question, refuse_to_guess
    from .recipe_text import starting_recipe

__all__ = ["Found", "Question", "Request", "look_at", "refuse_to_guess", "starting_recipe"]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "look": ("Found", "Request", "look_at"),
        "questions": ("Question", "refuse_to_guess"),
        "recipe_text": ("starting_recipe",),
    },
)
