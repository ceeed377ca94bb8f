#!/bin/sh
# Points the containerd of this node at Millpond, or takes that back.
#   containerd-hosts.sh install|remove FOLDER [URL]
# FOLDER is the config_path of containerd's registry settings, usually /etc/containerd/certs.d. Only FOLDER/_default is
# touched: registries with a folder of their own keep what they have. A hosts.toml that was there is kept beside it, and
# comes back with "remove". The file names no server: what the mirror does not give, or while it is down, containerd
# fetches from the registry itself. containerd reads it at each pull and needs no restart.
set -eu
umask 022

action=$1
default=$2/_default
file=$default/hosts.toml
kept=$file.before-millpond
mark='# Written by Millpond.'

is_ours() { [ -f "$file" ] && head -n 1 "$file" | grep -qF "$mark"; }

fail() {
  echo "containerd-hosts: $1" >&2
  exit 1
}

case $action in
  install)
    url=$3
    mkdir -p "$default"
    # Without a hosts.toml containerd takes certificates from the folder, and with one it would not any more.
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
    cat > "$new" << TOML
$mark Without it, or while it is down, images come from their registries.
[host."$url"]
  capabilities = ["pull", "resolve"]
  dial_timeout = "1s"
TOML
    chmod 0644 "$new"
    if [ -f "$file" ] && cmp -s "$new" "$file"; then
      echo "containerd-hosts: $file is as it should be"
      exit 0
    fi
    # By one rename: containerd never reads half a file, and a node that crashes has none.
    sync "$new" 2> /dev/null || sync
    mv "$new" "$file"
    echo "containerd-hosts: wrote $file"
    ;;
  remove)
    if is_ours; then
      rm "$file"
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
