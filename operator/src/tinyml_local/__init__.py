"""`tinyml up`: a local Kubernetes API, S3, operator, gateway and emulated devices in one process
tree.
"""
