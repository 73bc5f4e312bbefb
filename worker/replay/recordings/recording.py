"""A recording: a folder with `recording.json` and one folder a topic and partition."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from worker.errors import ShopstreamError
from worker.replay.recordings.faults import Faults
from worker.replay.recordings.files import FileFormat, PartitionLog
from worker.settings import Settings
from worker.topics.layout import TopicLayout

MANIFEST = "recording.json"
FORMAT_VERSION = 1
MAX_KEPT_GAPS = 1_000
# What changes results; a replay with others says so. Secrets and addresses stay out.
RESULT_SETTINGS = (
    "model", "sentiment_head", "dtype", "max_text_tokens", "faq_file", "answer_threshold",
    "max_event_bytes", "max_text_chars", "max_future_s", "recommendation_count", "search_count",
    "trending_count", "recommendations_ttl_s", "search_ttl_s", "query_ttl_s", "tags_ttl_s",
    "answer_ttl_s", "history_max_events", "reviews_per_product", "popularity_half_life_s",
    "popular_max_products", "together_max_products", "attribution_window_s",
)  # fmt: skip


class NoRecording(ShopstreamError):
    """The folder is no recording that this shopstream can read; the message says what to do."""


class OffsetGap(BaseModel):
    """Offsets that Kafka no longer had (retention, compaction, transaction markers)."""

    model_config = ConfigDict(frozen=True)

    topic: str
    partition: int
    first: int
    last: int


class PartitionFacts(BaseModel):
    """What stands of one partition."""

    first: int = Field(description="Offset of the first record.")
    next: int = Field(description="Offset after the last one.")
    records: int
    first_ms: int = -1
    last_ms: int = -1


class RecordingFacts(BaseModel):
    """`recording.json`."""

    model_config = ConfigDict(extra="ignore")

    format: int = FORMAT_VERSION
    created_at: str
    event_prefix: str = "shop."
    internal_prefix: str = "shopstream."
    file_format: FileFormat = "parquet"
    settings: dict[str, Any] = {}
    topics: dict[str, dict[str, PartitionFacts]] = {}
    gaps: list[OffsetGap] = []
    offsets_missing: int = 0
    sorted: bool = Field(False, description="Each partition stands in the order of its events.")
    source: str = ""

    @property
    def records(self) -> int:
        """How many records stand there in all."""
        return sum(p.records for topic in self.topics.values() for p in topic.values())


@dataclass(frozen=True)
class Recording:
    """An open recording."""

    folder: Path
    facts: RecordingFacts
    faults: Faults

    @classmethod
    def open(cls, folder: Path, faults: Faults) -> Recording:
        """Open a folder that `shopstream record` wrote; raises NoRecording."""
        path = folder / MANIFEST
        try:
            facts = RecordingFacts.model_validate_json(path.read_bytes())
        except FileNotFoundError as error:
            raise NoRecording(
                f"{folder} holds no {MANIFEST}: name a folder that `shopstream record` wrote, or "
                "the shop's own files with --file KIND=FILE"
            ) from error
        except (OSError, ValidationError) as error:
            raise NoRecording(f"{path} cannot be read: record again ({error})") from error
        if facts.format > FORMAT_VERSION:
            raise NoRecording(
                f"{folder} has format {facts.format}; this shopstream reads up to "
                f"{FORMAT_VERSION}: update it"
            )
        for gap in facts.gaps:
            place = f"{gap.topic}:{gap.partition}:{gap.first}-{gap.last}"
            faults.note("gap", place, gap.last - gap.first + 1)
        return cls(folder, facts, faults)

    @cached_property
    def layout(self) -> TopicLayout:
        """The names of its topics."""
        return TopicLayout(self.facts.event_prefix, self.facts.internal_prefix)

    @cached_property
    def _logs(self) -> dict[tuple[str, int], PartitionLog]:
        return {}

    def log(self, topic: str, partition: int) -> PartitionLog:
        """Return one partition's records (empty where it has none)."""
        name = (topic, partition)
        if name not in self._logs:
            folder = self.folder / topic / str(partition)
            self._logs[name] = PartitionLog(folder, self.faults)
        return self._logs[name]

    def partitions(self, topic: str) -> list[int]:
        """Return the numbers of a topic's partitions, sorted."""
        return sorted(int(number) for number in self.facts.topics.get(topic, {}))

    def event_partitions(self) -> list[tuple[str, int]]:
        """Return every partition of the event topics, sorted by name and number."""
        return [
            (topic, number) for topic in sorted(self.layout.events)
            for number in self.partitions(topic)
        ]  # fmt: skip

    def check_whole(self, topic: str, partition: int, first: int, last: int) -> None:
        """Count offsets that the files lack, unless Kafka lacked them when they were recorded."""
        if last < first or len(self.facts.gaps) >= MAX_KEPT_GAPS:
            return
        known = sum(
            max(0, min(last, gap.last) - max(first, gap.first) + 1)
            for gap in self.facts.gaps
            if (gap.topic, gap.partition) == (topic, partition)
        )
        if known < last - first + 1:
            place = f"{topic}:{partition}:{first}-{last}"
            self.faults.add("missing-records", place, last - first + 1 - known)

    @property
    def event_count(self) -> int:
        """How many event records stand there."""
        return sum(
            facts.records
            for topic in self.layout.events
            for facts in self.facts.topics.get(topic, {}).values()
        )

    @property
    def has_batches(self) -> bool:
        """Whether the records of batches stand there: then the live run can be followed."""
        batches = self.facts.topics.get(self.layout.batches, {})
        return any(facts.records for facts in batches.values())


def result_settings(settings: Settings) -> dict[str, Any]:
    """Return the settings that change results."""
    chosen = settings.model_dump(mode="json")
    rules = [name for name in chosen if name.startswith("recommend_")]
    return {name: chosen[name] for name in (*RESULT_SETTINGS, *rules) if name in chosen}


def write_facts(folder: Path, facts: RecordingFacts) -> None:
    """Write `recording.json`, whole or not at all."""
    part = folder / f".{MANIFEST}.part"
    part.write_text(facts.model_dump_json(indent=2) + "\n", encoding="utf-8")
    os.replace(part, folder / MANIFEST)
