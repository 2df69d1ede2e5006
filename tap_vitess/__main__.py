"""`tap-vitess`, the console script."""

from __future__ import annotations

from tap_vitess.signals import importing


def main() -> None:
    """Run the tap's command line."""
    with importing():
        from tap_vitess.singer.tap import main as run  # noqa: PLC0415
    run()


if __name__ == "__main__":
    main()
