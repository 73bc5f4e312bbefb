"""The shop's products from Kafka to a file, so that training reads the texts the worker reads."""

from __future__ import annotations

import os
from pathlib import Path

import orjson

from worker.settings import Settings
from worker.topics.layout import TopicLayout
from worker.topics.reader import read_topic
from worker.topics.sample_export import NotExported

FILE_NAME = "products.jsonl"


async def export_products(settings: Settings, folder: Path) -> int:
    """Write `<folder>/products.jsonl`, the fields of a Product a line; return how many there are.

    The newest state of each product counts; removed ones are left out. A shop without products
    leaves the file as it is. Raises KafkaUnavailable, TopicsUnfit, NotExported.
    """
    products: dict[bytes, bytes] = {}
    async for record in read_topic(settings, TopicLayout.from_settings(settings).product_vectors):
        if record.key is None:
            continue
        fields = None if record.value is None else _fields(record.value)
        if fields is None:
            products.pop(record.key, None)
        else:
            products[record.key] = fields
    if not products:
        return 0
    _write(folder, b"\n".join(products.values()) + b"\n")
    return len(products)


def _write(folder: Path, content: bytes) -> None:
    part = folder / f".{FILE_NAME}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        part.write_bytes(content)
        os.replace(part, folder / FILE_NAME)
    except OSError as error:
        raise NotExported(f"the products could not be written below {folder} ({error})") from error


def _fields(value: bytes) -> bytes | None:
    """Return the product's fields as a line; None where the record holds none."""
    try:
        product = orjson.loads(value)["product"]
    except (ValueError, KeyError, TypeError):
        return None
    return orjson.dumps(product) if isinstance(product, dict) else None
