"""Makes mutants: one small change of a module's syntax tree each, compiled and ready to run.

What is left alone, because no test can or should see it: annotations, docstrings, imports, decorators,
`__repr__`, `__slots__`, protocols, type aliases, and messages (the positional arguments of an error, of
`LOG` and of `bad`; every literal part of an f-string). A change that compiles to the same code is no mutant.
"""

from __future__ import annotations

import ast
import copy
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from types import CodeType
from typing import Any

from tools.mutation.operators import changes

_MESSAGE_CALLS = {"bad", "debug", "info", "warning", "exception", "log"}
_ANNOTATIONS = {"annotation", "returns", "decorator_list", "bases", "type_params"}


@dataclass(frozen=True)
class Mutant:
    """One change: `code` in `scope` of `module`, the `nth` there of the same words. `program` runs it."""

    module: str
    scope: str
    code: str
    change: str
    nth: int = 1
    line: int = field(default=0, compare=False)
    program: CodeType | None = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        nth = f" (#{self.nth})" if self.nth > 1 else ""
        return f"{self.module}:{self.line} {self.scope}: {self.code}{nth}  [{self.change}]"


def mutants(source: str, module: str, filename: str = "") -> Iterator[Mutant]:
    """Gives every mutant of `source`, in the order of its lines as far as they go."""
    tree = ast.parse(source)
    original = _effect(_compiled(tree, filename or module))
    seen: Counter[Mutant] = Counter()
    for site in _sites(tree):
        node = site.node
        code = " ".join((ast.get_source_segment(source, node) or "").split())
        for change, other in changes(node, in_function=bool(site.scope)):
            site.put(ast.fix_missing_locations(ast.copy_location(copy.copy(other), node)))
            program = _compiled(tree, filename or module)
            site.put(node)
            mutant = Mutant(module, site.scope, _shown(code), change)
            if program is None or _effect(program) == original:
                continue
            seen[mutant] += 1
            yield replace(mutant, nth=seen[mutant], line=node.lineno, program=program)


def _compiled(tree: ast.Module, filename: str) -> CodeType | None:
    try:
        return compile(tree, filename, "exec", dont_inherit=True)
    except SyntaxError:
        return None  # as where `nonlocal` lost the name that it refers to


def _effect(program: CodeType | None) -> Any:
    """Gives what `program` does, without where in the file it stands."""
    if program is None:
        return None
    constants = [_effect(each) if isinstance(each, CodeType) else repr(each) for each in program.co_consts]
    names = (program.co_names, program.co_varnames, program.co_freevars, program.co_cellvars)
    # empty before 3.11
    handlers = getattr(program, "co_exceptiontable", b"")
    return program.co_code, constants, names, program.co_flags, program.co_argcount, handlers


def _shown(code: str, limit: int = 100) -> str:
    return code if len(code) <= limit else f"{code[: limit - 4]} ..."


@dataclass(frozen=True)
class _Site:
    """A place in the tree that holds `node` and can hold another."""

    scope: str
    node: Any
    put: Callable[[Any], None]


def _sites(tree: ast.Module) -> Iterator[_Site]:
    yield from _below(tree, "")


def _below(parent: ast.AST, scope: str) -> Iterator[_Site]:
    for name, value in list(ast.iter_fields(parent)):
        if name in _ANNOTATIONS or (name == "args" and _is_message(parent)):
            continue
        if isinstance(value, ast.AST):
            yield from _at(value, scope, lambda new, name=name: setattr(parent, name, new), parent)
        elif isinstance(value, list):
            for index, item in enumerate(value):
                if isinstance(item, ast.AST):
                    put = lambda new, value=value, index=index: value.__setitem__(index, new)  # noqa: E731
                    yield from _at(item, scope, put, parent)


def _at(node: ast.AST, scope: str, put: Callable[[Any], None], parent: ast.AST) -> Iterator[_Site]:
    if _left_alone(node, parent):
        return
    if hasattr(node, "lineno"):
        yield _Site(scope, node, put)
    inner = scope
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        inner = f"{scope}.{node.name}" if scope else node.name
    yield from _below(node, inner)


def _left_alone(node: ast.AST, parent: ast.AST) -> bool:
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        return True
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return True  # a docstring, or the body of a protocol
    if isinstance(node, ast.ClassDef):
        return any(isinstance(base, ast.Name) and base.id == "Protocol" for base in node.bases)
    if isinstance(node, ast.FunctionDef):
        return node.name == "__repr__"
    if isinstance(node, ast.If):
        return isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    if isinstance(node, ast.Assign):
        target = node.targets[0]
        called = node.value.func if isinstance(node.value, ast.Call) else None
        slots = isinstance(target, ast.Name) and target.id in {"__slots__", "__all__"}
        return slots or (isinstance(called, ast.Name) and called.id == "TypeVar")
    if isinstance(node, ast.AnnAssign):
        return isinstance(node.annotation, ast.Name) and node.annotation.id == "TypeAlias"
    return isinstance(node, ast.Constant) and isinstance(parent, ast.JoinedStr)


def _is_message(call: ast.AST) -> bool:
    if not isinstance(call, ast.Call):
        return False
    name = _called(call)
    return name.endswith("Error") or (isinstance(call.func, ast.Attribute) and name in _MESSAGE_CALLS)


def _called(call: ast.Call) -> str:
    if isinstance(call.func, ast.Name):
        return call.func.id
    return call.func.attr if isinstance(call.func, ast.Attribute) else ""
