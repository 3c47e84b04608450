"""Do the `x-kubernetes-validations` rules of a schema hold? Evaluated with PyPI's cel-python.

`check_rules` is called once for each CRD: a rule that cel-python cannot parse, or that uses a
function or a name that is not there, is reported, and the CRD is refused; no rule is ever
skipped in silence. A rule whose evaluation fails (say, it reads a field that is absent) counts
as broken, as on a real API server.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import celpy
from celpy import celtypes
from celpy.celparser import CELParseError
from celpy.evaluation import CELEvalError
from lark import Token, Tree

from .errors import FieldError, shown
from .schema import (
    INT_OR_STRING,
    LIST_TYPE,
    Schema,
    item_schema,
    join,
    list_key,
    property_schema,
    resolve,
)

RULES = "x-kubernetes-validations"

_MACROS = frozenset({"all", "exists", "exists_one", "map", "filter"})
_FUNCTIONS = frozenset(
    {
        *("size", "has", "dyn", "type", "int", "uint", "double", "string", "bool", "bytes"),
        *("duration", "timestamp", "matches", "contains", "startsWith", "endsWith"),
        *("getDate", "getDayOfMonth", "getDayOfWeek", "getDayOfYear", "getFullYear", "getHours"),
        *("getMilliseconds", "getMinutes", "getMonth", "getSeconds"),
    }
)
_TYPE_NAMES = frozenset(
    {"int", "uint", "double", "string", "bool", "bytes", "list", "map", "null_type", "type"}
)
_RESERVED = frozenset(
    {
        *("true", "false", "null", "in", "as", "break", "const", "continue", "else", "for"),
        *("function", "if", "import", "let", "loop", "package", "namespace", "return", "var"),
        *("void", "while"),
    }
)
_ESCAPES = {"__": "__underscores__", ".": "__dot__", "-": "__dash__", "/": "__slash__"}
_CAUSES = {
    "FieldValueInvalid",
    "FieldValueForbidden",
    "FieldValueRequired",
    "FieldValueDuplicate",
}


class RuleError(ValueError):
    """An expression that this API cannot evaluate: it says which, and why."""


@dataclass(frozen=True)
class Expression:
    """A compiled expression. `transition` is True if it reads `oldSelf`."""

    text: str
    program: Any
    transition: bool


def check_rules(schema: Schema, path: str = "") -> list[FieldError]:
    """Return a complaint for each rule of `schema` (and below) that cannot be evaluated."""
    return list(_check(schema, path))


def broken_rules(schema: Schema, value: Any, old: Any, path: str = "") -> list[FieldError]:
    """Return a complaint for each rule that `value` breaks. `old` is the stored value, or None on
    creation.
    """
    return list(_walk(resolve(schema), value, old, path, root=True))


def has_rules(schema: Schema) -> bool:
    """Return whether `schema` or anything below it has a rule."""
    schema = resolve(schema)
    return _has_rules(id(schema), schema)


@lru_cache(maxsize=512)
def compile_expression(text: str) -> Expression:
    """Compile `text`. Raises RuleError."""
    try:
        tree = _environment().compile(text)
    except (CELParseError, ValueError) as e:
        first = str(e.args[0] if e.args else e).strip().splitlines()[0]
        raise RuleError(f"compilation failed: {first}") from e
    names = set(_free_names(tree, frozenset()))
    unknown = sorted(names - {"self", "oldSelf"} - _TYPE_NAMES)
    if unknown:
        raise RuleError(f"compilation failed: undeclared reference to '{unknown[0]}'")
    for function in _calls(tree):
        if function not in _FUNCTIONS and function not in _EXTENSIONS and function not in _MACROS:
            raise RuleError(
                f"compilation failed: undeclared reference to function '{function}'"
                " (the local API evaluates CEL's standard functions and the string functions"
                f" {', '.join(sorted(_EXTENSIONS))})"
            )
    program = _environment().program(tree, functions=dict(_EXTENSIONS))
    return Expression(text, program, "oldSelf" in names)


def _check(schema: Schema, path: str) -> Iterator[FieldError]:
    for i, rule in enumerate(schema.get(RULES, ())):
        where = f"{path}.{RULES}[{i}]"
        for field in ("rule", "messageExpression"):
            if field in rule:
                try:
                    compile_expression(rule[field])
                except RuleError as e:
                    detail = f'Invalid value: "{rule[field]}": {e}'
                    yield FieldError("FieldValueInvalid", f"{where}.{field}", detail)
        if rule.get("optionalOldSelf"):
            detail = "Forbidden: the local API does not evaluate optionalOldSelf"
            yield FieldError("FieldValueForbidden", f"{where}.optionalOldSelf", detail)
    for key, sub in schema.get("properties", {}).items():
        yield from _check(sub, f"{path}.properties[{key}]")
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from _check(schema[key], f"{path}.{key}")


def _walk(
    schema: Schema, value: Any, old: Any, path: str, *, root: bool = False
) -> Iterator[FieldError]:
    if not _has_rules(id(schema), schema):
        return
    rules = schema.get(RULES, ())
    if rules and value is not None:
        yield from _evaluate(schema, rules, value, old, path, root=root)
    if isinstance(value, dict):
        for key, child in value.items():
            sub = property_schema(schema, key)
            if sub is not None:
                before = old.get(key) if isinstance(old, dict) else None
                yield from _walk(sub, child, before, join(path, key))
    elif isinstance(value, list):
        items = item_schema(schema)
        for i, child in enumerate(value):
            yield from _walk(items, child, _counterpart(schema, child, old), f"{path}[{i}]")


def _evaluate(
    schema: Schema, rules: list[dict[str, Any]], value: Any, old: Any, path: str, *, root: bool
) -> Iterator[FieldError]:
    # What did not change was found valid before: Kubernetes looks again only at transitions.
    unchanged = old is not None and value == old
    due = [
        (rule, expression)
        for rule in rules
        for expression in [compile_expression(rule["rule"])]
        if (old is not None if expression.transition else not unchanged)
    ]
    if not due:
        return
    names = {"self": to_cel(schema, _root_view(value) if root else value)}
    if old is not None:
        names["oldSelf"] = to_cel(schema, _root_view(old) if root else old)
    for rule, expression in due:
        where = path + rule.get("fieldPath", "") if path else rule.get("fieldPath", "")[1:]
        reason = rule.get("reason", "")
        cause = reason if reason in _CAUSES else "FieldValueInvalid"
        try:
            holds = expression.program.evaluate(names)
        except CELEvalError as e:
            why = str(e.args[0] if e.args else e).splitlines()[0]
            yield FieldError(cause, where, f"Invalid value: {rule['rule']} evaluation error: {why}")
            continue
        if not isinstance(holds, celtypes.BoolType):
            yield FieldError(cause, where, f"Invalid value: rule is no boolean: {rule['rule']}")
        elif not holds:
            yield FieldError(cause, where, _detail(cause, value, _message(rule, names)))


def _detail(cause: str, value: Any, message: str) -> str:
    kind = {
        "FieldValueForbidden": "Forbidden",
        "FieldValueRequired": "Required value",
        "FieldValueDuplicate": "Duplicate value",
    }.get(cause, "Invalid value")
    if kind == "Invalid value" and not isinstance(value, (dict, list)):
        return f"{kind}: {shown(value)}: {message}"
    return f"{kind}: {message}"


def _message(rule: Mapping[str, Any], names: Mapping[str, Any]) -> str:
    if "messageExpression" in rule:
        try:
            text = compile_expression(rule["messageExpression"]).program.evaluate(dict(names))
        except CELEvalError:
            text = None
        if isinstance(text, str) and text.strip() and "\n" not in text:
            return str(text)
    return str(rule.get("message") or f"failed rule: {' '.join(rule['rule'].split())}")


def _root_view(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return what rules at the root may see: of the metadata, only the names."""
    metadata = {k: v for k, v in value["metadata"].items() if k in ("name", "generateName")}
    return {**value, "metadata": metadata}


