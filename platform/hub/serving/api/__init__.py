"""The REST API of serving: nodes and deployments for people, registration and heartbeats for nodes."""
