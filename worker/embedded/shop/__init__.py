"""A simulated shop: products, shoppers with known tastes, and what they do, as event bytes by seed.

It is the demo's traffic and the ground truth of benchmarks, so it may know neither Kafka, Redis nor
the models, and everything random comes from the seed.
"""

from worker.embedded.shop.records import SimulatedEvent
from worker.embedded.shop.simulated_shop import SimulatedShop

__all__ = ["SimulatedEvent", "SimulatedShop"]
