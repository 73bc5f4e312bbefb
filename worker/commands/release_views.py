"""How releases look on a terminal and as JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from models.releases.gate_record import Comparison, GateDecision
from models.releases.manifest import ReleaseManifest
from models.releases.notes import forgotten_in, refusals_of
from models.releases.store import ReleaseStore
from worker.store.results import CurrentRelease


@dataclass(frozen=True, slots=True)
class ReleaseRow:
    """A release with what is known about it outside its folder."""

    manifest: ReleaseManifest
    role: str  # current, candidate, earlier, or empty
    share: float
    forgotten: dict[str, list[str]]  # part -> marks of forgotten shoppers
    refusals: list[GateDecision]  # candidates that were to replace it, newest last

    @classmethod
    def of(
        cls, manifest: ReleaseManifest, pointer: CurrentRelease | None, store: ReleaseStore
    ) -> ReleaseRow:
        """Gather what is known about a release."""
        release_id = str(manifest.release_id)
        role, share = "", 0.0
        if pointer is not None:
            if release_id == pointer.release:
                role, share = "current", 1.0 - pointer.share
            elif release_id == pointer.candidate:
                role, share = "candidate", pointer.share
            elif release_id in pointer.earlier:
                role = "earlier"
        forgotten, refusals = forgotten_in(store, release_id), refusals_of(store, release_id)
        return cls(manifest, role, share, forgotten, refusals)

    @property
    def forgotten_shoppers(self) -> int:
        """How many forgotten shoppers the release was trained on."""
        return len({mark for marks in self.forgotten.values() for mark in marks})

    @property
    def gate(self) -> str:
        """What the gate said, in a word."""
        if not self.manifest.gate:
            return "not gated"
        passed = sum(decision.passed for decision in self.manifest.gate)
        return "passed" if passed == len(self.manifest.gate) else f"{passed} parts passed"

    def as_json(self, *, whole: bool = False) -> dict[str, Any]:
        """Return what `--json` prints; `whole`: with the manifest."""
        manifest = self.manifest
        value: dict[str, Any] = {
            "release_id": manifest.release_id,
            "created_at": manifest.created_at,
            "role": self.role,
            "share": self.share,
            "parents": list(manifest.parents),
            "parts": ["trunk", *manifest.parts],
            "bytes": manifest.total_bytes,
            "gate": self.gate,
            "forgotten_shoppers": self.forgotten_shoppers,
        }
        if whole:
            value["forgotten"] = self.forgotten
            value["refused_candidates"] = [one.model_dump(mode="json") for one in self.refusals]
            value["manifest"] = json.loads(manifest.to_json())
        return value


def release_table(rows: list[ReleaseRow]) -> RenderableType:
    """Return the table of `releases list`."""
    if not rows:
        return Text("No releases yet: `shopstream releases publish` or `shopstream retrain`.")
    table = Table()
    for name in ("release", "created", "role", "parts", "gate", "forgotten shoppers"):
        table.add_column(name, overflow="fold")
    for row in rows:
        role = f"{row.role} ({row.share:.0%})" if row.share not in (0.0, 1.0) else row.role
        table.add_row(
            str(row.manifest.release_id), row.manifest.created_at, role,
            ", ".join(("trunk", *row.manifest.parts)), row.gate,
            str(row.forgotten_shoppers or "-"),
        )  # fmt: skip
    return table


def release_view(row: ReleaseRow) -> RenderableType:
    """Return the page of `releases show`."""
    manifest = row.manifest
    lines: list[RenderableType] = [
        Text(f"{manifest.release_id}  {row.role}", style="bold"),
        Text(
            f"made {manifest.created_at} by shopstream {manifest.code_version or '?'}, "
            f"{manifest.total_bytes:,} bytes, seed {manifest.seed}"
        ),
        Text(f"parents: {', '.join(manifest.parents) or 'none'}"),
        _parts(row),
    ]
    lines += [Text(f"{name}: {_short(value)}") for name, value in manifest.metrics.items()]
    for decision in manifest.gate:
        lines.append(_gate(decision))
    if row.refusals:
        lines.append(Text(f"{len(row.refusals)} candidate(s) did not replace it; the newest:"))
        lines.append(_gate(row.refusals[-1]))
    if row.forgotten_shoppers:
        lines.append(
            Text(
                f"Trained on {row.forgotten_shoppers} shopper(s) forgotten since: "
                + "; ".join(f"{part}: {', '.join(m)}" for part, m in row.forgotten.items())
                + ". The next job trains these parts without them.",
                style="yellow",
            )
        )
    return Group(*lines)


def _parts(row: ReleaseRow) -> RenderableType:
    table = Table(title=Text("parts"), title_justify="left")
    for name in ("part", "trained on", "samples", "shoppers", "from", "to", "forgotten"):
        table.add_column(name, overflow="fold")
    for part in ("trunk", *row.manifest.parts):
        data = row.manifest.data.get(part)
        forgotten = str(len(row.forgotten.get(part, ())) or "-")
        if data is None:
            table.add_row(part, "as it came", "-", "-", "-", "-", forgotten)
        else:
            table.add_row(
                part, data.kind + (", from the parent's weights" if data.warm_start else ""),
                f"{data.samples:,}", f"{data.shoppers:,}", data.first or "-", data.last or "-",
                forgotten,
            )  # fmt: skip
    return table


def _gate(decision: GateDecision) -> RenderableType:
    test = decision.test_slice
    rule = "above 0" if decision.rule == "gain" else f"above {-decision.margin:g}"
    lines = [
        f"gate of {decision.part}: {'passed' if decision.passed else 'refused'} against "
        f"{decision.current}, {test.cases:,} cases from {test.first} to {test.last}; a candidate "
        f"that is no better passes in {decision.false_pass_rate:.1%} at the most"
    ]
    if decision.primary is not None:
        lines.append(_compared(decision.primary, f"primary: must lie {rule}"))
    for guard in decision.guards:
        kept = "kept" if guard.passed else "broken"
        lines.append(_compared(guard, f"guard {kept}: may not lie below {-guard.limit:g}"))
    text = Text("\n  ".join(lines))
    return Group(text, *(Text(f"  {reason}", style="yellow") for reason in decision.reasons))


def _compared(one: Comparison, rule: str) -> str:
    return (
        f"{one.metric}: {one.current.value:.4f} -> {one.candidate.value:.4f}, "
        f"{one.difference} ({rule})"
    )


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 200 else text[:200] + " …"
