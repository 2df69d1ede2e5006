"""`tap-vitess`, the console script."""

from __future__ import annotations

import sys

from tap_vitess.signals import importing
from tap_vitess.stdout import script


@script("tap-vitess")
def main() -> None:
    """Run the tap's command line, `tap-vitess init`, or `tap-vitess join-states`."""
    if sys.argv[1:2] == ["init"]:
        with importing():
            from tap_vitess.init import main as init  # noqa: PLC0415
        sys.exit(init(sys.argv[2:]))
    if sys.argv[1:2] == ["join-states"]:
        with importing():
            from tap_vitess.join import main as join  # noqa: PLC0415
        sys.exit(join(sys.argv[2:]))
    with importing():
        from tap_vitess.singer.tap import main as run  # noqa: PLC0415
    run()


if __name__ == "__main__":
    sys.exit(main())
