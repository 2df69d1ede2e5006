"""Which tables the setting resync_tables copies again, for every front end that has it."""

from __future__ import annotations

from collections.abc import Collection

from tap_vitess.config import Config
from tap_vitess.errors import ConfigError
from tap_vitess.log import logger_of

logger = logger_of(__name__)


def copied_again(config: Config, names: Collection[str]) -> set[str]:
    """Return those of `names`, `keyspace.table`, that are copied again, with a warning.

    Raises:
        ConfigError: a pattern of the setting matches none.
    """
    again: set[str] = set()
    for pattern in config.resync_tables:
        found = sorted(name for name in names if config.matches(name, (pattern,)))
        if not found:
            raise ConfigError(
                f"setting resync_tables: {pattern} matches no selected table; patterns are "
                "keyspace.table"
            )
        logger.warning(
            "%s: copied again from the start, as the setting resync_tables asks; remove it after "
            "this run, or each run does so",
            ", ".join(found),
        )
        again.update(found)
    return again
