"""How a solver is trained, tuned and tested."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt, MinLen

Count = Annotated[int, Ge(1), Le(1_000_000_000)]
Rate = Annotated[float, Gt(0)]
Decay = Annotated[float, Ge(0), Lt(1)]


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """Adam on the mean squared error of the last iterate, then a test that no training prompt is part of.

    use: the named protocol this one starts from.
    steps, batch: training steps, and prompts in each.
    fresh: new prompts every step, or one batch for all steps.
    draw: prompts through X, or (G, b) directly where the task knows how.
    query: one sampled query a prompt, or the exact mean over queries; in training and in the test.
    learning_rates: all are trained; the validation prompts choose one. Their number is the tuning budget.
    schedule: the learning rate over the steps. beta1, beta2: Adam's.
    init_scale: standard deviation of the parameters at the start.
    data_seed: draw the same prompts for every seed, which then sets only rotation and initialisation.
    withheld: examples hidden from methods that have nothing to fit.
    dtype: of prompts, layers and gradients in training; bfloat16 keeps parameters and Adam in float32. Tests are in
        float64 whatever it is.
    """

    use: str
    steps: Count
    batch: Count
    fresh: bool
    draw: Literal["examples", "statistics"]
    query: Literal["sampled", "exact"]
    learning_rates: Annotated[tuple[Rate, ...], MinLen(1)]
    schedule: Literal["constant", "cosine"]
    beta1: Decay
    beta2: Decay
    init_scale: Annotated[float, Ge(0)]
    data_seed: int | None = None
    withheld: Annotated[int, Ge(0)] = 0
    validation_prompts: Count = 16_384
    test_prompts: Annotated[int, Ge(64)] = 102_400
    dtype: Literal["float32", "float64", "bfloat16"] = "float32"

    def check(self) -> None:
        """Query and draw fit each other."""
        if self.draw == "statistics" and self.query == "sampled":
            raise ValueError("query: a sampled query needs draw: examples")


PROTOCOLS = {
    # As published: arXiv 2410.07263 and its notebooks. One batch of 1000 prompts for all 1000 steps, the same prompts
    # for every seed, 1000 test prompts with a sampled query each, one example withheld from the classical methods.
    "published": Protocol(
        use="published",
        steps=1000,
        batch=1000,
        fresh=False,
        draw="examples",
        query="sampled",
        learning_rates=(0.01,),
        schedule="constant",
        beta1=0.9,
        beta2=0.999,
        init_scale=0.01,
        data_seed=999,
        withheld=1,
        test_prompts=1000,
    ),
    # Fresh prompts every step, queries integrated out, a tuned learning rate, a test that resolves 0.01 nat.
    "rigorous": Protocol(
        use="rigorous",
        steps=5000,
        batch=256,
        fresh=True,
        draw="statistics",
        query="exact",
        learning_rates=(0.01, 0.03, 0.1),
        schedule="cosine",
        beta1=0.9,
        beta2=0.95,
        init_scale=0.01,
    ),
}
