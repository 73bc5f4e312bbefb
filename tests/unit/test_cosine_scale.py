"""The scale of a trunk's cosines, which a confidence rests on."""

from __future__ import annotations

import numpy as np

from models.answerer import MINILM_SCALE, Answerer, CosineScale, Passage
from models.text.cosine_scale import measure_scales
from models.text.null_encoder import NullEncoder
from models.text_encoder import TextEncoder


def test_the_packaged_trunk_s_english_scale_is_the_default() -> None:
    """What is measured on MiniLM agrees with the scale that answers were calibrated at."""
    english, _ = measure_scales(TextEncoder.load(device="cpu", dtype="float32"))
    assert abs(english.mean - MINILM_SCALE.mean) < 0.03
    assert abs(english.deviation - MINILM_SCALE.deviation) < 0.02


def test_a_scale_is_measured_the_same_every_time() -> None:
    """Two loads of a trunk give the same scales, so replays give the same confidences."""
    assert measure_scales(NullEncoder()) == measure_scales(NullEncoder())


def test_a_chinese_question_is_judged_by_the_chinese_scale() -> None:
    """The same cosine is a sure answer where cosines are low, and none where all are high."""
    low, high = CosineScale(0.0, 0.1), CosineScale(0.8, 0.02)
    answerer = Answerer(0.5, low, high)
    passage, cosine = [Passage("faq", "f", "答案")], np.array([[0.8, 0.6]], np.float32)
    vector = np.array([1.0, 0.0], np.float32)
    (chinese,) = answerer.confidences("防水吗", vector, passage, cosine)
    (english,) = answerer.confidences("waterproof", vector, passage, cosine)
    assert chinese < 0.05
    assert english > 0.5
