"""The dashboard, asked by a program and by a browser."""
