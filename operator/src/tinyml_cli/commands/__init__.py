"""One module a verb of the `tinyml` command."""
