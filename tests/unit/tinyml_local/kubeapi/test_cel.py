"""CEL rules: evaluated, or refused by name; never skipped."""

from __future__ import annotations

from typing import Any

import pytest
from tinyml_local.kubeapi import cel

STRING = {"type": "string"}


def _schema(rule: str, **more: Any) -> dict[str, Any]:
    fields = {
        "n": {"type": "integer"},
        "x": {"type": "number"},
        "s": STRING,
        "when": {"type": "string", "format": "date-time"},
        "namespace": STRING,
        "with-dash": STRING,
        "list": {"type": "array", "items": {"type": "integer"}},
        "names": {"type": "array", "items": STRING},
        "map": {"type": "object", "additionalProperties": {"type": "integer"}},
    }
    return {"type": "object", "properties": fields, cel.RULES: [{"rule": rule, **more}]}


def _broken(rule: str, value: dict[str, Any], old: Any = None, **more: Any) -> list[str]:
    spec = {"type": "object", "properties": {"spec": _schema(rule, **more)}}
    head: dict[str, Any] = {"metadata": {"name": "a"}}
    before = None if old is None else {**head, "spec": old}
    return [str(e) for e in cel.broken_rules(spec, {**head, "spec": value}, before)]


@pytest.mark.parametrize(
    ("rule", "value"),
    [
        ("self.n > 1 && self.n % 2 == 0", {"n": 4}),
        ("self.x < 1.5", {"x": 1}),
        ("!has(self.s)", {}),
        ("self.s.startsWith('a') && self.s.endsWith('c') && self.s.contains('b')", {"s": "abc"}),
        ("self.s.matches('^[a-z]{3}$')", {"s": "abc"}),
        ("self.s.split('/').size() == 2 && self.s.split('/')[1] == 'b'", {"s": "a/b"}),
        ("self.s.lowerAscii() == 'abc' && self.s.indexOf('B') == 1", {"s": "ABC"}),
        ("self.s.replace('a', 'x').substring(0, 1) == 'x'", {"s": "abc"}),
        ("self.list.all(i, i > 0) && self.list.exists(i, i == 2)", {"list": [1, 2]}),
        ("self.list.filter(i, i > 1).size() == 1", {"list": [1, 2]}),
        ("self.list.map(i, i * 2) == [2, 4]", {"list": [1, 2]}),
        ("self.list.exists_one(i, i == 2)", {"list": [1, 2]}),
        ("self.list.sum() == 3 && self.list.isSorted()", {"list": [1, 2]}),
        ("self.names.all(a, self.names.exists_one(b, a == b))", {"names": ["x", "y"]}),
        ("self.map.all(k, self.map[k] > 0) && 'a' in self.map", {"map": {"a": 1}}),
        ("self.when < timestamp('2030-01-01T00:00:00Z')", {"when": "2026-11-22T10:00:00Z"}),
        (
            "self.__namespace__ == 'x' && self.with__dash__dash == 'y'",
            {"namespace": "x", "with-dash": "y"},
        ),
        ("(has(self.n) ? self.n : 7) == 7", {}),
        ("type(self.n) == int && string(self.n) == '3'", {"n": 3}),
    ],
)
def test_a_rule_that_holds_says_nothing(rule: str, value: dict[str, Any]) -> None:
    assert not cel.check_rules(_schema(rule))
    assert _broken(rule, value) == []
    opposite = f"!({rule})"
    assert len(_broken(opposite, value)) == 1


def test_a_broken_rule_says_its_message() -> None:
    assert _broken("self.n > 3", {"n": 1}, message="n is small") == [
        "spec: Invalid value: n is small"
    ]
    assert _broken("self.n > 3", {"n": 1}) == ["spec: Invalid value: failed rule: self.n > 3"]
    told = {"message": "x", "messageExpression": "'n is ' + string(self.n)"}
    assert _broken("self.n > 3", {"n": 1}, **told) == ["spec: Invalid value: n is 1"]
    told = {"reason": "FieldValueForbidden", "fieldPath": ".n", "message": "no"}
    assert _broken("self.n > 3", {"n": 1}, **told) == ["spec.n: Forbidden: no"]


def test_a_rule_about_the_past_needs_a_past() -> None:
    assert _broken("self.n >= oldSelf.n", {"n": 1}) == []
    assert _broken("self.n >= oldSelf.n", {"n": 1}, {"n": 1}) == []
    assert len(_broken("self.n >= oldSelf.n", {"n": 1}, {"n": 2})) == 1


def test_what_did_not_change_is_not_checked_anew() -> None:
    assert _broken("self.n > 3", {"n": 1}, {"n": 1}) == []
    assert len(_broken("self.n > 3", {"n": 2}, {"n": 1})) == 1


def test_an_evaluation_that_fails_counts_as_broken() -> None:
    found = _broken("self.n > 1", {})
    assert len(found) == 1
    assert "evaluation error" in found[0]
    assert "'n'" in found[0]


@pytest.mark.parametrize(
    ("rule", "complaint"),
    [
        ("self.n >", "compilation failed"),
        ("other > 1", "undeclared reference to 'other'"),
        ("self.s.nosuch()", "undeclared reference to function 'nosuch'"),
        ("isURL(self.s)", "undeclared reference to function 'isURL'"),
        ("self.list.reduce(a, b, 0, a + b) > 1", "undeclared reference"),
        ("self.list.all(i, j > 1)", "undeclared reference to 'j'"),
    ],
)
def test_a_rule_that_cannot_be_evaluated_is_named(rule: str, complaint: str) -> None:
    found = [str(e) for e in cel.check_rules(_schema(rule), "spec")]
    assert len(found) == 1
    assert found[0].startswith(f"spec.{cel.RULES}[0].rule: ")
    assert complaint in found[0]


def test_optional_old_self_is_refused() -> None:
    found = [str(e) for e in cel.check_rules(_schema("true", optionalOldSelf=True), "spec")]
    assert found == [
        f"spec.{cel.RULES}[0].optionalOldSelf:"
        " Forbidden: the local API does not evaluate optionalOldSelf"
    ]
