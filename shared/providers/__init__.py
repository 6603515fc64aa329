"""One module per provider: bytes in, events out, no I/O. `docs/recipes/add-a-provider.md` is the recipe."""
