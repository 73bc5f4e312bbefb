"""What a crash left half done: batches that changed the state and left no record.

Their events are delivered again, in other batches; but a replay must know what they did to the
state. Several workers may publish the same record, and one may publish the record of a batch that
another is about to confirm: readers take the confirmed record of a batch where there are two.
"""

from __future__ import annotations

import logging

from worker.flow.stages import MessageSender
from worker.pipeline.batch import OutMessage, OutTopic
from worker.pipeline.records import record_of_intent
from worker.store.contract import StateStore

logger = logging.getLogger(__name__)


async def publish_unconfirmed(store: StateStore, outbox: MessageSender) -> int:
    """Publish the record of each unconfirmed batch, then drop its intent; return how many."""
    intents = await store.pending_intents()
    records = [record_of_intent(intent) for intent in intents.values()]
    await outbox.send(
        [
            OutMessage(
                OutTopic.BATCHES, record.batch_id.encode(), record.model_dump_json().encode()
            )
            for record in records
        ]
    )
    for batch_id in intents:
        await store.write((), batch_id=batch_id)
    if intents:
        logger.info("Published the records of %d batches that a crash left.", len(intents))
    return len(intents)
