"""Providers, one package each; `docs/recipes/add-a-provider.md` is the recipe."""
