#!/bin/sh
# Starts an upstream registry with one image, and Millpond in front of it on 127.0.0.1:5000. Exports what the conformance
# suite asks for.
set -eu

docker run --detach --publish 127.0.0.1:5001:5000 docker.io/library/registry:2.8.3
skopeo copy --retry-times 3 --dest-tls-verify=false \
  docker://quay.io/prometheus/busybox:latest docker://127.0.0.1:5001/conformance:latest

cat > "$RUNNER_TEMP/millpond.yaml" <<'YAML'
listen: 127.0.0.1:5000
upstreams:
  upstream.test:
    urls: ["http://127.0.0.1:5001"]
hosted:
  repositories: ["conformance/**"]
YAML
bin/millpond serve --config "$RUNNER_TEMP/millpond.yaml" --cache-dir "$RUNNER_TEMP/cache" >"$RUNNER_TEMP/millpond.log" &
curl --silent --fail --retry 50 --retry-delay 1 --retry-connrefused http://127.0.0.1:5000/healthz

manifest=$(skopeo inspect --raw --tls-verify=false docker://127.0.0.1:5001/conformance:latest)
{
  echo "OCI_RO_DATA_TAGS=latest"
  echo "OCI_RO_DATA_MANIFESTS=sha256:$(printf %s "$manifest" | sha256sum | cut -d ' ' -f 1)"
  echo "OCI_RO_DATA_BLOBS=$(printf %s "$manifest" | jq --raw-output .config.digest)"
} >>"$GITHUB_ENV"
