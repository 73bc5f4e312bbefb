"""Why a product is recommended, in words a shopper reads: English, or Chinese for zh locales."""

from __future__ import annotations

from typing import Literal

from models.product_index import ProductIndex
from models.recommendation.shopper import Reason

SignalKind = Literal["habit", "bought", "searched", "together", "popular"]

_TEXTS: dict[SignalKind, tuple[str, str]] = {
    "habit": ("because you buy {cause} again and again", "因为您经常购买{cause}"),
    "bought": ("because you bought {cause}", "因为您买过{cause}"),
    "searched": ("matches your search '{cause}'", "与您搜索的“{cause}”相符"),
    "together": ("bought together with {cause}", "常与{cause}一起购买"),
    "popular": ("popular now", "当前热销"),
}
_REASON_KINDS: dict[SignalKind, Literal["bought", "searched", "together", "popular"]] = {
    "habit": "bought",
    "bought": "bought",
    "searched": "searched",
    "together": "together",
    "popular": "popular",
}
MAX_CAUSE_CHARS = 80  # a longer title or query is shortened in the text; `because` has the id


def reason_of(
    kind: SignalKind, cause: str | None, locale: str | None, index: ProductIndex
) -> Reason:
    """Return the reason of a signal; `cause` is the product id or the query it rests on."""
    chinese = locale is not None and locale.lower().startswith("zh")
    words = ""
    if cause is not None:
        words = cause if kind == "searched" else _title(cause, index, chinese)
        if len(words) > MAX_CAUSE_CHARS:
            words = words[: MAX_CAUSE_CHARS - 1].rstrip() + "…"
    text = _TEXTS[kind][chinese].format(cause=words)
    return Reason(_REASON_KINDS[kind], text, () if cause is None else (cause,))


def _title(product_id: str, index: ProductIndex, chinese: bool) -> str:
    product = index.get(product_id)
    if product is None:  # bought once, no longer sold: its id would tell a shopper nothing
        return "某件商品" if chinese else "another product"
    return f"“{product.title}”" if chinese else product.title
