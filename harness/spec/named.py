"""A task from its label, where the label says all of it."""

from __future__ import annotations

import ast
from typing import Any

from lfombench.tasks import Task

from ..errors import SpecError, UserError
from .labels import find, label
from .validation import FieldError, build


def task_of(name: str) -> Task:
    """The task of a label, such as `linear_regression(d=5, n=20, covariates=student_t)`."""
    if "#" in name:
        raise UserError(f"the task {name} cannot be made again from its name, which leaves something out")
    kind, _, values = name.partition("(")
    try:
        call = ast.parse(f"f({values.removesuffix(')')})", mode="eval").body
        given = {one.arg: _value(one.value) for one in getattr(call, "keywords", ())}
        made: Task = build(find("task", kind), given)
    except (SyntaxError, ValueError, SpecError, FieldError) as error:
        raise UserError(f"the task {name} cannot be made again from its name: {error}") from error
    if label(made) != name:
        raise UserError(f"the task {name} cannot be made again from its name, which leaves something out")
    return made


def _value(value: ast.expr) -> Any:
    """A field in a label: a word, or what Python reads there."""
    return value.id if isinstance(value, ast.Name) else ast.literal_eval(value)
