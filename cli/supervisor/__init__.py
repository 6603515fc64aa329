"""Running every process of the Procfile."""
