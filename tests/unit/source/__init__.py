"""Git: real git against real servers."""
