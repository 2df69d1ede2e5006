"""The engine: a run over all keyspaces."""
