"""The configuration that `gateway init` writes."""

from gateway.identity.api_keys import NewKey

_STARTER = """\
# Telemetry gateway. Check it with `gateway check -c FILE`; reload it with SIGHUP or POST /-/reload.

listen:
  grpc: 127.0.0.1:4317          # 0.0.0.0:4317 to take telemetry from other machines; then add tls
  http: 127.0.0.1:4318
  # tls: {{cert_file: /etc/gateway/tls.crt, key_file: /etc/gateway/tls.key}}

admin:
  address: 127.0.0.1:9464       # /-/healthy /-/ready /_metrics
  tokens:
    - {{name: ops, token: "${{env:GATEWAY_ADMIN_TOKEN:-}}"}}    # without one, /_metrics refuses everybody

destinations:
  disk: {{type: file, path: "./data/out/{{tenant}}-{{signal}}.jsonl"}}
  # prometheus: {{type: remote_write, url: http://127.0.0.1:9090/api/v1/write}}
  # loki:       {{type: loki, url: http://127.0.0.1:3100/loki/api/v1/push, tenant_header: X-Scope-OrgID}}
  # jaeger:     {{type: otlp, endpoint: http://127.0.0.1:4327, protocol: grpc}}

queue: {{dir: ./data/queue, max_bytes: 4GiB, ack: durable}}

defaults:                       # every tenant inherits these
  routes: {{traces: [disk], metrics: [disk], logs: [disk]}}
  # routes: {{traces: [jaeger], metrics: [prometheus], logs: [loki]}}
  mask: {{detectors: [email, credit_card]}}     # and the usual names of secrets
  # quotas: {{logs: {{items_per_second: 5000, burst: 10000}}}}
  # sample: {{traces: {{ratio: 0.25}}}}

tenants:
  acme:
    api_keys:
      - {{id: "{key_id}", sha256: "{sha256}"}}
"""


def starter_config(key: NewKey) -> str:
    """A configuration that runs as it is, with one tenant whose key is `key`."""
    return _STARTER.format(key_id=key.id, sha256=key.sha256)
