"""JSON Schemas of all events and results, and an AsyncAPI document of the topics."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from worker.events.event import EVENT_TYPES, EventKind

_DRAFT = "https://json-schema.org/draft/2020-12/schema"
_COMPONENT = "#/components/schemas/{model}"


def event_schemas() -> dict[str, dict[str, Any]]:
    """Return kind -> JSON Schema of every event."""
    return {kind.value: _schema(EVENT_TYPES[kind], "validation") for kind in EventKind}


def result_schemas(results: dict[str, type[BaseModel]]) -> dict[str, dict[str, Any]]:
    """Return kind -> JSON Schema of every result, as it stands in Redis."""
    return {kind: _schema(model, "serialization") for kind, model in results.items()}


def asyncapi(topics: dict[EventKind, str], version: str) -> dict[str, Any]:
    """Return an AsyncAPI 3.0 document of the event topics (asyncapi.com/docs/reference).

    `topics` is kind -> topic, `version` the one of shopstream. The application it describes is the
    worker, which receives the events.
    """
    # AsyncAPI resolves references from the document's root, so the schemas stand there.
    models: list[tuple[type[BaseModel], Literal["validation", "serialization"]]] = [
        (EVENT_TYPES[kind], "validation") for kind in topics
    ]
    _, definitions = models_json_schema(models, ref_template=_COMPONENT)
    names = {kind: EVENT_TYPES[kind].__name__ for kind in topics}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "shopstream",
            "version": version,
            "description": "The events a shop sends to a shopstream worker.",
        },
        "defaultContentType": "application/json",
        "channels": {
            kind.value: {
                "address": topic,
                "messages": {names[kind]: {"$ref": f"#/components/messages/{names[kind]}"}},
            }
            for kind, topic in topics.items()
        },
        "operations": {
            f"receive-{kind.value}": {
                "action": "receive",
                "channel": {"$ref": f"#/channels/{kind.value}"},
                "messages": [{"$ref": f"#/channels/{kind.value}/messages/{names[kind]}"}],
            }
            for kind in topics
        },
        "components": {
            "messages": {names[kind]: _message(kind) for kind in topics},
            "schemas": definitions["$defs"],
        },
    }


def _message(kind: EventKind) -> dict[str, Any]:
    event = EVENT_TYPES[kind]
    key = "product_id" if kind is EventKind.PRODUCT else "user_id"
    return {
        "name": event.__name__,
        "summary": (event.__doc__ or "").strip(),
        "payload": {"$ref": _COMPONENT.format(model=event.__name__)},
        "bindings": {"kafka": {"key": {"type": "string", "description": f"The {key}."}}},
    }


def _schema(model: type[BaseModel], mode: Literal["validation", "serialization"]) -> dict[str, Any]:
    return {"$schema": _DRAFT, **model.model_json_schema(mode=mode)}
