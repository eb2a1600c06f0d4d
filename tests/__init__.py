"""The tests, in folders like the package's; and the checkers of annotations that `conftest.py` hooks in."""

import re
from types import FunctionType
from typing import Any

import jaxtyping
from beartype import BeartypeConf, beartype
from beartype.claw import beartype_packages
from beartype.claw._ast import _clawaststar

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


def hook_in_once(packages: list[str], conf: BeartypeConf) -> None:
    """Let beartype check packages that are imported later, but for functions within functions: it would write a checker
    anew whenever such a function is defined: half of the time of the tests of kernels. Beartype has no option for that.
    """
    written = getattr(_clawaststar, "__beartype__", None)
    if written is not None:  # else another beartype, which takes its time

        def outermost(**options: Any) -> Any:
            decorate = written(**options)
            return lambda target: target if "<locals>" in target.__qualname__ else decorate(target)

        vars(_clawaststar)["__beartype__"] = outermost
    beartype_packages(packages, conf=conf)
