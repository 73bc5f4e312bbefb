"""What is compared: releases, the shipped baselines, and the settings with some of them changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from models.answerer import Answerer
from models.product_index import ProductIndex
from models.recommendation.reasons import reason_of
from models.recommendation.shopper import Demand, Recommendation, Shopper
from models.recommendation.similarity_recommender import RecommenderWeights, SimilarityRecommender
from models.text.cosine_scale import measure_scales
from worker.errors import ShopstreamError
from worker.flow.assembly import pipeline_options
from worker.flow.loading import load_recommender_of
from worker.pipeline.stages import PipelineModels
from worker.replay.comparing.outcomes import ArmSpec
from worker.replay.releases import Releases
from worker.settings import Settings

CURRENT, POPULARITY, CONTENT = "current", "popularity", "content"
_OWN_TRUNK = frozenset(
    {"answer_threshold", "recommendation_count", "search_count", "trending_count"}
    | {"attribution_window_s", "vector_cache_entries"}
)


class BadArm(ShopstreamError):
    """What to compare is not well named; the message says how to name it."""


class PopularityRecommender:
    """The baseline that every recommender must beat: what sells best, the same for everyone."""

    def recommend(
        self, shoppers: Sequence[Shopper], demand: Demand, index: ProductIndex, k: int
    ) -> list[list[Recommendation]]:
        """Return the most popular available products, best first."""
        best: list[tuple[str, float]] = []
        for product_id, score in demand.popular:
            product = index.get(product_id)
            if product is not None and product.available:
                best.append((product_id, score))
            if len(best) >= k:
                break
        return [
            [
                Recommendation(one, score, reason_of("popular", None, shopper.locale, index))
                for one, score in best
            ]
            for shopper in shoppers
        ]


def content_recommender() -> SimilarityRecommender:
    """Return the baseline that knows texts only: like what was bought and searched."""
    return SimilarityRecommender(RecommenderWeights(habit=0.0, together=0.0, popular=0.0))


def build_arms(
    settings: Settings, releases: Releases, named: Sequence[str], variants: Sequence[str],
    privacy_key: str, window_s: float,
) -> list[ArmSpec]:  # fmt: skip
    """Return the arms, the first being the baseline of all comparisons.

    Args:
        named: `current`, `popularity`, `content`, a release's folder or id, each also as `NAME=…`.
        variants: `NAME:setting=value,…`: the settings of the worker with these changed.
        window_s: labels are looked for this long after an event.

    Raises:
        BadArm, ModelsUnavailable, ReleaseGone.
    """
    base = settings.model_copy(update={"attribution_window_s": window_s})
    arms = [_named(text, base, releases, privacy_key) for text in named]
    for text in variants:
        name, changed = _parse_variant(text)
        arms.append(_variant(name, changed, base, releases, privacy_key))
    doubled = {arm.name for arm in arms if sum(arm.name == one.name for one in arms) > 1}
    if doubled:
        raise BadArm(
            f"two arms are named {sorted(doubled)[0]!r}: give them names, as --release a=DIR"
        )
    return arms


def _named(text: str, settings: Settings, releases: Releases, privacy_key: str) -> ArmSpec:
    name, mark, place = text.partition("=")
    if not mark:
        name, place = (Path(text).name if Path(text).is_dir() else text), text
    options = pipeline_options(settings, "replay", privacy_key)
    if place == POPULARITY:
        models = _with_recommender(releases.own(), PopularityRecommender(), POPULARITY)
    elif place == CONTENT:
        models = _with_recommender(releases.own(), content_recommender(), CONTENT)
    elif place == CURRENT:
        models = releases.own()
    elif Path(place).is_dir():
        models = releases.of_folder(Path(place))
    else:
        models = releases.models_for(place)
    return ArmSpec(name, models, options, f"release {models.release}")


def _with_recommender(models: PipelineModels, recommender: Any, release: str) -> PipelineModels:
    return replace(models, recommender=recommender, release=f"{models.release}+{release}")


def _parse_variant(text: str) -> tuple[str, dict[str, str]]:
    name, mark, rest = text.partition(":")
    pairs = [part.partition("=") for part in rest.split(",") if part]
    if not (name and mark and pairs) or any(not sign for _, sign, _ in pairs):
        raise BadArm(f"{text!r} is not NAME:setting=value,…")
    return name, {key.strip(): value.strip() for key, _, value in pairs}


def _variant(
    name: str, changed: Mapping[str, str], settings: Settings, releases: Releases,
    privacy_key: str,
) -> ArmSpec:  # fmt: skip
    unknown = sorted(changed.keys() - Settings.model_fields.keys())
    if unknown:
        raise BadArm(f"--variant {name}: there is no setting {unknown[0]!r}; see docs/settings.md")
    try:
        other = Settings.model_validate({**settings.model_dump(), **changed})
    except ValidationError as error:
        raise BadArm(f"--variant {name}: {error.errors()[0]['msg']}") from error
    described = ", ".join(f"{key}={value}" for key, value in sorted(changed.items()))
    if changed.keys() == {"recommender"}:
        own = releases.own()
        models = replace(
            own, recommender=load_recommender_of(own.trunk, other), release=f"{own.release}+{name}"
        )
    elif changed.keys() <= _OWN_TRUNK:
        own = releases.own()
        answerer = Answerer(other.answer_threshold, *measure_scales(own.trunk))
        models = replace(own, answerer=answerer, release=f"{own.release}+{name}")
    else:
        models = Releases(other).own()
    options = pipeline_options(other, "replay", privacy_key)
    return ArmSpec(name, models, options, described)
