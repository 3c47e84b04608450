"""The gateway agent: brings the devices of one EdgeGateway to what its GatewayDeployment says."""
