"""What a validation error means, in words that a person can act on."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

MAX_FAULTS = 3
_BYTE_ORDER_MARKS = {
    b"\xef\xbb\xbf": "a UTF-8 byte-order mark",
    b"\xff\xfe": "a UTF-16 byte-order mark",
    b"\xfe\xff": "a UTF-16 byte-order mark",
}
_EXPECTED = {
    "missing": "is missing",
    "string_type": "must be a text",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "list_type": "must be a list",
    "datetime_type": "must be a time with zone, such as 2025-01-31T12:00:00Z",
    "datetime_parsing": "must be a time with zone, such as 2025-01-31T12:00:00Z",
    "datetime_from_date_parsing": "must be a time with zone, such as 2025-01-31T12:00:00Z",
    "timezone_aware": "has no zone; send a time such as 2025-01-31T12:00:00Z",
    "string_too_short": "must not be empty",
    "string_too_long": "must have at most {max_length} characters",
    "too_short": "must not be an empty list",
    "too_long": "must have at most {max_length} entries",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "finite_number": "must be a finite number",
    "string_pattern_mismatch": "has characters that are not allowed (pattern {pattern})",
}


def schema_reason(error: ValidationError, value: bytes) -> tuple[str, str]:
    """Return code and reason for an event's validation error; `value` is the record's value."""
    faults = error.errors(include_url=False, include_input=False)
    if faults[0]["type"] == "json_invalid":
        return "invalid_json", _json_reason(faults[0]["msg"], value)
    if not faults[0]["loc"]:
        return "schema", "the value must be a JSON object"
    return "schema", field_faults(error)


def field_faults(error: ValidationError) -> str:
    """Return the first faults as `field what is wrong`, joined by semicolons."""
    faults = error.errors(include_url=False, include_input=False)
    sentences = [f"{_field_path(fault['loc'])} {_expected(fault)}" for fault in faults[:MAX_FAULTS]]
    if len(faults) > MAX_FAULTS:
        sentences.append(f"and {len(faults) - MAX_FAULTS} more faults")
    return "; ".join(sentences)


def _json_reason(message: str, value: bytes) -> str:
    for mark, name in _BYTE_ORDER_MARKS.items():
        if value.startswith(mark):
            return f"the value begins with {name}; send plain UTF-8 without one"
    try:
        value.decode()
    except UnicodeDecodeError as error:
        return f"the value is not UTF-8 (byte {error.start}); send JSON in UTF-8"
    return f"the value is not valid JSON: {message.removeprefix('Invalid JSON: ')}"


def _field_path(location: tuple[int | str, ...]) -> str:
    path = ""
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else part
    return path


def _expected(fault: Any) -> str:
    template = _EXPECTED.get(fault["type"])
    if template is not None:
        return template.format_map(fault.get("ctx", {}))
    message = str(fault["msg"]).removeprefix("Value error, ")
    return message[0].lower() + message[1:]
