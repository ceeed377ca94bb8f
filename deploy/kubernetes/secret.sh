#!/bin/sh
# Prints the Secret that the replicas share, with new random values:  sh secret.sh | kubectl create -f -
# `create` refuses where there is one already; to exchange it, `replace`, and restart everything that uses it.
set -eu

random() { head -c 32 /dev/urandom | od -An -vtx1 | tr -d ' \n'; }

cat << YAML
apiVersion: v1
kind: Secret
metadata:
  name: millpond-cluster
  namespace: ${1:-millpond}
  labels: { app.kubernetes.io/name: millpond }
type: Opaque
stringData:
  # Proves to a replica that another one asks.
  cluster-secret: "$(random)"
  redis-password: "$(random)"
YAML
