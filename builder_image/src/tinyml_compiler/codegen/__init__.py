"""A planned graph to C and a weights blob."""