def _counterpart(schema: Schema, item: Any, old: Any) -> Any:
    """Return the old item of the same key; None where items cannot be told apart by key."""
    if schema.get(LIST_TYPE) != "map" or not isinstance(old, list):
        return None
    key = list_key(schema, item)
    return next((o for o in old if list_key(schema, o) == key), None)


_rules_below: dict[int, tuple[Schema, bool]] = {}


def _has_rules(identity: int, schema: Schema) -> bool:
    """Return whether `schema` or anything below has a rule (remembered: most of a schema has
    none).
    """
    known = _rules_below.get(identity)
    if known is not None and known[0] is schema:
        return known[1]
    below = [*schema.get("properties", {}).values(), schema.get("items")]
    below.append(schema.get("additionalProperties"))
    found = bool(schema.get(RULES)) or any(
        isinstance(s, dict) and _has_rules(id(s), s) for s in below
    )
    if len(_rules_below) > 20_000:
        _rules_below.clear()
    _rules_below[identity] = (schema, found)
    return found


def to_cel(schema: Schema, value: Any) -> Any:
    """Return `value` as cel-python's types, by the schema's types (a `number` is a double, even if
    whole).
    """
    schema = resolve(schema)
    if value is None:
        return None
    if isinstance(value, bool):
        return celtypes.BoolType(value)
    if isinstance(value, (int, float)):
        if schema.get("type") == "number" and not schema.get(INT_OR_STRING):
            return celtypes.DoubleType(value)
        whole = isinstance(value, int) or value.is_integer()
        return celtypes.IntType(int(value)) if whole else celtypes.DoubleType(value)
    if isinstance(value, str):
        return _string_to_cel(schema.get("format"), value)
    if isinstance(value, list):
        items = item_schema(schema)
        return celtypes.ListType([to_cel(items, v) for v in value])
    declared = schema.get("properties", {})
    return celtypes.MapType(
        {
            celtypes.StringType(_escape(k) if k in declared else k): to_cel(
                property_schema(schema, k) or {}, v
            )
            for k, v in value.items()
        }
    )


