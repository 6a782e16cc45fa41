"""For those who work on the collection: run from the repository, as `python -m tools.NAME`; never installed."""
