#!/bin/bash
# Fetches Docker's engine and an image's base from Debian, without any registry of images: engine.sh DIRECTORY
# As root, on Debian. Nothing is installed on the machine; tests start the engine and end it.
set -euo pipefail
here=$1
if [ "$(id -u)" != 0 ]; then echo 'a container engine needs root' >&2; exit 1; fi
rm -rf --one-file-system "$here"
mkdir -p -m 700 "$here/debs" "$here/root" "$here/base"
apt-get update -qq
command -v debootstrap >/dev/null || apt-get install -y -qq debootstrap

# docker.io's own dependencies beyond a minimal system; the legacy iptables serves names within networks.
# Prometheus is there for its promtool.
(cd "$here/debs" && apt-get download -qq -o APT::Sandbox::User=root \
  docker.io containerd runc tini iptables libxtables12 libip4tc2 libip6tc2 prometheus)
for package in "$here"/debs/*.deb; do dpkg-deb -x "$package" "$here/root"; done
rm -rf "$here/debs"
# Its modules are where Debian has them only if it is installed.
for name in iptables ip6tables; do
  cat > "$here/root/usr/bin/$name" <<EOF
#!/bin/bash
library=$here/root/usr/lib/\$(uname -m)-linux-gnu
export LD_LIBRARY_PATH=\$library XTABLES_LIBDIR=\$library/xtables
exec $here/root/usr/sbin/xtables-legacy-multi $name "\$@"
EOF
  chmod 0755 "$here/root/usr/bin/$name"
done

# What python:3.13-slim-trixie is, without the registry that has it.
debootstrap --variant=minbase --include=ca-certificates,python3-minimal,python3-pip,python3-venv \
  trixie "$here/base" > "$here/log" 2>&1 || { tail -n 20 "$here/log" >&2; exit 1; }
rm -rf "$here"/base/var/cache/apt "$here"/base/var/lib/apt/lists/*
# Package registries may be reached through a mirror that this machine's certificates vouch for.
cp /etc/ssl/certs/ca-certificates.crt "$here/base/etc/ssl/certs/ca-certificates.crt"

# What AWS' images of python3.13 have: the client of Lambda's runtime interface.
python3 -m venv "$here/pip"
"$here/pip/bin/pip" download --quiet --disable-pip-version-check --no-deps --only-binary :all: \
  --python-version 3.13 --platform manylinux2014_x86_64 --platform manylinux_2_28_x86_64 \
  --dest "$here/runtime" awslambdaric==4.2.2 simplejson==4.3.0 snapshot-restore-py==1.0.0
rm -rf "$here/pip"
touch "$here/ready"
