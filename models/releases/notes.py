"""What becomes known of a release after it was published, noted beside it: it never changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from models.releases.gate_record import GateDecision
from models.releases.shoppers import day_of, decode_shoppers, shoppers_file
from models.releases.store import ReleaseStore

_FORGOTTEN, _REFUSALS = "forgotten", "refusals"
_KEPT_REFUSALS = 20


def mark_releases(
    store: ReleaseStore, forgotten: Mapping[str, datetime]
) -> dict[str, dict[str, list[str]]]:
    """Note beside every release which forgotten shoppers it was trained on.

    `forgotten` is mark -> until when the shopper is forgotten. A shopper whose oldest sample is
    newer came back afterwards and is no reason. What was noted before stays. Returns release id ->
    part -> marks of all releases with any. Raises ModelUnavailable.
    """
    found: dict[str, dict[str, list[str]]] = {}
    manifests, _ = store.releases()
    for manifest in manifests:
        release_id = str(manifest.release_id)
        before = forgotten_in(store, release_id)
        now = {part: set(marks) for part, marks in before.items()}
        for part in manifest.data:
            content = store.lineage_file(release_id, shoppers_file(part)) or b""
            for mark, day in decode_shoppers(content).items():
                if mark in forgotten and day <= day_of(forgotten[mark]):
                    now.setdefault(part, set()).add(mark)
        parts = {part: sorted(marks) for part, marks in sorted(now.items())}
        if parts != before:
            store.write_note(release_id, _FORGOTTEN, {"parts": parts})
        if parts:
            found[release_id] = parts
    return found


def forgotten_in(store: ReleaseStore, release_id: str) -> dict[str, list[str]]:
    """Return part -> marks of forgotten shoppers that a release is known to be trained on."""
    note = store.read_note(release_id, _FORGOTTEN) or {}
    parts: dict[str, list[str]] = note.get("parts", {})
    return parts


def note_refusals(store: ReleaseStore, current: str, decisions: Sequence[GateDecision]) -> None:
    """Note beside the current release which candidates did not replace it, newest last."""
    note = store.read_note(current, _REFUSALS) or {"decisions": []}
    known = [*note["decisions"], *(one.model_dump(mode="json") for one in decisions)]
    store.write_note(current, _REFUSALS, {"decisions": known[-_KEPT_REFUSALS:]})


def refusals_of(store: ReleaseStore, release_id: str) -> list[GateDecision]:
    """Return the newest refused candidates that were to replace a release, newest last."""
    note = store.read_note(release_id, _REFUSALS) or {"decisions": []}
    return [GateDecision.model_validate(one) for one in note["decisions"]]
