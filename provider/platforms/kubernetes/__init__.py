"""Previews on a Kubernetes cluster: Kaniko Jobs, server-side apply, watches."""
