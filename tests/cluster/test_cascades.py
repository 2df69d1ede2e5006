"""Cascades of foreign keys that VTGate does not manage: what does not come is warned of."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cluster.conftest import SHARDED
from cluster.launcher import Cluster
from cluster.runs import Pipeline
from cluster.source import Source, quote

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

DATABASE = f"vt_{SHARDED}"
WORDS = "its rows change with those of {} (ON DELETE CASCADE), which MySQL does not log"
KEY = "foreign key (id) references {} (id) on delete cascade"


@pytest.fixture
def parent(source: Source) -> str:
    """Create the child's parent, dropped behind it."""
    return source.create("orders", "id bigint primary key, v varchar(20)")


@pytest.fixture
def child(source: Source, parent: str, own_cluster: Cluster) -> str:
    """Create orders and lines with the same ids, and the foreign key straight in MySQL."""
    child = source.create("lines", "id bigint primary key, v varchar(20)")
    for table in (parent, child):
        source.insert(table, ["id", "v"], [(i, f"v{i}") for i in range(40)])
    for shard in ("-80", "80-"):
        key = f"alter table {quote(child)} add {KEY.format(quote(parent))}"
        own_cluster.mysql(own_cluster.primary(SHARDED, shard), f"use {DATABASE}", key)
    return child


def test_a_cascade(
    own_cluster: Cluster,
    source: Source,
    pipeline: Callable[..., Pipeline],
    parent: str,
    child: str,
    tmp_path: Path,
) -> None:
    """A MySQL that logs cascades is no reason to warn, and the child comes out right."""
    variable = "show global variables like 'innodb_native_foreign_keys'"
    found = own_cluster.mysql(own_cluster.primary(SHARDED, "-80"), variable)
    logged = [row["Value"] for row in found] == ["OFF"]
    pipe = pipeline()
    discovered = pipe.alone("--discover")
    words = WORDS.format(parent)
    assert (words in discovered.log) is not logged, discovered.log
    pipe.use_catalog(json.loads(discovered.out))
    pipe.complete()
    source.execute(f"delete from {quote(parent)} where id < 9")
    outcome = pipe.run()
    assert outcome.tap == 0, outcome.log
    assert (words in outcome.log) is not logged, outcome.log
    pipe.check(parent, ["id"])
    if logged:
        pipe.check(child, ["id"])
    else:
        assert len(pipe.rows(child, ["id"])) == 40
        assert len(source.rows(child, ["id"])) == 31
    config = tmp_path / "doctor.json"
    config.write_text(json.dumps(pipe.settings()))
    doctor = Path(sys.executable).with_name("tap-vitess-doctor")
    done = subprocess.run(
        [str(doctor), "--config", str(config), "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    checks = [f["check"] for f in json.loads(done.stdout)["findings"]]
    assert ("cascade" in checks) is not logged
