"""Task distributions. To add one: a file here and a line in TASKS, or its name `package.module:Class` in a sweep."""

from .base import Fact, Random, Task
from .catalog import CATALOG
from .linear_regression import LinearRegression
from .problem import Law, Logistic, Quadratic, Risk, apply
from .prompts import Examples, Prompts
from .teachers import LogisticRegression, QuadraticRegression, ReluNetwork, SineFeatures
from .union import Union

TASKS: dict[str, type[Task]] = {
    "linear_regression": LinearRegression,
    "logistic_regression": LogisticRegression,
    "quadratic_regression": QuadraticRegression,
    "relu_network": ReluNetwork,
    "sine_features": SineFeatures,
    "union": Union,
}

__all__ = [
    "CATALOG",
    "TASKS",
    "Examples",
    "Fact",
    "Law",
    "LinearRegression",
    "Logistic",
    "LogisticRegression",
    "Prompts",
    "Quadratic",
    "QuadraticRegression",
    "Random",
    "ReluNetwork",
    "Risk",
    "SineFeatures",
    "Task",
    "Union",
    "apply",
]
