"""The spec: what a file may say, and what is said of one that is wrong."""
