"""What is said of measured recommendations: the protocol in words, the figures, who is better."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Literal

from models.metrics import Estimate, paired_difference
from training.data.splits import Cases, Split
from training.evaluation.evaluate_recommendations import ALL, Evaluation

Part = Literal["test", "validation"]

_TARGETS = {
    ("leave-one-out", "test"): (
        "leave-one-out, test: the target is each user's last item; the history is everything before"
        " it, the validation item included"
    ),
    ("leave-one-out", "validation"): (
        "leave-one-out, validation: the target is each user's second last item; the history is"
        " everything before it"
    ),
    ("time-split", "test"): (
        "split by time, test: the targets are the different items of each user's first basket (one"
        " moment) after the split; the history is everything before that basket"
    ),
    ("time-split", "validation"): (
        "split by time, validation: the targets are the different items of each user's first basket"
        " (one moment) between the end of training and the test; the history is everything before"
        " that basket"
    ),
}


def protocol_sentence(split: Split, part: Part, remove_seen: bool, k: int) -> str:
    """Return what was asked of the recommenders, so that figures can be compared, or not."""
    seen = "removed from" if remove_seen else "kept in"
    return (
        f"{_TARGETS[split.protocol, part]}. FULL ranking of all {split.train.item_count:,} items"
        f" (no sampled negatives), cut at {k}; items of the user's history are {seen} the ranking;"
        " equal scores count against the model; the time of the target is not told."
    )


def case_notes(split: Split, cases: Cases, remove_seen: bool) -> list[str]:
    """Return what readers of the figures have to know of the cases."""
    known = set(split.train.items.tolist())
    targets = sum(len(rows) for rows in cases.targets)
    unknown = sum(item not in known for rows in cases.targets for item in rows.tolist())
    notes = [f"{len(cases):,} cases with {targets:,} targets", *split.notes]
    if unknown:
        notes.append(f"{unknown:,} targets are items the training part does not hold: kept")
    repeated = sum(
        item in set(history.tolist())
        for history, rows in zip(cases.histories, cases.targets, strict=True)
        for item in rows.tolist()
    )
    if repeated and remove_seen:
        notes.append(
            f"{repeated:,} targets stand in their user's history, which is removed: they count as"
            " missed"
        )
    return notes


def differences(evaluations: Sequence[Evaluation], k: int) -> list[tuple[str, str, Estimate]]:
    """Return (system, first system, nDCG difference) for all but the first, paired by case."""
    if not evaluations:
        return []
    first, metric = evaluations[0], f"ndcg@{k}"
    theirs = first.section(ALL).values[metric]
    return [
        (other.scorer, first.scorer, paired_difference(other.section(ALL).values[metric], theirs))
        for other in evaluations[1:]
    ]


def as_document(evaluation: Evaluation) -> dict[str, Any]:
    """Return an evaluation as JSON values."""
    return {
        "system": evaluation.scorer,
        "sections": [
            {
                "targets": section.name,
                "candidates": section.candidates,
                "cases": section.cases,
                "metrics": {name: asdict(value) for name, value in section.metrics.items()},
            }
            for section in evaluation.sections
        ],
    }


def as_lines(evaluation: Evaluation) -> list[str]:
    """Return an evaluation for people."""
    lines = [evaluation.scorer]
    for section in evaluation.sections:
        lines.append(f"  {section.name} ({section.cases:,} cases; ranked: {section.candidates})")
        width = max(map(len, section.metrics))
        lines += [f"    {name:{width}}  {value}" for name, value in section.metrics.items()]
    return lines
