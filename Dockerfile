# One image for all processes: `tidings run receiver`, `worker`, `beat`, `api`; `tidings migrate`.

FROM python:3.12-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/tidings
ENV PATH=/opt/tidings/bin:$PATH
WORKDIR /app
COPY requirements.lock requirements-dev.lock pyproject.toml ./
# Only the build tools of the development lock.
RUN sed -n '/^setuptools==/,/[^\\]$/p' requirements-dev.lock > build.lock \
    && pip install --require-hashes -r requirements.lock \
    && pip install --require-hashes -r build.lock
COPY . .
RUN pip install --no-deps --no-build-isolation -e . \
    && python -m compileall -q api cli receiver shared workers

FROM python:3.12-slim
RUN useradd --system --uid 10001 --home-dir /app --shell /usr/sbin/nologin tidings
COPY --from=build /opt/tidings /opt/tidings
COPY --from=build /app /app
ENV PATH=/opt/tidings/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 TIDINGS_HOST=0.0.0.0
WORKDIR /app
USER tidings
EXPOSE 8080 8081
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 CMD ["python", "deploy/healthcheck.py"]
CMD ["tidings", "--help"]
