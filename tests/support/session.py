"""What is entered while pytest collects and left when it ends, whichever tests are run."""

from __future__ import annotations

from contextlib import ExitStack

UNTIL_THE_END = ExitStack()
