"""`python -m tests.soak`: several providers, rapid callers, and everything dies now and then. Nothing may be lost."""
