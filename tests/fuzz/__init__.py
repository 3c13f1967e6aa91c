"""What strangers send: requests, specs, and answers of registry, git host, API and previews. Longer: `make fuzz`."""
