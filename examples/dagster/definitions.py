"""The tables of a Vitess split over several jobs, each with its own tap, target and state.

    VITESS_JOBS/          the folder that the environment variable names
      vitess.json         the tap's settings that all jobs share
      target.json         the target's settings
      jobs.json           {"orders": ["shop.orders", "shop.order_*"], "rest": ["*"]}
      <job>/              made here: settings.json, state.json, tap.log, target.log, lock

A table belongs to the first job of jobs.json with a matching pattern, so it is in only one job, and
a last job with "*" takes the tables that are created later. Each job is an asset, a Dagster job and
a schedule; `all_jobs` runs them in parallel. A job that fails does not hold up the others.

A job of large tables can be split once more, over key ranges of their shards:

      "orders": {"tables": ["shop.orders"], "shards": ["-40", "40-80", "80-c0", "c0-"]}

Its asset has a static partition for each range, which runs as its own job, in <job>/<range>/. Its
schedule runs all of them in parallel; `all_jobs` leaves it out.

A state is stored the moment the target prints it, which is when the target has stored everything
before it. So whatever ends a run, the next run resumes from there.
"""

import fcntl
import json
import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import dagster as dg

HOME = Path(os.environ["VITESS_JOBS"]).resolve()
TARGET = os.environ.get("VITESS_TARGET", "target-jsonl")
EVERY = "*/15 * * * *"

Jobs = Mapping[str, Any]  # patterns, or an object with `tables` and `shards`


def patterns_of(job: str, jobs: Jobs) -> Sequence[str]:
    """Return the patterns of a job's tables."""
    return jobs[job]["tables"] if isinstance(jobs[job], Mapping) else jobs[job]


def ranges_of(job: str, jobs: Jobs) -> Sequence[str]:
    """Return the key ranges that a job is split over; none for a job of whole tables."""
    return jobs[job].get("shards", ()) if isinstance(jobs[job], Mapping) else ()


def settings_of(
    job: str, jobs: Jobs, shared: Mapping[str, Any], key_range: str | None = None
) -> dict[str, Any]:
    """Return the settings of a job: its own patterns, without those of the jobs before it."""
    names = list(jobs)
    taken = [p for name in names[: names.index(job)] for p in patterns_of(name, jobs)]
    return {
        "tables": list(patterns_of(job, jobs)),
        "exclude_tables": [*shared.get("exclude_tables", ()), *taken],
        **({} if key_range is None else {"shards": [key_range]}),
    }


def run(job: str, jobs: Jobs, key_range: str | None = None) -> None:
    """Run a job's pipe to its end, one run at a time; raise Failure if one of the two fails."""
    folder = HOME / job / (key_range or "")
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _run(folder, lambda shared: settings_of(job, jobs, shared, key_range))


def _run(folder: Path, own: Callable[[Mapping[str, Any]], Mapping[str, Any]]) -> None:
    shared = json.loads((HOME / "vitess.json").read_text())
    settings, state = folder / "settings.json", folder / "state.json"
    settings.write_text(json.dumps(own(shared)))
    tap = ["tap-vitess", "--config", str(HOME / "vitess.json"), "--config", str(settings)]
    if state.exists():
        tap += ["--state", str(state)]
    with (folder / "tap.log").open("w") as tap_log, (folder / "target.log").open("w") as log:
        codes = _pipe(tap, [TARGET, "--config", str(HOME / "target.json")], tap_log, log, state)
    if any(codes):
        ends = [f"{n}: {_last_line(folder / f'{n}.log')}" for n in ("tap", "target")]
        raise dg.Failure(f"exit codes {codes} of tap and target; " + "; ".join(ends))


def _pipe(
    tap: Sequence[str], target: Sequence[str], tap_log: IO[str], log: IO[str], state: Path
) -> tuple[int, int]:
    with (
        subprocess.Popen(tap, stdout=subprocess.PIPE, stderr=tap_log) as source,
        subprocess.Popen(target, stdin=source.stdout, stdout=subprocess.PIPE, stderr=log) as sink,
    ):
        source.stdout.close()  # so that the tap notices when the target ends
        try:
            _store_states(sink, state)
        except BaseException:
            # Cancelled: the tap ends at a boundary, and the target stores what it has.
            source.terminate()
            _store_states(sink, state)
            raise
    return source.returncode, sink.returncode


def _store_states(target: Any, state: Path) -> None:
    for line in target.stdout:
        _store(state, line)


def _store(state: Path, line: bytes) -> None:
    """Replace the state as a whole: half a state would be useless."""
    new = state.with_suffix(".new")
    with new.open("wb") as file:
        file.write(line)
        file.flush()
        os.fsync(file.fileno())
    new.replace(state)


def _last_line(path: Path) -> str:
    return (path.read_text(errors="replace").strip().splitlines() or ["nothing"])[-1]


def _partitions(job: str, jobs: Jobs) -> dg.StaticPartitionsDefinition | None:
    ranges = ranges_of(job, jobs)
    return dg.StaticPartitionsDefinition(list(ranges)) if ranges else None


def _asset(job: str, jobs: Jobs) -> dg.AssetsDefinition:
    if ranges_of(job, jobs):
        return _partitioned(job, jobs)

    # A pool of one (dagster.yaml sets the limit): the next run of a job waits. With Dagster's own
    # SQLite, two runs were once seen to get it at the same moment: so `run` locks, too.
    @dg.asset(name=job, group_name="vitess", pool=f"vitess_{job}")
    def asset() -> None:
        run(job, jobs)

    return asset


def _partitioned(job: str, jobs: Jobs) -> dg.AssetsDefinition:
    # No pool: the ranges run in parallel, and the lock keeps two runs of one range apart. In the
    # first runs several targets may try to create a table; one succeeds, and the others retry.
    @dg.asset(
        name=job,
        group_name="vitess",
        partitions_def=_partitions(job, jobs),
        retry_policy=dg.RetryPolicy(max_retries=3, delay=5, jitter=dg.Jitter.FULL),
    )
    def asset(context: dg.AssetExecutionContext) -> None:
        run(job, jobs, context.partition_key)

    return asset


def _schedule(job: Any, ranges: Sequence[str]) -> Any:
    if ranges:
        return dg.build_schedule_from_partitioned_job(job, cron_schedule=EVERY)
    return dg.ScheduleDefinition(job=job, cron_schedule=EVERY)


def _definitions() -> dg.Definitions:
    jobs: Jobs = json.loads((HOME / "jobs.json").read_text())
    single = {
        job: dg.define_asset_job(
            f"{job}_job", selection=[job], partitions_def=_partitions(job, jobs)
        )
        for job in jobs
    }
    whole = [job for job in jobs if not ranges_of(job, jobs)]
    every = [dg.define_asset_job("all_jobs", selection=whole)] if whole else []
    return dg.Definitions(
        assets=[_asset(job, jobs) for job in jobs],
        jobs=[*every, *single.values()],
        schedules=[_schedule(single[job], ranges_of(job, jobs)) for job in jobs],
    )


definitions = _definitions()
