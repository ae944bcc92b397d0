"""Values of keys that several stanzas have, named without importing what they stand for."""

from typing import Annotated, Literal

from pydantic import AfterValidator, PlainSerializer, ValidationInfo

from ..errors import nearest
from .stanza import absolute, refuse, relative

#: Name of an optimizer in a recipe.
OptimizerName = Literal["adamw", "sgd"]
#: The augmentation that changes nothing.
NO_AUGMENT = "none"
_AUGMENTS = (NO_AUGMENT, "flip_crop", "affine")


def _check_name(text: str, info: ValidationInfo) -> str:
    if text in _AUGMENTS:
        return text
    if ":" not in text:
        raise refuse(f"must be a known augmentation or file.py:function; {nearest(text, _AUGMENTS)}")
    return absolute(text, info)


#: Name of an augmentation in a recipe.
AugmentName = Annotated[str, AfterValidator(_check_name), PlainSerializer(relative)]
#: Description of a stanza's field of it.
AUGMENTS = (
    "none; flip_crop: random horizontal flips and shifts by up to 4 pixels; affine: random flips and small rotations, "
    "scalings and shifts; or file.py:function, from a sample (a tensor) and a torch.Generator to a sample"
)
