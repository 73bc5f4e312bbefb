"""The models of a worker, from its settings."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path

from models.answerer import Answerer
from models.faq import FaqError, load_faq
from models.learnt.files import load_recommender, require_trunk
from models.learnt.learnt_recommender import LearntRecommender
from models.recommendation.shopper import Recommender
from models.recommendation.similarity_recommender import SimilarityRecommender
from models.release import open_trunk, same_trunk
from models.releases.folder import parts_of
from models.releases.manifest import read_manifest
from models.releases.publish import require_fit
from models.search.product_vectors import ProductVectors, load_product_vectors
from models.text.cosine_scale import measure_scales
from models.text.null_encoder import NullEncoder
from models.text.sentiment import load, packaged_head
from models.text_encoder import ModelUnavailable, TextEncoder, TextTrunk
from worker.errors import ShopstreamError
from worker.pipeline.pipeline import SENTIMENT
from worker.pipeline.stages import PipelineModels
from worker.settings import Settings

logger = logging.getLogger(__name__)

NULL_MODEL = "null"

__all__ = ["SENTIMENT", "LoadedModels", "ModelsUnavailable", "load_models", "load_release"]


class ModelsUnavailable(ShopstreamError):
    """A model or the shop's FAQ cannot be loaded; the message says what to do."""


@dataclass(frozen=True, slots=True)
class LoadedModels:
    """The models, where they run, and the product vectors that came with them."""

    models: PipelineModels
    device: str
    dtype: str
    product_vectors: ProductVectors | None = None


def load_models(settings: Settings, beside: TextTrunk | None = None) -> LoadedModels:
    """Load trunk, heads and FAQ; takes seconds, so call it off the event loop.

    Args:
        beside: a trunk that is loaded; where it is the same one its weights are used.

    Raises:
        ModelsUnavailable: trunk, head or FAQ cannot be loaded.
    """
    try:
        return _load(settings, beside)
    except ModelUnavailable as error:
        raise ModelsUnavailable(str(error)) from error
    except FaqError as error:
        raise ModelsUnavailable(f"SHOPSTREAM_FAQ_FILE: {error}") from error


def load_release(settings: Settings, folder: Path, beside: TextTrunk | None = None) -> LoadedModels:
    """Load a release that `ReleaseStore.fetch` has checked; as `load_models`.

    What is no part of a release (FAQ, thresholds, device) comes from the settings.
    """
    parts = parts_of(folder)
    head = parts.heads.get(SENTIMENT)
    chosen = settings.model_copy(
        update={
            "model": str(folder),
            "sentiment_head": head,
            "recommender": parts.recommender,
        }
    )
    try:
        trunk = open_trunk(folder)
        if head is not None:
            require_fit(head, trunk.weights_checksum)
        manifest = read_manifest(folder)
        release = (manifest.release_id if manifest is not None else None) or trunk.content_id
    except ModelUnavailable as error:
        raise ModelsUnavailable(str(error)) from error
    loaded = load_models(chosen, beside)
    known = None
    if parts.product_vectors is not None:
        try:
            known = load_product_vectors(parts.product_vectors, loaded.models.trunk)
        except ModelUnavailable as error:
            raise ModelsUnavailable(str(error)) from error
    models = replace(loaded.models, release=release)
    return replace(loaded, models=models, product_vectors=known)


def load_recommender_of(trunk: TextTrunk, settings: Settings) -> Recommender:
    """Load the recommender of the settings' folder for a trunk that runs already.

    Raises:
        ModelsUnavailable: it is not there, or was trained for another trunk.
    """
    try:
        return _recommender(trunk, settings)
    except ModelUnavailable as error:
        raise ModelsUnavailable(str(error)) from error


def _load(settings: Settings, beside: TextTrunk | None) -> LoadedModels:
    faq = load_faq(settings.faq_file) if settings.faq_file is not None else []
    if settings.model == NULL_MODEL:
        logger.warning("The null model runs: its results are for tests and benchmarks only.")
        null = NullEncoder(max_tokens=settings.max_text_tokens)
        models = PipelineModels(null, _recommender(null, settings), _answerer(null, settings), faq)
        return LoadedModels(models, "cpu", "float32")
    trunk = _same_trunk(settings, beside) or TextEncoder.load(
        settings.model,
        device=settings.device,
        dtype=settings.dtype,
        threads=settings.threads,
        max_tokens=settings.max_text_tokens,
        micro_batch_max_tokens=settings.micro_batch_max_tokens,
    )
    has_sentiment = _add_sentiment(trunk, settings)
    models = PipelineModels(
        trunk, _recommender(trunk, settings), _answerer(trunk, settings), faq, has_sentiment
    )
    return LoadedModels(models, str(trunk.device), str(trunk.dtype).removeprefix("torch."))


def _same_trunk(settings: Settings, beside: TextTrunk | None) -> TextEncoder | None:
    """Return the loaded trunk for other heads, where the settings name the very same one."""
    if not isinstance(beside, TextEncoder):
        return None
    release = open_trunk(settings.model)
    return beside.twin(release) if same_trunk(release.content_id, beside.release) else None


def _recommender(trunk: TextTrunk, settings: Settings) -> Recommender:
    """Return the recommender of the settings' folder; without one that of text similarity.

    Raises:
        ModelUnavailable: there is none in the folder, or it was trained for another trunk.
    """
    if settings.recommender is None:
        return SimilarityRecommender()
    device = trunk.device if isinstance(trunk, TextEncoder) else "cpu"
    loaded = load_recommender(settings.recommender, device)
    require_trunk(loaded, trunk, settings.recommender)
    logger.info("Recommender: %s, %d items.", settings.recommender, len(loaded.item_ids))
    return LearntRecommender(loaded, exact_max_products=settings.exact_search_max_products)


def _answerer(trunk: TextTrunk, settings: Settings) -> Answerer:
    return Answerer(settings.answer_threshold, *measure_scales(trunk))


def _add_sentiment(trunk: TextEncoder, settings: Settings) -> bool:
    """Put the configured head on the trunk, or the one beside it, or the packaged one that fits."""
    folder = settings.sentiment_head or _head_beside(trunk)
    head = load(folder) if folder is not None else packaged_head(trunk)
    if head is None:
        logger.warning(
            "No sentiment head fits the trunk %s: reviews get no tags. Train one with "
            "`shopstream train sentiment` and set SHOPSTREAM_SENTIMENT_HEAD.",
            trunk.release,
        )
        return False
    trunk.add_head(SENTIMENT, head)
    logger.info("Sentiment head: %s.", head.release)
    return True


def _head_beside(trunk: TextEncoder) -> Path | None:
    """Return the head that stands in a trunk's folder, as `train sentiment` leaves it."""
    folder = parts_of(trunk.trunk_release.folder).heads.get(SENTIMENT)
    if folder is not None:
        require_fit(folder, trunk.trunk_release.weights_checksum)
    return folder
