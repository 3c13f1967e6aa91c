"""What runs previews: one Protocol, one package per platform."""
