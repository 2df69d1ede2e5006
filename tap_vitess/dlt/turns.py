"""What loads of one dataset do at the same moment: what is repeated, and what they do in turn.

Two loads may create the same dataset, table or column. Then one of them fails, before it has loaded
a row. dlt keeps its package, and the next attempt finds what the other load has created.

A merge deletes rows by key and inserts them, in one transaction. If two loads merge the same key,
Postgres may keep both rows: neither DELETE sees what the other transaction inserts, even if it has
waited for it. So jobs with some shards each take turns to load a package with tables whose keys
other jobs bring as well. They do so by an advisory lock, for which other destinations have nothing
alike. It belongs to a transaction: a session's would outlive the load in a pooler's connection.
That transaction is idle for as long as the load takes, so the server's timeouts are off for it; its
end would give the lock away. Who waits has none open, nor a call that no signal can end.
"""

from __future__ import annotations

import hashlib
import random
import re
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager

import dlt
from dlt.common.destination.exceptions import SchemaUpdateError
from dlt.pipeline.exceptions import PipelineStepFailed

from tap_vitess.dlt.destinations import name_of
from tap_vitess.dlt.failures import causes_of
from tap_vitess.log import logger_of

logger = logger_of(__name__)

_PAUSES = (0.5, 1.0, 2.0, 4.0)  # seconds before each further attempt
# Of Postgres: duplicate_schema, duplicate_table, duplicate_column, unique_violation (of its own
# catalog), deadlock_detected (tables created in another order), a catalog row updated by two.
_RACES = {"42P06", "42P07", "42701", "23505", "40P01", "XX000"}
# For this transaction, those that the version has (transaction_timeout: from 17 on).
_WITHOUT_TIMEOUTS = """SELECT set_config(name, '0', true) FROM pg_settings WHERE name IN (
    'idle_in_transaction_session_timeout', 'transaction_timeout', 'statement_timeout'
)"""
_THERE = re.compile("already|exists|duplicate", re.IGNORECASE)


def load(pipeline: dlt.Pipeline) -> None:
    """Load the pending package, again if another load has created something at the same moment."""
    for pause in _PAUSES:
        try:
            pipeline.load()
        except PipelineStepFailed as error:
            if not is_race(error):
                raise
            logger.info(
                "another load has created a table or a column of this dataset at the same moment; "
                "loading again in %g s",
                pause,
            )
            time.sleep(pause)
        else:
            return
    pipeline.load()


def is_race(error: BaseException) -> bool:
    """Return whether a load could not create what another one has created meanwhile."""
    causes = list(causes_of(error))
    if not any(isinstance(cause, SchemaUpdateError) for cause in causes):
        return False
    codes = {code for cause in causes if (code := getattr(cause, "pgcode", None))}
    return bool(codes & _RACES) if codes else bool(_THERE.search(str(causes[-1])))


@contextmanager
def in_turn(pipeline: dlt.Pipeline, tables: Collection[str]) -> Iterator[None]:
    """Let no other load of the dataset that merges such tables in while inside the block.

    tables: those of the package whose keys other jobs bring as well; without any, and in another
    destination than Postgres, nothing is waited for.
    """
    if not tables or name_of(pipeline) != "postgres":
        yield
        return
    waiting = False
    with pipeline.sql_client() as client:
        lock = _lock_of(client.fully_qualified_dataset_name())
        while True:
            with client.begin_transaction():
                client.execute_sql(_WITHOUT_TIMEOUTS)
                [[free]] = client.execute_sql(f"SELECT pg_try_advisory_xact_lock({lock})") or [[1]]
                if free:
                    yield
                    return
            if not waiting:
                logger.info("another load merges tables of all jobs: waiting for its end")
            waiting = True
            time.sleep(random.uniform(0.2, 1))  # noqa: S311 - of several that wait, any may be next


def _lock_of(dataset: str) -> int:
    """Return the number of a dataset's lock, a signed integer of 64 bits."""
    digest = hashlib.sha256(f"tap-vitess-load {dataset}".encode()).digest()
    return int.from_bytes(digest[:8], signed=True)
