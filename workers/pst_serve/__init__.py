"""The serving node: pulls the versions that the platform wants it to hold, checks them, and answers predictions."""
