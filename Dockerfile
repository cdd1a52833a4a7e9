# The service in a container: `docker build -t dogbooth .`
#
# DEVICE=cuda (the default) takes PyTorch as it is locked, about 6 GB, for NVIDIA cards and CPUs.
# DEVICE=cpu takes the small build instead; its index is named at pytorch.org, "Get started", CPU:
#   docker build --build-arg DEVICE=cpu --build-arg CPU_WHEELS=<index> -t dogbooth .
ARG PYTHON=3.11

FROM python:${PYTHON}-slim-bookworm AS build
ARG DEVICE=cuda
ARG CPU_WHEELS=""
WORKDIR /app
COPY pyproject.toml poetry.lock poetry.toml README.md ./
COPY scripts scripts
COPY api api
COPY data data
COPY models models
COPY training training
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
RUN python scripts/setup.py --only main
RUN case "${DEVICE}" in \
      cuda) ;; \
      cpu) \
        : "${CPU_WHEELS:?DEVICE=cpu needs --build-arg CPU_WHEELS=<index of PyTorch for CPUs>}"; \
        pip=(.poetry/bin/python -m pip --python .venv/bin/python); \
        torch=$(.venv/bin/python -c "import importlib.metadata as m; print(m.version('torch'))"); \
        "${pip[@]}" freeze | grep -oE '^(nvidia|cuda|triton)[a-z0-9-]*' \
          | xargs "${pip[@]}" uninstall --yes torch; \
        "${pip[@]}" install --no-cache-dir --no-deps --index-url "${CPU_WHEELS}" \
          "torch==${torch%%+*}" ;; \
      *) echo "DEVICE=${DEVICE}: cpu or cuda" >&2; exit 1 ;; \
    esac

FROM python:${PYTHON}-slim-bookworm
WORKDIR /app
COPY --from=build /app /app
RUN useradd --uid 10001 --create-home dogbooth && mkdir /data && chown dogbooth /data
USER 10001
VOLUME /data
# As in the Makefile: freed memory is kept for the next step.
ENV PATH=/app/.venv/bin:$PATH \
    DOGBOOTH_HOME=/data \
    DOGBOOTH_LOG_FORMAT=json \
    GLIBC_TUNABLES=glibc.malloc.hugetlb=1:glibc.malloc.arena_max=1 \
    MALLOC_MMAP_THRESHOLD_=8589934592 \
    MALLOC_TRIM_THRESHOLD_=8589934592
EXPOSE 8000
HEALTHCHECK --start-period=60s CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/healthz', timeout=5)"]
CMD ["uvicorn", "api.main:app", "--host", "0.0.0.0", "--port", "8000", "--timeout-graceful-shutdown", "5"]
