"""Distributions of prompts. A new one is a file here and a line in TASKS, or `package.module:Class` in a sweep."""

from .base import Examples, Prompts, Quadratic, Random, Task, apply
from .linear_regression import LinearRegression

TASKS: dict[str, type[Task]] = {
    "linear_regression": LinearRegression,
}

__all__ = ["TASKS", "Examples", "LinearRegression", "Prompts", "Quadratic", "Random", "Task", "apply"]
