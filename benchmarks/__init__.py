"""How fast the tap is: `python -m benchmarks` (see `docs/performance.md`).

The tap runs as a whole process against a server in another process, and so does a client that
only receives the bytes of the same call. Ratios of the two in one run move less from machine to
machine than seconds do.
"""
