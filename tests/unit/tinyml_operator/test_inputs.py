"""Which host an address means: where parsers may disagree, none."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tinyml_operator.inputs import host_of

from tests.support.operator_world import MODEL_SHA, World, a_gateway, a_tiny_model


@pytest.mark.parametrize(
    ("uri", "host"),
    [
        ("https://good.example/m.tflite", "good.example"),
        ("http://Good.Example:8080/a/m.tflite?x=%20#y", "good.example"),
        ("https://evil.example\\@good.example/m.tflite", None),
        ("https://user@good.example/m.tflite", None),
        ("https://evil.example#@good.example/m.tflite", None),
        ("https://evil.example?@good.example/m.tflite", None),
        ("https://good.example:99999/m.tflite", None),
        ("https://good.example:abc/m.tflite", None),
        ("https://good.example/a b", None),
        ("https://good.example/a\\b", None),
        ("https://good.example /m.tflite", None),
        ("https://g\u00f6\u00f6d.example/m.tflite", None),
        ("https://[::1/m.tflite", None),
        ("https://good.example", None),
    ],
)
def test_a_host_is_what_every_client_would_take_it_for(uri: str, host: str | None) -> None:
    assert host_of(uri) == host


async def test_a_key_keeps_its_question_marks() -> None:
    world = World()
    world.settings = replace(world.settings, allowed_hosts=("Good.Example",))
    world.restart()
    await world.classes("posix")
    world.storage.objects[("models", "a#1?.tflite")] = b"a model"
    source = {"uri": "s3://models/a#1?.tflite", "sha256": MODEL_SHA}
    await world.add(a_gateway(), a_tiny_model(source=source))
    await world.settle()
    assert (await world.condition("digits", "Ready"))["status"] == "True"
    source = {"uri": "https://good.example/m.tflite", "sha256": MODEL_SHA}
    await world.add(a_tiny_model(source=source, budget={"flashBytes": 9000}))
    await world.settle()
    assert (await world.condition("digits", "Ready"))["status"] == "True"


async def test_every_bucket_can_be_allowed() -> None:
    world = World()
    world.settings = replace(world.settings, allowed_buckets=("*",))
    world.restart()
    await world.classes("posix")
    world.storage.objects[("any", "m.tflite")] = b"a model"
    source = {"uri": "s3://any/m.tflite", "sha256": MODEL_SHA}
    await world.add(a_gateway(), a_tiny_model(source=source))
    await world.settle()
    assert (await world.condition("digits", "Ready"))["status"] == "True"
