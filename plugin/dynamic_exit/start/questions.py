"""What cannot be known from a model and its data is asked."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..errors import RecipeError, nearest


@dataclass(frozen=True)
class Question:
    """Something that only the user knows.

    Attributes:
        option: The option of the command that answers it, such as ``--pixels``.
        about: What is not known, as the subject of a sentence.
        choices: The answers that are possible; empty if any text is.
        default: What is proposed.
    """

    option: str
    about: str
    choices: Sequence[str] = ()
    default: str | None = None

    def check(self, answer: str) -> str:
        """Return an answer that is possible.

        Raises:
            RecipeError: It is none of the choices.
        """
        if self.choices and answer not in self.choices:
            raise RecipeError(f"{self.option} cannot be '{answer}'; {nearest(answer, self.choices)}")
        return answer


#: Returns the answer to a question.
Ask = Callable[[Question], str]


def refuse_to_guess(question: Question) -> str:
    """Refuse a question, as where nobody can be asked.

    Raises:
        RecipeError: Always; it names the option.
    """
    choices = f", one of {', '.join(question.choices)}" if question.choices else ""
    proposed = f" (such as {question.default})" if question.default is not None else ""
    raise RecipeError(f"{question.about} cannot be known; give {question.option}{choices}{proposed}")
