"""What the release gate decided and on which numbers: a part of a release's manifest."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from models.metrics import Estimate

GateRule = Literal["gain", "no-loss"]


class _Record(BaseModel):
    # numbers that are not finite are the very thing a refusal has to show
    model_config = ConfigDict(frozen=True, extra="ignore", ser_json_inf_nan="strings")


class Figure(_Record):
    """A figure with its interval and the number of cases it rests on."""

    value: float
    low: float
    high: float
    cases: int

    @classmethod
    def of(cls, estimate: Estimate) -> Figure:
        """Return an estimate as it stands in a manifest."""
        return cls(value=estimate.value, low=estimate.low, high=estimate.high, cases=estimate.cases)

    def __str__(self) -> str:
        """Return the figure as reports show it."""
        return f"{self.value:.4f} [{self.low:.4f}, {self.high:.4f}] (n = {self.cases:,})"


class Comparison(_Record):
    """One metric of both releases on the same cases; every metric here is better when greater."""

    metric: str
    candidate: Figure
    current: Figure
    difference: Figure = Field(description="Candidate less current, paired over the cases.")


class GuardComparison(Comparison):
    """A metric that may not fall: its difference may not lie below `-limit`."""

    limit: float
    passed: bool


class TestSlice(_Record):
    """The newest samples, which neither release was trained on."""

    __test__ = False  # no test class

    first: str | None = Field(description="occurred_at of the oldest sample, RFC 3339.")
    last: str | None
    cases: int
    shoppers: int = 0
    seen_by_current: int = Field(
        0, description="Cases left out, because the current release was trained on them."
    )


class GateDecision(_Record):
    """Whether a part of a candidate may serve, and all the numbers behind it."""

    part: str = Field(description="What was trained anew: trunk, sentiment, recommender …")
    passed: bool
    rule: GateRule = Field(description="gain: the interval lies above 0; no-loss: above -margin.")
    margin: float = 0.0
    reasons: tuple[str, ...] = Field(description="One sentence each; empty when it passed.")
    candidate: str
    current: str
    primary: Comparison | None = Field(description="None when nothing could be compared.")
    p_value: float | None = Field(
        None, description="One-sided paired randomisation test of the primary metric."
    )
    needed_cases: int | None = Field(
        None, description="About so many cases would tell such a difference, where these did not."
    )
    guards: tuple[GuardComparison, ...] = ()
    test_slice: TestSlice
    false_pass_rate: float = Field(
        description="How often a candidate that is no better (rule no-loss: worse by the margin) "
        "passes, at the most; the p-value must not lie above it."
    )
    decided_at: str
