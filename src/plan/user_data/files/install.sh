#!/bin/sh
# Runs once, at the first boot, after cloud-init wrote the files and tried the packages.
# A rerun changes nothing. Retries end: a droplet that cannot install is replaced from outside.
set -eu

log() {
    printf 'trigger-supervisor: %s\n' "$*"
}

installed() {
    command -v nft && docker compose version
} >/dev/null 2>&1

# The package mirror or its lock may be away for a moment.
install_packages() {
    apt-get -o DPkg::Lock::Timeout=120 update &&
        DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=120 install --yes \
            docker.io docker-compose-v2 nftables
}

attempt=0
until installed; do
    attempt=$((attempt + 1))
    if [ "$attempt" -gt 10 ]; then
        log "packages are missing after 10 attempts, giving up"
        exit 1
    fi
    log "installing packages, attempt $attempt of 10"
    install_packages || sleep 15
done

# The units were written after systemd had read its folders.
systemctl daemon-reload
# First the block, then Docker: the order in which every later boot starts them too.
systemctl enable --now trigger-supervisor-metadata.service
systemctl enable --now docker.service
systemctl enable --now trigger-supervisor-prune.timer
systemctl enable trigger-supervisor.service
# Does not wait: the unit retries by itself, however long a pull takes.
systemctl start --no-block trigger-supervisor.service
log "installed, the supervisor is starting"
