"""What changes nodes, deployments and placements, and gives out the tokens that ask them."""
