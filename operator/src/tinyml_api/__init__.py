"""The vocabulary that every part of TinyML as a Service shares: kinds, conditions, build hand-over.

Standard library only; imports nothing of ours.
"""
