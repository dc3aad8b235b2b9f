"""The operators of mutation: what a node of a syntax tree may be changed to, each with the words for it.

Statements are removed inside functions only: a module without one of its constants does not even import.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from typing import Any

_COMPARISONS: dict[type, tuple[type, ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
_ARITHMETIC: dict[type, type] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
    ast.BitXor: ast.BitOr,
}
_SWAPPED = {"min": "max", "max": "min", "any": "all", "all": "any"}

Change = tuple[str, Any]


def changes(node: ast.AST, *, in_function: bool) -> Iterator[Change]:
    """Gives what `node` may be changed to, each with the words for it."""
    for kinds, change in _OPERATORS:
        if isinstance(node, kinds):
            yield from change(node)
    if in_function and isinstance(node, ast.stmt):
        yield from _removed(node)


def _comparison(node: ast.Compare) -> Iterator[Change]:
    for index, operator in enumerate(node.ops):
        for other in _COMPARISONS[type(operator)]:
            ops = [*node.ops[:index], other(), *node.ops[index + 1 :]]
            nth = f" ({index + 1})" if len(node.ops) > 1 else ""
            yield (
                f"{other.__name__} for {type(operator).__name__}{nth}",
                ast.Compare(node.left, ops, node.comparators),
            )


def _boolean(node: ast.BoolOp) -> Iterator[Change]:
    other = ast.Or() if isinstance(node.op, ast.And) else ast.And()
    yield f"{type(other).__name__} for {type(node.op).__name__}", ast.BoolOp(other, node.values)
    for index in range(len(node.values)):
        left = [*node.values[:index], *node.values[index + 1 :]]
        yield f"without operand {index + 1}", left[0] if len(left) == 1 else ast.BoolOp(node.op, left)


def _unary(node: ast.UnaryOp) -> Iterator[Change]:
    yield f"without {type(node.op).__name__}", node.operand


def _binary(node: ast.BinOp) -> Iterator[Change]:
    other = _ARITHMETIC.get(type(node.op))
    if other is not None:
        yield f"{other.__name__} for {type(node.op).__name__}", ast.BinOp(node.left, other(), node.right)


def _augmented(node: ast.AugAssign) -> Iterator[Change]:
    other = _ARITHMETIC.get(type(node.op))
    if other is not None:
        yield (
            f"{other.__name__} for {type(node.op).__name__}",
            ast.AugAssign(node.target, other(), node.value),
        )


def _constant(node: ast.Constant) -> Iterator[Change]:
    value = node.value
    if isinstance(value, bool):
        yield f"{not value}", ast.Constant(not value)
    elif isinstance(value, (int, float)):
        yield "plus 1", ast.Constant(value + 1)
        if value:
            yield "minus 1", ast.Constant(value - 1)
    elif isinstance(value, str):
        yield "another text", ast.Constant(f"{value}~")
    elif isinstance(value, bytes):
        yield "another text", ast.Constant(value + b"~")


def _condition(node: Any) -> Iterator[Change]:
    negates_itself = isinstance(node.test, ast.Compare) and len(node.test.ops) == 1
    if negates_itself or isinstance(node.test, (ast.UnaryOp, ast.Constant)):
        return
    fields = {name: value for name, value in ast.iter_fields(node) if name != "test"}
    yield "negated", type(node)(test=ast.UnaryOp(ast.Not(), node.test), **fields)


def _returned(node: ast.Return) -> Iterator[Change]:
    if node.value is not None and not (isinstance(node.value, ast.Constant) and node.value.value is None):
        yield "returns None", ast.Return(ast.Constant(None))


def _call(node: ast.Call) -> Iterator[Change]:
    for index, keyword in enumerate(node.keywords):
        if keyword.arg is not None:
            rest = [*node.keywords[:index], *node.keywords[index + 1 :]]
            yield f"without {keyword.arg}=", ast.Call(node.func, node.args, rest)
    if isinstance(node.func, ast.Name):
        name = node.func.id
        if name in _SWAPPED:
            other = ast.Name(_SWAPPED[name], ast.Load())
            yield f"{other.id} for {name}", ast.Call(other, node.args, node.keywords)
        elif name.endswith("Error"):
            yield "another error", ast.Call(ast.Name("RuntimeError", ast.Load()), node.args, [])


def _slice(node: ast.Slice) -> Iterator[Change]:
    if node.lower is not None:
        yield "without lower bound", ast.Slice(None, node.upper, node.step)
    if node.upper is not None:
        yield "without upper bound", ast.Slice(node.lower, None, node.step)


def _handler(node: ast.ExceptHandler) -> Iterator[Change]:
    yield "catches nothing", ast.ExceptHandler(ast.Tuple([], ast.Load()), node.name, node.body)


def _try(node: ast.Try) -> Iterator[Change]:
    if node.finalbody:
        if node.handlers:
            yield "without finally", ast.Try(node.body, node.handlers, node.orelse, [])
        else:
            yield "without finally", _block(node.body)


def _with(node: ast.With) -> Iterator[Change]:
    if all(item.optional_vars is None for item in node.items):
        yield "without with", _block(node.body)


def _raise(node: ast.Raise) -> Iterator[Change]:
    if node.cause is not None:
        yield "without cause", ast.Raise(node.exc, None)


def _jump(node: Any) -> Iterator[Change]:
    yield "the other jump", ast.Continue() if isinstance(node, ast.Break) else ast.Break()


def _removed(node: ast.stmt) -> Iterator[Change]:
    jumps = (ast.Raise, ast.Break, ast.Continue, ast.Delete, ast.Nonlocal)
    bare = isinstance(node, ast.Return) and node.value is None
    assigned = isinstance(node, (ast.Assign, ast.AugAssign)) or (
        isinstance(node, ast.AnnAssign) and node.value is not None
    )
    if bare or assigned or isinstance(node, (ast.Expr, *jumps)):
        yield "removed", ast.Pass()


def _block(body: list[ast.stmt]) -> ast.If:
    return ast.If(ast.Constant(value=True), body, [])


_OPERATORS: tuple[tuple[Any, Callable[[Any], Iterator[Change]]], ...] = (
    (ast.Compare, _comparison),
    (ast.BoolOp, _boolean),
    (ast.UnaryOp, _unary),
    (ast.BinOp, _binary),
    (ast.AugAssign, _augmented),
    (ast.Constant, _constant),
    ((ast.If, ast.While, ast.IfExp), _condition),
    (ast.Return, _returned),
    (ast.Call, _call),
    (ast.Slice, _slice),
    (ast.ExceptHandler, _handler),
    (ast.Try, _try),
    (ast.With, _with),
    (ast.Raise, _raise),
    ((ast.Break, ast.Continue), _jump),
)
