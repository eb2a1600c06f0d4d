"""Variables of a thread, one for each expression, declared in an order that lets few of them live at a time."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence

from .affine import code_of
from .ir import Expr
from .target import Target
from .unrolled import TooLong


class Variables:
    """Declarations of variables, one after the other."""

    def __init__(
        self,
        target: Target,
        names: dict[int, str],
        uses: Iterable[tuple[Expr, str]],
        noted: Mapping[int, str] | None = None,
    ) -> None:
        """names: of what is in memory already. uses: statements with a place for a variable, which follow it.

        noted: the model's lines to be written above what they became, by the expression's number.
        """
        self.target, self.memory = target, names
        self.uses: dict[int, list[str]] = {}
        for expr, statement in uses:
            self.uses.setdefault(expr.number, []).append(statement)
        self.noted, self.line = noted or {}, ""
        self.names: dict[int, str] = {}
        self.counters: dict[tuple[str, int], str] = {}  # of the streams: variables with their four variates
        self.lines: list[str] = []

    def compute(self, roots: Iterable[Expr]) -> None:
        """Declare all that the roots are computed from, and them."""
        roots = [*roots]
        ahead, found = [*roots], dict[int, Expr]()
        while ahead:  # as `needed`, but not beyond what is in memory
            expr = ahead.pop()
            if expr.number not in found:
                found[expr.number] = expr
                ahead += () if expr.number in self.memory else expr.args
        fresh = [found[number] for number in sorted(found.keys() - self.names.keys())]
        for expr in _soon_after_draws(fresh, _variates(roots)):
            self._declare(expr)

    def _declare(self, expr: Expr) -> None:
        if expr.op == "const":
            self.names[expr.number] = self.target.code(expr, ())
        elif expr.op == "load":  # again at each use, as a member's numbers are too many to keep in registers
            memory, position = expr.place
            self.names[expr.number] = f"{memory.name}[{code_of(position)}]"
        else:
            if (line := self.noted.get(expr.number, self.line)) != self.line:
                self.lines.append(f"// {line}")
                self.line = line
            code, name = self._code(expr), f"t{len(self.names)}"
            self.names[expr.number] = name
            self.lines.append(f"const {self.target.type_of(expr)} {name} = {code};")
        self.lines += [use.format(self.names[expr.number]) for use in self.uses.get(expr.number, ())]

    def _code(self, expr: Expr) -> str:
        if expr.number in self.memory:
            return self.memory[expr.number]
        if expr.op == "variate":
            kind, counter, i = expr.detail
            if (kind, counter) not in self.counters:
                four = self.counters[kind, counter] = f"z{len(self.counters)}"
                self.lines.append(f"const Four {four} = {kind}(index, {counter}u, stream);")
            return f"{self.counters[kind, counter]}.x[{i}]"
        if expr.op == "sum":  # a loop over what a member has, within what a prompt has
            raise TooLong
        return self.target.code(expr, [self.names[arg.number] for arg in expr.args])


def _variates(roots: Sequence[Expr]) -> Iterator[Expr]:
    """The variates that the roots are computed from, as depth-first search meets them."""
    seen: set[int] = set()
    ahead = [*reversed(roots)]
    while ahead:
        expr = ahead.pop()
        if expr.number not in seen:
            seen.add(expr.number)
            if expr.op == "variate":
                yield expr
            ahead += reversed(expr.args)


def _soon_after_draws(exprs: Sequence[Expr], variates: Iterable[Expr]) -> Iterator[Expr]:
    """The expressions, each after its arguments: as given, but variates late, and what they complete at once, so that
    few of them are in registers at a time.

    variates: in the order in which they are drawn, all four of a counter together.
    """
    missing: dict[int, int] = {}  # how many arguments that come of variates are still to be written
    users: dict[int, list[Expr]] = {}
    for expr in exprs:
        drawn = {arg.number for arg in expr.args if arg.number in missing}
        if drawn or expr.op == "variate":
            missing[expr.number] = len(drawn)
            for number in drawn:
                users.setdefault(number, []).append(expr)
    others = {expr.number: expr for expr in exprs if expr.number not in missing}
    counters: dict[tuple[str, int], list[Expr]] = {}
    for expr in variates:
        if expr.number in missing:
            counters.setdefault(expr.detail[:2], []).append(expr)
    for together in counters.values():
        ready = [(variate.number, variate) for variate in together]
        heapq.heapify(ready)
        while ready:
            _, expr = heapq.heappop(ready)
            yield from _taken(expr.args, others)
            yield expr
            for user in users.get(expr.number, ()):
                missing[user.number] -= 1
                if not missing[user.number]:
                    heapq.heappush(ready, (user.number, user))
    yield from others.values()


def _taken(roots: Iterable[Expr], others: dict[int, Expr]) -> Iterator[Expr]:
    """What the roots need of some expressions, each after its arguments; they are taken out."""
    ahead = [root for root in roots if root.number in others]
    found: dict[int, Expr] = {}
    while ahead:
        expr = ahead.pop()
        found[expr.number] = expr
        ahead += [arg for arg in expr.args if arg.number in others and arg.number not in found]
    for number in sorted(found):
        yield others.pop(number)
