"""Where a trunk's cosines lie between a question and a passage that has nothing to do with it.

Trunks differ widely (about 0.03 for MiniLM, 0.78 for E5), so a confidence that rests on a cosine
needs the trunk's own scale, one a language. It is measured when the trunk is loaded, on fixed texts
that share no topic.
"""

from __future__ import annotations

from collections.abc import Sequence

from models.answerer import CosineScale
from models.text_encoder import TextTrunk

_ENGLISH = (
    ("Is this jacket waterproof?", "The blender has a glass jug of 1.5 litres."),
    ("How long does the battery last?", "Pure cotton sheets, washable at 60 degrees."),
    ("Does it come in blue?", "Rich in fibre, roasted over an open fire."),
    ("Can I wash it in the machine?", "The lens has an aperture of f/1.8."),
    ("What sizes do you have?", "Recharges over USB-C within two hours."),
    ("Is the milk organic?", "The frame is made of solid oak."),
    ("Which shoes fit wide feet?", "Twelve pencils in a metal case."),
    ("Will this fit my phone?", "The tent sleeps four people."),
    ("Does the kettle switch itself off?", "A novel about two sisters in Lisbon."),
    ("Is it safe for children under three?", "Suitable for all inkjet printers."),
    ("How heavy is the suitcase?", "Shampoo for dry and damaged hair."),
    ("When will the lamp be back in stock?", "Hand-painted plates, set of six."),
)
_CHINESE = (
    ("这件外套防水吗？", "搅拌机配有1.5升玻璃杯。"),
    ("电池能用多久？", "纯棉床单，可60度水洗。"),
    ("有蓝色的吗？", "富含膳食纤维，炭火烘焙。"),
    ("可以机洗吗？", "镜头光圈为f/1.8。"),
    ("都有什么尺码？", "USB-C接口，两小时充满。"),
    ("牛奶是有机的吗？", "框架采用实心橡木。"),
    ("宽脚穿哪双鞋合适？", "金属盒装十二支铅笔。"),
    ("适合我的手机吗？", "帐篷可住四个人。"),
    ("水壶会自动断电吗？", "一部关于里斯本两姐妹的小说。"),
    ("三岁以下的孩子用安全吗？", "适用于所有喷墨打印机。"),
    ("行李箱有多重？", "适合干燥受损发质的洗发水。"),
    ("台灯什么时候有货？", "手绘盘子，六只一套。"),
)


def measure_scales(trunk: TextTrunk) -> tuple[CosineScale, CosineScale]:
    """Return the trunk's scales for English and for Chinese questions."""
    return _measure(trunk, _ENGLISH), _measure(trunk, _CHINESE)


def _measure(trunk: TextTrunk, pairs: Sequence[tuple[str, str]]) -> CosineScale:
    questions = trunk.encode(trunk.tokenize([question for question, _ in pairs], "query")).vectors
    passages = trunk.encode(trunk.tokenize([passage for _, passage in pairs], "passage")).vectors
    cosines = questions @ passages.T  # (n, n): every pair is unrelated
    # Rounded, so that a last bit of another machine moves no confidence.
    return CosineScale(round(float(cosines.mean()), 3), round(float(cosines.std()), 3))
