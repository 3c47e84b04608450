"""Rewrites of the graph, one a file, `run(graph) -> graph`. Their order is in `pipeline.py`."""
