"""The exported schemas say what the decoder takes and what stands in Redis."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.commands.schema import command
from worker.events.decode import EventLimits, InvalidEvent, RawRecord, decode_event
from worker.events.event import EVENT_TYPES, EventKind
from worker.events.schema import asyncapi, event_schemas

TIMES = ["2025-06-01T11:59:00Z", "2025-06-01 11:59:00+02:00", 1_748_779_200, None]
LIMITS = EventLimits()
_VALUES = (
    st.none()
    | st.booleans()
    | st.integers(-2, 2_000_000)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["u1", "e-1", "", "a b", "耳机", "en-US", "zz-", "x" * 129])
    | st.lists(st.sampled_from(["p1", "", "x" * 129]), max_size=3)
)
_ITEMS = st.lists(
    st.fixed_dictionaries(
        {}, optional={"product_id": _VALUES, "quantity": _VALUES, "price": _VALUES}
    ),
    max_size=2,
)


def document(*arguments: str) -> Any:
    result = CliRunner().invoke(command, list(arguments))
    assert result.exit_code == 0, result.output
    return json.loads(result.output)


@pytest.mark.parametrize("kind", list(EventKind))
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_the_decoder_takes_what_the_schema_allows(kind: EventKind, data: st.DataObject) -> None:
    """An object is valid by the JSON Schema of its kind exactly when the decoder takes it."""
    event = {
        name: data.draw(_value_of(name), label=name)
        for name in EVENT_TYPES[kind].model_fields
        if data.draw(st.integers(0, 9), label=f"with {name}")
    }
    schema = event_schemas()[kind.value]
    valid = jsonschema.Draft202012Validator(schema).is_valid(event)
    key = str(event.get("product_id" if kind is EventKind.PRODUCT else "user_id")).encode()
    raw = RawRecord("t", 0, 0, key, json.dumps(event).encode(), -1)
    result = decode_event(kind, raw, LIMITS)
    assert isinstance(result, InvalidEvent) != valid, result


def _value_of(name: str) -> st.SearchStrategy[Any]:
    if name == "occurred_at":  # its format is no rule of JSON Schema itself
        return st.just("2025-06-01T11:59:00Z") | st.sampled_from([1_748_779_200, None])
    good = {
        "event_id": st.just("e-1"),
        "items": _ITEMS,
        "stars": st.floats(1, 5),
        "available": st.booleans(),
        "locale": st.sampled_from([None, "zh-CN"]),
        "shown": st.just(["p1"]),
    }
    return good.get(name, st.sampled_from(["u1", "p1"])) | _VALUES


@pytest.mark.parametrize("section", ["events", "results"])
def test_every_schema_is_a_schema(section: str) -> None:
    """`shopstream schema` prints valid JSON Schemas with a description for every field of ours."""
    schemas = document()[section]
    assert len(schemas) >= 6
    for schema in schemas.values():
        jsonschema.Draft202012Validator.check_schema(schema)
        assert schema["description"]
        assert schema["properties"]


def test_events_cover_every_kind() -> None:
    """Every kind of event has a schema."""
    assert document()["events"].keys() == {kind.value for kind in EventKind}


def test_asyncapi_names_every_topic_and_resolves() -> None:
    """The AsyncAPI document has a channel a topic, and each of its references leads somewhere."""
    whole = document("--asyncapi")
    assert whole["asyncapi"] == "3.0.0"
    addresses = {channel["address"] for channel in whole["channels"].values()}
    assert {"shop.searches", "shop.products", "shop.privacy"} <= addresses
    assert len(addresses) == len(EventKind)
    references = list(_references(whole))
    assert len(references) > 3 * len(EventKind)
    for reference in references:
        found = whole
        for part in reference.removeprefix("#/").split("/"):
            found = found[part]


def test_asyncapi_follows_the_topics_it_is_given() -> None:
    """The channels carry the topic names of the settings."""
    made = asyncapi({EventKind.SEARCH: "eu.searches"}, "1.2.3")
    assert made["channels"]["search"]["address"] == "eu.searches"
    assert made["info"]["version"] == "1.2.3"


def _references(node: Any) -> Any:
    if isinstance(node, dict):
        for name, value in node.items():
            if name == "$ref":
                yield value
            else:
                yield from _references(value)
    elif isinstance(node, list):
        for value in node:
            yield from _references(value)
