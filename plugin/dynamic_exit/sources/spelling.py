"""Class names that differ in spelling alone: in the form of their Unicode, or in capitals."""

import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterable

#: Receives a note for the user, one sentence.
Note = Callable[[str], None]


def unify_names(names: Collection[str], known: Collection[str], what: str, note: Note) -> dict[str, str]:
    """Find the class that each name in the data stands for, where names may be spelled in several ways.

    Names that differ in the form of their Unicode alone, as file systems and editors change it, are one class. Where
    classes are known, a name is also taken for the one that differs from it in capitals alone. Otherwise capitals
    tell classes apart, which is said.

    Args:
        names: The names that occur in the data.
        known: The class names that the recipe or the backbone states; empty if unknown.
        what: How messages call one of `names`, such as "class folder".
        note: Receives notes on names that were taken for others, or that differ in capitals alone.

    Returns:
        The class name for every one of `names`: a known name where there is one, else the name in composed form.
    """
    by_form, by_letters = _unique(known, _compose), _unique(known, _letters)
    alike = Counter(_letters(name) for name in {_compose(name) for name in names})
    found, in_capitals = {}, []
    for name in sorted(names):
        same = name if name in known else by_form.get(_compose(name))
        if same is None and alike[_letters(name)] == 1 and (same := by_letters.get(_letters(name))):
            in_capitals.append(name)
        found[name] = same or _compose(name)
    if in_capitals:
        first, others = in_capitals[0], len(in_capitals) - 1
        also = f", and so are {others} more" if others else ""
        note(f"{what} '{first}' is taken for the class '{found[first]}', which differs in capitals alone{also}")
    _note_forms(found, what, note)
    _note_capitals(set(found.values()) - set(known), alike, what, note)
    return found


def _compose(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _letters(name: str) -> str:
    return _compose(name).casefold()


def _unique(names: Iterable[str], form: Callable[[str], str]) -> dict[str, str]:
    """Return the names by their forms, without forms that several have."""
    counts = Counter(map(form, names))
    return {form(name): name for name in names if counts[form(name)] == 1}


def _note_forms(found: dict[str, str], what: str, note: Note) -> None:
    several = [name for name, count in sorted(Counter(found.values()).items()) if count > 1]
    if several:
        note(f"{what} '{several[0]}' is written in several forms of Unicode, which count as one class")


def _note_capitals(classes: Collection[str], alike: Counter[str], what: str, note: Note) -> None:
    pair = [name for name in sorted(classes) if alike[_letters(name)] > 1][:1]
    pair += [name for name in sorted(classes) if pair and name != pair[0] and _letters(name) == _letters(pair[0])][:1]
    if len(pair) == 2:
        note(f"{what} '{pair[0]}' and '{pair[1]}' differ in capitals alone and count as two classes")
