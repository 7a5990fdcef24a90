#!/bin/sh
# Removes task images and stopped containers that nothing uses, once the disk fills.
# Only then: an image that was removed must be pulled again for its next run.
set -eu

log() {
    printf 'trigger-supervisor: %s\n' "$*"
}

used_percent() {
    df -P /var/lib/docker | awk 'NR == 2 { sub("%", "", $5); print $5 }'
}

used=$(used_percent)
if [ "$used" -lt 70 ]; then
    exit 0
fi
log "disk $used% full, removing what is unused for a day"
# Our own containers may be stopped for a moment; they carry compose's label.
docker container prune --force --filter 'until=24h' --filter 'label!=com.docker.compose.project'
docker image prune --all --force --filter 'until=24h'

used=$(used_percent)
if [ "$used" -ge 85 ]; then
    log "disk still $used% full, removing every unused image"
    docker image prune --all --force
fi
log "disk $(used_percent)% full"
