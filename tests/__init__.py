"""The tests, in folders like the package's; and the checkers of annotations that `conftest.py` hooks in."""

import re
from types import FunctionType
from typing import Any

import jaxtyping
from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int is a float, as it is to Python
SHAPE = re.compile(r"(Tensor|ndarray), |Matrices")  # of an annotation that has one
MANY = ("lfombench.tasks", "lfombench.solvers")  # where most functions have none, and are called often

_shaped = jaxtyping.jaxtyped


def shaped_or_plain(*, typechecker: Any) -> Any:
    """jaxtyping's decorator, or the type checker alone for functions of tasks and solvers without shapes in their
    annotations: jaxtyping takes 25 times as long to find that there are none.
    """

    def decorate(target: Any) -> Any:
        plain = isinstance(target, FunctionType) and target.__module__.startswith(MANY)
        if plain and not SHAPE.search(" ".join(map(str, target.__annotations__.values()))):
            return typechecker(target)
        return _shaped(target, typechecker=typechecker)

    return decorate
