"""Warnings that a run logs about tables: cascades, keys, moved tables.

Nothing here ends a run: a question without an answer is only logged.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from tap_vitess.config import Keys
from tap_vitess.errors import VitessError
from tap_vitess.log import logger_of
from tap_vitess.survey.cascades import ADVICE, told
from tap_vitess.survey.identity import ANOTHER_KEY, doubt, repeats
from tap_vitess.survey.keyspace import Asking, P, Survey, T
from tap_vitess.survey.tables import cascades, routed, unique_keys
from tap_vitess.survey.vschema import primary_vindexes
from tap_vitess.vtgate.retry import Stopping, answered

logger = logger_of(__name__)


@dataclass(frozen=True, slots=True)
class Telling:
    """Asks about one keyspace, and logs warnings. level: of the log if a question fails."""

    survey: Survey
    stopping: Stopping = lambda: False
    level: int = logging.INFO

    def _ask(
        self, unknown: str, question: Asking[P, T], *arguments: P.args, **named: P.kwargs
    ) -> T | None:
        try:
            return answered(lambda: self.survey.ask(question, *arguments, **named), self.stopping)
        except VitessError as error:
            keyspace = self.survey.keyspace
            logger.log(self.level, unknown, keyspace, error.within(keyspace))
            return None

    def routed(self, tables: Iterable[str]) -> None:
        """Warn about tables that MoveTables has moved away: their changes may stop at any time."""
        unknown = "%s: whether tables were moved away is not known: %s"
        for table, keyspace in sorted((self._ask(unknown, routed, tables) or {}).items()):
            logger.warning(
                "%s.%s: VTGate routes it to the keyspace %s, as in a MoveTables; changes made "
                "there come here only while its reverse workflow runs, and end when it completes: "
                "select %s.%s instead",
                self.survey.keyspace,
                table,
                keyspace,
                keyspace,
                table,
            )

    def keys(self, keys: Mapping[str, Sequence[str]], setting: Keys) -> None:
        """Warn about tables with several rows that may have the same key in the target."""
        unknown = "%s: the tables' keys are not known: %s"
        uniques = self._ask(unknown, unique_keys) if keys else None
        if uniques is not None:
            found = {t: repeats(key, uniques.get(t, ())) for t, key in sorted(keys.items())}
            for table, why in found.items():
                if why:
                    logger.warning("%s.%s: %s; %s", self.survey.keyspace, table, why, ANOTHER_KEY)
        if setting == "with_vindex":
            self._vindexes(keys)

    def _vindexes(self, keys: Mapping[str, Sequence[str]]) -> None:
        unknown = "%s: the tables' vindexes are not known: %s"
        found = self._ask(unknown, primary_vindexes, keys) if keys else None
        for table, vindex in sorted((found or {}).items()):
            if why := doubt(keys[table], vindex):
                logger.warning(
                    "%s.%s: %s, and rows of several shards with one key become one row in the "
                    "target; set keys to `primary` if a sequence or the application keeps the key "
                    "unique, else discover again and copy the table again",
                    self.survey.keyspace,
                    table,
                    why,
                )

    def cascades(self, tables: Collection[str]) -> None:
        """Warn about tables whose rows change by foreign keys without being logged."""
        found = self._ask("%s: whether foreign keys cascade is not known: %s", cascades) or ()
        for table, what in told(found, tables).items():
            logger.warning("%s.%s: %s; %s", self.survey.keyspace, table, what, ADVICE)
