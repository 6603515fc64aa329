"""`python -m api` is granian without rich, and its process shares what it has loaded: 6 MB in all."""

from shared.startup import serve

if __name__ == "__main__":
    serve(unused=["rich"])  # structlog would import it for coloured tracebacks
