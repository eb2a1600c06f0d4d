"""The tests, in folders like the package's; and the checkers of annotations that `conftest.py` hooks in."""

import re
from types import FunctionType
from typing import Any

import jaxtyping
from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int is a float, as it is to Python
SHAPE = re.compile(r"(Tensor|ndarray), |Matrices")  # of an annotation that has one

_shaped = jaxtyping.jaxtyped


def shaped_or_plain(*, typechecker: Any) -> Any:
    """jaxtyping's decorator for what has shapes in its annotations, else the type checker alone: jaxtyping takes 25
    times as long to check no shapes at all.
    """

    def decorate(target: Any) -> Any:
        if isinstance(target, FunctionType) and not SHAPE.search(" ".join(map(str, target.__annotations__.values()))):
            return typechecker(target)
        return _shaped(target, typechecker=typechecker)

    return decorate
