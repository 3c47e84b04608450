"""The operator: turns what TinyModels ask for into builds, artifacts and gateway deployments."""
