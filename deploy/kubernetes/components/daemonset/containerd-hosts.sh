#!/bin/sh
# Points the containerd of this node at Millpond, or takes that back.
#   containerd-hosts.sh install FOLDER URL [SECOND_URL]
#   containerd-hosts.sh remove FOLDER
# FOLDER is the config_path of containerd's registry settings, usually /etc/containerd/certs.d. The script touches only
# FOLDER/_default: registries with a folder of their own keep what they have. It keeps a hosts.toml that was there beside
# the new one, and "remove" brings it back. The file names no server: containerd fetches from the registry itself what the
# mirror does not give, also while the mirror is down. containerd reads the file at each pull and needs no restart.
#
# SECOND_URL is asked when URL does not answer, such as a NodePort of all mirrors.
# Environment, all optional:
#   CA_FILE            certificates in PEM that containerd is to trust for an https URL; the script copies them
#   SKIP_VERIFY        true: containerd does not check the certificate of an https URL
#   CONTAINERD_CONFIG  folder with containerd's config.toml: the script warns where containerd would not read FOLDER
#   CONFIG_PATH        what FOLDER is called on the node, for that comparison (default: FOLDER)
#   NOTICE_FILE        where the script writes a warning too, such as /dev/termination-log
set -eu
umask 022

action=$1
default=$2/_default
file=$default/hosts.toml
kept=$file.before-millpond
certificates=$default/millpond-ca.pem
mark='# Written by Millpond.'

is_ours() { [ -f "$file" ] && head -n 1 "$file" | grep -qF "$mark"; }

fail() {
  echo "containerd-hosts: $1" >&2
  exit 1
}

warn() {
  echo "containerd-hosts: warning: $1" >&2
  [ -z "${NOTICE_FILE:-}" ] || echo "$1" > "$NOTICE_FILE"
}

# config_path as the files of containerd's configuration give it, drop-ins last, which count more.
config_path() {
  cat "$CONTAINERD_CONFIG/config.toml" "$CONTAINERD_CONFIG"/conf.d/*.toml 2> /dev/null |
    sed -n "s/^[[:space:]]*config_path[[:space:]]*=[[:space:]]*[\"']\([^\"']*\)[\"'].*/\1/p" | grep -v '^$' | tail -n 1
}

# Without the right config_path containerd skips every hosts.toml and says nothing.
check_config_path() {
  if [ ! -f "$CONTAINERD_CONFIG/config.toml" ]; then
    warn "containerd has no $CONTAINERD_CONFIG/config.toml on this node: cannot tell whether it reads $1"
    return
  fi
  found=$(config_path || true)
  case $found in
    "$1") echo "containerd-hosts: containerd reads $1" ;;
    '') warn "containerd has no config_path: most releases then read no hosts.toml; set config_path = \"$1\" and restart containerd" ;;
    *:*) warn "config_path of containerd is the list \"$found\", which its usual pull path takes for one path: set config_path = \"$1\" and restart containerd" ;;
    *) warn "config_path of containerd is $found, not $1: write hosts.toml there (containerd.configPath of the chart)" ;;
  esac
}

trust() {
  case $1 in https:*) ;; *) return 0 ;; esac
  [ -z "${CA_FILE:-}" ] || echo '  ca = "millpond-ca.pem"'
  [ "${SKIP_VERIFY:-}" != true ] || echo '  skip_verify = true'
}

host() {
  echo "[host.\"$1\"]"
  echo '  capabilities = ["pull", "resolve"]'
  echo '  dial_timeout = "1s"'
  trust "$1"
}

# By one rename: containerd never reads half a file, and a node that crashes has none.
put() {
  chmod 0644 "$1"
  sync "$1" 2> /dev/null || sync
  mv "$1" "$2"
}

case $action in
  install)
    url=$3
    second=${4:-}
    mkdir -p "$default"
    # Without a hosts.toml containerd takes certificates from the folder; beside one it ignores them.
    if [ ! -e "$file" ]; then
      for certificate in "$default"/*.crt "$default"/*.cert "$default"/*.key; do
        [ ! -e "$certificate" ] || fail "$certificate would not be used any more: move it into a hosts.toml"
      done
    fi
    if [ -e "$file" ] && ! is_ours; then
      [ ! -e "$kept" ] || fail "$file is not Millpond's, and neither is $kept: remove one of them"
      mv "$file" "$kept"
      echo "containerd-hosts: kept $file as $kept"
    fi
    new=$(mktemp "$default/.hosts.toml.XXXXXX")
    trap 'rm -f "$new"' EXIT
    if [ -n "${CA_FILE:-}" ] && ! cmp -s "$CA_FILE" "$certificates"; then
      cat "$CA_FILE" > "$new"
      put "$new" "$certificates"
      echo "containerd-hosts: wrote $certificates"
      new=$(mktemp "$default/.hosts.toml.XXXXXX")
    fi
    {
      echo "$mark Without it, or while it is down, images come from their registries."
      host "$url"
      [ -z "$second" ] || host "$second"
    } > "$new"
    if [ -f "$file" ] && cmp -s "$new" "$file"; then
      echo "containerd-hosts: $file is as it should be"
    else
      put "$new" "$file"
      echo "containerd-hosts: wrote $file"
    fi
    [ -z "${CONTAINERD_CONFIG:-}" ] || check_config_path "${CONFIG_PATH:-$2}"
    ;;
  remove)
    if is_ours; then
      rm -f "$file" "$certificates"
      echo "containerd-hosts: removed $file"
      # What was there before counts again; an own file that came since is left alone.
      [ ! -e "$kept" ] || mv "$kept" "$file"
      rmdir "$default" 2> /dev/null || true
    else
      echo "containerd-hosts: $file is not Millpond's, left as it is"
    fi
    ;;
  *) fail "the first argument is install or remove, not $action" ;;
esac
