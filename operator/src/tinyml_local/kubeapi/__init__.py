"""A small Kubernetes API: what kubectl, kopf and the `kubernetes` client need, and no more."""

from .api import LocalKubeApi

__all__ = ["LocalKubeApi"]
