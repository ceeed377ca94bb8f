#!/bin/sh
# Makes what the containers share, once, with random values. Each file is for the one user that reads it.
#   make-secrets.sh FOLDER MILLPOND_USER REDIS_USER
set -eu
umask 077

folder=$1
random() { head -c 32 /dev/urandom | od -An -vtx1 | tr -d ' \n'; }

# The last file is the sign that all are there: what was cut short is begun again.
[ ! -e "$folder/redis-password" ] || exit 0
password=$(random)
random > "$folder/cluster-secret"
cat > "$folder/redis.conf" << CONF
port 6379
save ""
appendonly no
maxmemory 128mb
maxmemory-policy allkeys-lru
requirepass $password
CONF
printf %s "$password" > "$folder/redis-password.new"
chown "$2" "$folder/cluster-secret" "$folder/redis-password.new"
chown "$3" "$folder/redis.conf"
mv "$folder/redis-password.new" "$folder/redis-password"
