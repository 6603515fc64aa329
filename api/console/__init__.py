"""The console: pages for operators and support staff. Every page and action calls an operation of the API."""
