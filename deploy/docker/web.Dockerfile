# The web tier and the platform's Celery process. No torch, no compiler, no root.
FROM node:24-slim AS frontend
WORKDIR /src
COPY frontend/package.json frontend/package-lock.json ./
RUN npm ci --no-audit --no-fund
COPY frontend/ ./
RUN npm run build

FROM python:3.11-slim
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=/app/platform:/app/workers:/app \
    DJANGO_SETTINGS_MODULE=config.settings SPARSEWRIGHT_DATA_DIR=/data SPARSEWRIGHT_LOG_FORMAT=json
WORKDIR /app
COPY requirements/web.lock requirements/web.lock
RUN pip install --no-cache-dir uv==0.13.9 && uv pip install --system --no-cache --compile-bytecode -r requirements/web.lock && pip uninstall -y uv
COPY manage.py ./
COPY platform/ platform/
COPY jobs/ jobs/
RUN pybabel --quiet compile --domain django --directory platform/locale
# Of the workers' code the web tier reads the contract, the limits of connections, the files of a model, the settings,
# the planner and what a report holds; none of them needs torch.
COPY workers/pst/__init__.py workers/pst/config.py workers/pst/errors.py workers/pst/messages.py workers/pst/
COPY workers/pst/plan/ workers/pst/plan/
COPY workers/pst/report/schema.json workers/pst/report/
COPY workers/pst_client/__init__.py workers/pst_client/contract.py workers/pst_client/connections.py workers/pst_client/layout.py workers/pst_client/
COPY --from=frontend /src/dist frontend/dist
RUN python -m whitenoise.compress --quiet frontend/dist/assets
RUN useradd --uid 10001 --no-create-home sparsewright && mkdir /data && chown sparsewright /data
USER sparsewright
VOLUME /data
EXPOSE 8000
CMD ["python", "-m", "config.server", "--host", "0.0.0.0", "--workers", "2"]
