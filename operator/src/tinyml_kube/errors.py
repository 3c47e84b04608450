"""Errors of the Kubernetes port.

ClusterError
├── NotFoundError        the object is not there (any more)
├── AlreadyExistsError   an object of that name is there
├── ConflictError        somebody else changed it in between: look again
├── InvalidError         the API server refuses the object: trying again does not help
├── ForbiddenError       RBAC or admission says no
└── UnavailableError     no answer, or 429 or 5xx: try again later
"""

from __future__ import annotations


class ClusterError(Exception):
    """The API server did not do what was asked: the message has the object and its answer."""


class NotFoundError(ClusterError):
    pass


class AlreadyExistsError(ClusterError):
    pass


class ConflictError(ClusterError):
    pass


class InvalidError(ClusterError):
    pass


class ForbiddenError(ClusterError):
    pass


class UnavailableError(ClusterError):
    pass
