"""The only Kubernetes client code: a port (`cluster`), its real adapter and its in-memory twin."""
