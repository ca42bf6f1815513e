# govmiddleware, for production: docs/kubernetes.md. Build it with
#
#   docker build --build-arg SOURCE_DATE_EPOCH="$(git log -1 --format=%ct)" --tag govmiddleware .
#
# The same commit on the same base gives the same files. To pin the base wholly, give its digest:
# --build-arg PYTHON=3.13-slim-trixie@sha256:…
ARG PYTHON=3.13-slim-trixie

FROM docker.io/library/python:${PYTHON} AS build
ARG SOURCE_DATE_EPOCH=315532800
ENV SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH} PYTHONHASHSEED=0 PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
COPY requirements/build.txt requirements/runtime.txt requirements/
RUN python -m venv /opt/tools \
 && /opt/tools/bin/pip install --quiet --require-hashes --only-binary :all: -r requirements/build.txt \
 && python -m venv --without-pip /opt/govmiddleware \
 && /opt/tools/bin/pip --python /opt/govmiddleware/bin/python install --quiet --no-compile --require-hashes \
    --only-binary :all: -r requirements/runtime.txt
COPY LICENSE README.md pyproject.toml ./
COPY src src
RUN /opt/tools/bin/pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist . \
 && /opt/tools/bin/pip --python /opt/govmiddleware/bin/python install --quiet --no-compile --no-deps dist/*.whl \
 && /opt/tools/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible --output-format JSON \
    --output-file /opt/govmiddleware/sbom.cdx.json /opt/govmiddleware/bin/python
# Bytecode that holds no times, since the files lose theirs.
RUN python -m compileall -q --invalidation-mode unchecked-hash /opt/govmiddleware/lib \
 && find /opt/govmiddleware -exec touch --no-dereference --date="@${SOURCE_DATE_EPOCH}" {} +

FROM docker.io/library/python:${PYTHON}
LABEL org.opencontainers.image.title="govmiddleware" \
      org.opencontainers.image.description="Governs LLM traffic: API tokens, rate limits and budgets that hold" \
      org.opencontainers.image.licenses="MIT"
RUN echo "govmiddleware:x:10001:10001::/var/lib/govmiddleware:/usr/sbin/nologin" >> /etc/passwd \
 && echo "govmiddleware:x:10001:" >> /etc/group \
 && install --directory --mode 0700 --owner 10001 --group 10001 /var/lib/govmiddleware \
 && rm -rf /usr/local/bin/pip* /usr/local/lib/python3*/site-packages/pip* /usr/local/lib/python3*/ensurepip
COPY --from=build /opt/govmiddleware /opt/govmiddleware
ENV PATH=/opt/govmiddleware/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    HOME=/var/lib/govmiddleware GOV_DATA_DIR=/var/lib/govmiddleware
USER 10001:10001
WORKDIR /var/lib/govmiddleware
# With a read-only root file system, /tmp wants to be a tmpfs too.
VOLUME /var/lib/govmiddleware
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8080/gov/healthz', timeout=4)"]
ENTRYPOINT ["govmiddleware"]
CMD ["serve", "--host=0.0.0.0"]
