"""The fault catalogue: each fault is really caused, and what the provider makes of it is compared (`make faults`)."""
