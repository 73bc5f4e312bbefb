"""From parts that passed the gate to a release's folder, with its lineage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from models.releases.folder import (
    PRODUCT_VECTORS,
    RECOMMENDER,
    ReleaseParts,
    assemble_release,
    link_or_copy,
    parts_of,
    seal_release,
)
from models.releases.gate_record import GateDecision
from models.releases.manifest import ReleaseManifest, TrainedOn
from models.releases.publish import code_version
from models.releases.shoppers import samples_file, shoppers_file
from models.search.product_vectors import save_product_vectors
from training.data.json_files import read_json
from training.data.rows import ReadReport
from training.evaluation.evaluate_search import read_catalogue
from training.evaluation.product_encoding import encode_products
from training.job.decisions import BOUND
from training.job.files import RunFiles
from training.job.plan import Standing
from training.parts.part import PartContext
from training.parts.trunk_part import TRUNK


def built_parts(run: RunFiles, passed: Sequence[str], plans: Mapping[str, Any]) -> dict[str, Path]:
    """Return part -> where it was built, of those that passed and those trained with them."""
    built = {name: run.path(f"parts/{name}") for name in passed}
    for name in passed:
        built |= {other: run.path(f"{BOUND}/{other}") for other in plans[name].get("bound") or ()}
    return built


def changed_trunk(passed: Sequence[str], plans: Mapping[str, Any]) -> str:
    """Return the part that passed and that others read; empty: none."""
    read = (name for name in passed if plans.get(name, {}).get("bound") is not None)
    return next(read, "")


def renewed_vectors(context: PartContext, products: Path, run: RunFiles) -> Path | None:
    """Return new product vectors where the release carries some and products changed since."""
    known = context.product_vectors
    if known is None or not products.is_file():
        return None
    texts = list(dict.fromkeys(one.text for one in read_catalogue(products, ReadReport())))
    if len(texts) == len(known) == len(known.find(texts)):
        return None

    def fill(folder: Path) -> dict[str, Any]:
        vectors = encode_products(context.trunk, texts, known)
        save_product_vectors(folder, context.trunk, texts, vectors)
        return {"vectors": len(texts)}

    run.build(PRODUCT_VECTORS, fill)
    return run.path(PRODUCT_VECTORS)


def assemble(
    folder: Path,
    run: RunFiles,
    standing: Standing,
    decisions: Sequence[GateDecision],
    built: Mapping[str, Path],
    vectors: Path | None,
    seed: int,
) -> dict[str, Any]:
    """Fill `folder` with the current release and, in their places, the parts that were built."""
    current = standing.manifest
    parts = _replaced(parts_of(standing.release), built)
    if vectors is not None:
        parts = replace(parts, product_vectors=vectors)
    lineage = folder.with_name("lineage")
    data, metrics = dict(current.data), dict(current.metrics)
    _keep_lineage(parts.lineage, lineage)
    for name, place in built.items():
        for source, file in (("shoppers", shoppers_file), ("samples", samples_file)):
            target = lineage / file(name)
            target.unlink(missing_ok=True)
            link_or_copy(place / source, target)
        trained = read_json(run.folder / f"{place.parent.name}.{name}.json") or {}
        data[name] = TrainedOn.model_validate(trained["data"])
        metrics[name] = trained["figures"]
    for decision in decisions:
        if decision.passed and decision.primary is not None:
            figure = decision.primary.candidate
            metrics[decision.part] |= {decision.primary.metric: figure.model_dump(mode="json")}
    assemble_release(folder, replace(parts, lineage=lineage if lineage.is_dir() else None))
    facts = ReleaseManifest(
        name=current.name,
        parents=(str(current.release_id),),
        data=data,
        metrics=metrics,
        lineage=current.lineage,
        code_version=code_version(),
        seed=seed,
        gate=tuple(decisions),
    )
    sealed = seal_release(folder, facts, trunk=parts.trunk)
    passed = [decision.part for decision in decisions if decision.passed]
    return {"release_id": sealed.release_id, "parts": passed}


def _replaced(parts: ReleaseParts, built: Mapping[str, Path]) -> ReleaseParts:
    """Return the parts with the built ones in their places."""
    models = {name: place / "model" for name, place in built.items()}
    if TRUNK in models:
        trunk = models[TRUNK]
        vectors = trunk / PRODUCT_VECTORS
        # heads and vectors of the trunk before fit no more: those that were trained on it follow
        parts = replace(
            parts,
            trunk=trunk,
            heads={},
            product_vectors=vectors if vectors.is_dir() else None,
        )
    heads = {name: model for name, model in models.items() if name not in (TRUNK, RECOMMENDER)}
    return replace(
        parts,
        heads={**parts.heads, **heads},
        recommender=models.get(RECOMMENDER, parts.recommender),
    )


def _keep_lineage(standing: Path | None, lineage: Path) -> None:
    if standing is not None:
        for path in standing.iterdir():
            target = lineage / path.name
            target.unlink(missing_ok=True)
            link_or_copy(path, target)