def _string_to_cel(form: str | None, value: str) -> Any:
    if form == "date-time":
        return celtypes.TimestampType(value)
    if form == "duration":
        return celtypes.DurationType(value)
    if form == "byte":
        return celtypes.BytesType(base64.b64decode(value))
    return celtypes.StringType(value)


def _escape(name: str) -> str:
    if name in _RESERVED:
        return f"__{name}__"
    return re.sub(r"__|[.\-/]", lambda m: _ESCAPES[m[0]], name)


@lru_cache(maxsize=1)
def _environment() -> celpy.Environment:
    return celpy.Environment(runner_class=celpy.InterpretedRunner)


def _free_names(tree: Tree[Token] | Token, bound: frozenset[str]) -> Iterator[str]:
    """Yield the identifiers that no macro binds."""
    if isinstance(tree, Token):
        return
    if tree.data == "ident":
        name = str(tree.children[0])
        if name not in bound:
            yield name
        return
    if tree.data == "member_dot_arg" and str(tree.children[1]) in _MACROS:
        target, _, arguments = tree.children
        yield from _free_names(target, bound)
        if isinstance(arguments, Tree) and arguments.children:
            variable = next(iter(_free_names(arguments.children[0], frozenset())), "")
            for argument in arguments.children[1:]:
                yield from _free_names(argument, bound | {variable})
        return
    for child in tree.children:
        yield from _free_names(child, bound)


def _calls(tree: Tree[Token]) -> Iterator[str]:
    for node in tree.iter_subtrees():
        if node.data == "ident_arg":
            yield str(node.children[0])
        elif node.data == "member_dot_arg":
            yield str(node.children[1])


def _strings(values: list[str]) -> celtypes.ListType:
    return celtypes.ListType([celtypes.StringType(v) for v in values])


def _split(text: Any, separator: Any, limit: Any = None) -> Any:
    if limit is not None and limit == 0:
        return _strings([])
    parts = (
        list(text)
        if separator == ""
        else str(text).split(str(separator), -1 if limit is None or limit < 0 else int(limit) - 1)
    )
    return _strings(parts)


def _replace(text: Any, old: Any, new: Any, count: Any = -1) -> Any:
    return celtypes.StringType(str(text).replace(str(old), str(new), int(count)))


def _substring(text: Any, start: Any, end: Any = None) -> Any:
    last = len(text) if end is None else int(end)
    if not 0 <= int(start) <= last <= len(text):
        raise ValueError(f"substring({start}, {last}) is out of range of {len(text)} characters")
    return celtypes.StringType(str(text)[int(start) : last])


def _index_of(text: Any, part: Any) -> Any:
    if isinstance(text, str):
        return celtypes.IntType(text.find(str(part)))
    return celtypes.IntType(next((i for i, v in enumerate(text) if v == part), -1))


def _find_all(text: Any, pattern: Any) -> Any:
    return _strings([m.group(0) for m in re.finditer(str(pattern), str(text))])


def _find(text: Any, pattern: Any) -> Any:
    match = re.search(str(pattern), str(text))
    return celtypes.StringType(match.group(0) if match else "")


def _sum(values: Any) -> Any:
    total = values[0] if len(values) else celtypes.IntType(0)
    for value in values[1:]:
        total = total + value
    return total


def _is_sorted(values: Any) -> Any:
    return celtypes.BoolType(all(a <= b for a, b in pairwise(values)))


def _dyn(value: Any) -> Any:
    return value


def _join(values: Any, separator: Any = "") -> Any:
    return celtypes.StringType(str(separator).join(str(v) for v in values))


_EXTENSIONS: dict[str, Any] = {
    "split": _split,
    "join": _join,
    "replace": _replace,
    "substring": _substring,
    "indexOf": _index_of,
    "find": _find,
    "findAll": _find_all,
    "lowerAscii": lambda text: celtypes.StringType(str(text).lower()),
    "upperAscii": lambda text: celtypes.StringType(str(text).upper()),
    "trim": lambda text: celtypes.StringType(str(text).strip()),
    "charAt": lambda text, at: celtypes.StringType(str(text)[int(at)]),
    "sum": _sum,
    "isSorted": _is_sorted,
    "dyn": _dyn,
}
