"""The Airbyte front end: `source-vitess` with spec, check, discover and read, over the same engine.

It does not import the Singer SDK, nor Airbyte's.
"""
