"""The `tinyml` command."""
