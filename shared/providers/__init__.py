"""One module per provider: bytes in, events out, no I/O. `docs/adding-a-provider.md` is the recipe."""
