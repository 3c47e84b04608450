"""Emulated devices: one process a device, a flash file that outlives it, a pseudo terminal at a
stable path. `python -m tinyml_local.emulator --help`.
"""
