"""The operator's decisions: pure functions of what was observed. No I/O, no clock, no cluster."""
