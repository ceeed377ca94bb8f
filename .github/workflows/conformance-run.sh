#!/bin/sh
# Runs the conformance suite of the distribution-spec on the mirror. Millpond is read-only: the suite checks the pull half, on
# images that the upstream has (OCI_RO_DATA_…, from conformance-site.sh).
#
# The suite is built here instead of used as an action: without push it crashes while it writes its report, after all tests
# have run and their result has been printed. That result decides.
set -u

export OCI_REGISTRY=127.0.0.1:5000 OCI_TLS=disabled
export OCI_REPO1=upstream.test/conformance OCI_REPO2=upstream.test/conformance
export OCI_API_PUSH=false OCI_API_BLOBS_DELETE=false OCI_API_MANIFESTS_DELETE=false OCI_API_TAGS_DELETE=false
export OCI_RESULTS_DIR="$RUNNER_TEMP"

result=$("$RUNNER_TEMP/conformance" 2>&1)
echo "$result"
echo "$result" | grep -Eq '^ +Pass\.+: +[1-9]' &&
  echo "$result" | grep -Eq '^ +FAIL\.+: +0$' &&
  echo "$result" | grep -Eq '^ +Error\.+: +0$'
