"""Model files to `ir.Graph`, one module a format."""
