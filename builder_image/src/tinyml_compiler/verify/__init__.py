"""Does the C that ships compute what the oracle computes? On the host, and on an emulated core."""
