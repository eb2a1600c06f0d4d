"""What the paper's figures show: log mean squared error at the query, read off within 0.03.

Dutta & Sra, arXiv 2410.07263. A row: figure, task, solver, and the value after 1, 2, 3, 4 layers or steps.
"""

from __future__ import annotations

FIGURE_1 = "linear_regression(d=5, n=20, spectrum=[1, 1, 0.5, 0.25, 1])"

PUBLISHED: tuple[tuple[str, str, str, tuple[float, ...]], ...] = (
    ("1a", FIGURE_1, "conjugate_gradient", (0.73, 0.20, -0.53, -1.48)),
    ("1a", FIGURE_1, "memformer(memory=cgd, preconditioner=scalar)", (0.81, 0.48, 0.19, -0.13)),
    ("1a", FIGURE_1, "linear_transformer(preconditioner=scalar)", (0.81, 0.48, 0.22, -0.01)),
    ("1b", FIGURE_1, "memformer(memory=cgd, preconditioner=full)", (0.12, -0.90, -1.58, -1.97)),
    ("1b", FIGURE_1, "linear_transformer(preconditioner=full)", (0.25, -0.30, -0.71, -1.08)),
)


def published(task: str, solver: str) -> dict[int, float]:
    """The paper's values for a solver on a task, by depth; empty where it shows none."""
    for _, of_task, of_solver, values in PUBLISHED:
        if (of_task, of_solver) == (task, solver):
            return dict(enumerate(values, start=1))
    return {}
