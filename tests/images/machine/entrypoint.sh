#!/bin/sh
# Starts the engine, then the SSH server; AUTHORIZED_KEY is who may come in as root.
set -eu
mount -o remount,rw /proc/sys 2> /dev/null || true
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
    # Control groups of version 2: a group that hands controllers on has no processes of its own.
    mount -o remount,rw /sys/fs/cgroup 2> /dev/null || true
    mkdir -p /sys/fs/cgroup/init
    xargs -rn1 < /sys/fs/cgroup/cgroup.procs > /sys/fs/cgroup/init/cgroup.procs || true
    sed -e 's/ / +/g' -e 's/^/+/' < /sys/fs/cgroup/cgroup.controllers > /sys/fs/cgroup/cgroup.subtree_control
else
    for folder in /sys/fs/cgroup/*; do
        mount -o remount,bind,rw,nosuid,nodev,noexec "$folder"
    done
fi
rm -f /var/run/docker.pid /var/run/docker/containerd/containerd.pid
dockerd > /var/log/dockerd.log 2>&1 &
printf '%s\n' "${AUTHORIZED_KEY:-}" > /root/.ssh/authorized_keys
ssh-keygen -A > /dev/null
exec /usr/sbin/sshd -D -e
