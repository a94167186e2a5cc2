# docker build -t telemetry-gateway .
# docker run -e ACME_KEY_SHA256=… -p 4317:4317 -p 4318:4318 -p 9464:9464 -v gateway:/var/lib/gateway telemetry-gateway

FROM rust:1.88-slim-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends python3-venv && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY requirements.lock ./
# Everything comes from the lock: what is downloaded has a hash that stands there, and only that is installed.
RUN python3 -m venv /build \
 && /build/bin/pip download --dest /wheels --require-hashes --only-binary :all: -r requirements.lock \
 && /build/bin/pip install --no-index --find-links /wheels maturin
COPY pyproject.toml README.md Cargo.toml Cargo.lock ./
COPY engine engine
COPY gateway gateway
RUN /build/bin/maturin build --release --locked --out /dist
# Only what the gateway needs to run; an image that installs nothing needs no pip. --build-arg EXTRAS=[aws] adds SigV4.
ARG EXTRAS=""
RUN python3 -m venv /opt/gateway \
 && /opt/gateway/bin/pip install --no-index --find-links /wheels "$(echo /dist/*.whl)${EXTRAS}" \
 && /opt/gateway/bin/pip uninstall --yes setuptools pip

FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends python3 ca-certificates && rm -rf /var/lib/apt/lists/* \
 && useradd --system --uid 10001 --user-group --home-dir /var/lib/gateway --create-home gateway
COPY --from=build /opt/gateway /opt/gateway
COPY config/container.yaml /etc/gateway/gateway.yaml
ENV PATH=/opt/gateway/bin:$PATH GATEWAY_CONFIG=/etc/gateway/gateway.yaml
USER 10001:10001
WORKDIR /var/lib/gateway
VOLUME /var/lib/gateway
EXPOSE 4317 4318 9464
# With admin.tls, or another admin port, set GATEWAY_ADMIN_URL.
HEALTHCHECK --interval=10s --timeout=6s --start-period=10s CMD ["gateway", "health"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["gateway"]
CMD ["run"]
