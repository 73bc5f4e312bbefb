"""How many review tags were right, by the release that made them: quality before and after."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from models.metrics import Estimate, share_estimate


class TagsRight:
    """Counts of one demo: a tag is right when it says what the writer meant."""

    def __init__(self) -> None:
        self._counts: dict[str, list[int]] = {}  # release -> right, all

    def note(self, release: str, right: bool) -> None:
        """Count a tag that stands in Redis."""
        counts = self._counts.setdefault(release, [0, 0])
        counts[0] += right
        counts[1] += 1

    def others(self, releases: Collection[str]) -> Sequence[str]:
        """Return the releases that tagged and are not among these, in the order they began."""
        return [one for one in self._counts if one not in releases]

    def right(self, releases: Collection[str]) -> Estimate | None:
        """Return the share that these releases together got right, None before their first tag."""
        found = [self._counts[one] for one in releases if one in self._counts]
        cases = sum(one[1] for one in found)
        return share_estimate(sum(one[0] for one in found), cases) if cases else None
