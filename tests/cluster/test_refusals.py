"""What will not pass is told, soon and as what it is, and no run of it looks like a success."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cluster.launcher import Cluster
from cluster.runs import Pipeline
from cluster.source import Source
from cluster.test_doctor import throttled

pytestmark = pytest.mark.cluster


def test_a_limit_does_not_hide_a_stream_that_stands_still(
    own_cluster: Cluster, source: Source, pipeline: Callable[..., Pipeline]
) -> None:
    """The throttler holds VStream back: a run with max_run_seconds ends with exit code 1."""
    table = source.create("held", "id bigint primary key, v varchar(20)")
    source.insert(table, ["id", "v"], [(1, "a"), (2, "b")])
    pipe = pipeline(max_run_seconds=14)
    pipe.complete()
    with throttled(own_cluster, "vstreamer"):
        source.insert(table, ["id", "v"], [(3, "c")])
        held = pipe.run()
        assert (held.tap, held.target) == (1, 0), held.log
        assert "max_run_seconds was reached, and the change stream" in held.log
    pipe.complete()
    pipe.check(table, ["id"])
