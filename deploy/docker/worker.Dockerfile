# GPU worker and serving node: one image, two commands. TORCH_BACKEND is cpu, cu126, cu130, ... as uv names
# them; empty: torch comes from wherever uv is told to look, such as a mirror.
FROM python:3.11-slim AS native
WORKDIR /src
COPY requirements/native.lock ./
RUN pip install --no-cache-dir uv==0.13.9 && uv pip install --system --no-cache -r native.lock ziglang==0.17.1
COPY workers/native/ native/
RUN printf '#!/bin/sh\nexec python -m ziglang cc "$@"\n' > /usr/local/bin/cc && printf '#!/bin/sh\nexec python -m ziglang c++ "$@"\n' > /usr/local/bin/c++ \
    && chmod +x /usr/local/bin/cc /usr/local/bin/c++ && uv build --wheel --no-build-isolation --out-dir /wheels native

FROM python:3.11-slim
ARG TORCH_BACKEND=cpu
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=/app/workers HF_HUB_DISABLE_TELEMETRY=1 \
    HF_HOME=/cache/hub SPARSEWRIGHT_WORK_DIR=/cache/worker SPARSEWRIGHT_CACHE_DIR=/cache/serve
WORKDIR /app
COPY requirements/worker.lock requirements/worker.lock
RUN pip install --no-cache-dir uv==0.13.9 \
    && ${TORCH_BACKEND:+env UV_TORCH_BACKEND=$TORCH_BACKEND} uv pip install --system --no-cache --compile-bytecode -r requirements/worker.lock && pip uninstall -y uv
COPY --from=native /wheels/ /tmp/wheels/
RUN pip install --no-cache-dir --no-deps /tmp/wheels/*.whl && rm -r /tmp/wheels
COPY workers/ workers/
RUN useradd --uid 10001 --create-home sparsewright && mkdir /cache && chown sparsewright /cache
USER sparsewright
VOLUME /cache
EXPOSE 8080
CMD ["python", "-m", "pst_worker"]
