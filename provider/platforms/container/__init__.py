"""The container engine of this machine: Podman, with Caddy as its ingress."""
