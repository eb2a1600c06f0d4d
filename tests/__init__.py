"""The tests, in folders like the package's; and the checkers of annotations that `conftest.py` hooks in."""

import functools
import re
from collections.abc import Callable
from types import FunctionType
from typing import Any

import jaxtyping
import torch
from beartype import BeartypeConf, beartype
from beartype.claw import beartype_packages
from beartype.claw._ast import _clawaststar

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int is a float, as it is to Python
SHAPE = re.compile(r"(Tensor|ndarray), |Matrices")  # of an annotation that has one
MANY = ("lfombench.tasks", "lfombench.solvers")  # where most functions have none, and are called often

_shaped = jaxtyping.jaxtyped


def shaped_or_plain(*, typechecker: Any) -> Any:
    """jaxtyping's decorator, for each kind of call once; or the type checker alone for functions of tasks and solvers
    without shapes in their annotations: jaxtyping takes 25 times as long to find that there are none.
    """

    def decorate(target: Any) -> Any:
        if not isinstance(target, FunctionType):
            return _shaped(target, typechecker=typechecker)
        if target.__module__.startswith(MANY) and not SHAPE.search(" ".join(map(str, target.__annotations__.values()))):
            return typechecker(target)
        return _for_each_kind_once(target, _shaped(target, typechecker=typechecker))

    return decorate


def _for_each_kind_once(target: FunctionType, checked: Callable[..., Any]) -> Any:
    """A function that is checked when tensors of these shapes come the first time: to check takes longer than most of
    what is checked, thousands of times in a training.
    """
    seen = set[Any]()

    @functools.wraps(target)
    def called(*arguments: Any, **named: Any) -> Any:
        kind = (*map(_kind, arguments), *named, *map(_kind, named.values()))
        if kind in seen:
            return target(*arguments, **named)
        result = checked(*arguments, **named)
        seen.add(kind)
        return result

    return called


def _kind(value: Any) -> Any:
    """What a check of an argument depends on: a tensor's shape, and types. No shape here is that of a field."""
    if isinstance(value, torch.Tensor):
        return value.shape, value.dtype
    if isinstance(value, dict):
        return tuple((name, _kind(one)) for name, one in value.items())
    if isinstance(value, list | tuple):
        return tuple(map(_kind, value))
    return type(value)


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
