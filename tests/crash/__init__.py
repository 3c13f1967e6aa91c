"""Every crash point: a provider dies before and after each thing that it does to the world."""
