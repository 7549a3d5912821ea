#!/bin/sh
# Unpacks packages that carry sources, each into a folder of its own, for `tidepool bench context`.
#   scripts/unpackSources.sh TARGET ARCHIVE…
# ARCHIVE is a Debian package (.deb), a package of npm (.tgz) or the .orig.tar.* of a Debian source package.
set -eu
[ $# -ge 2 ] || { echo "usage: $0 TARGET ARCHIVE..." >&2; exit 2; }
target=$1
shift
for archive in "$@"; do
  name=$(basename "$archive" | sed 's/\.deb$//; s/\.tgz$//; s/\.orig\.tar\..*$//')
  [ ! -e "$target/$name" ] || continue
  mkdir -p "$target/$name"
  case $archive in
    *.deb) dpkg-deb --fsys-tarfile "$archive" | tar -x -C "$target/$name" ;;
    *) tar -xf "$archive" -C "$target/$name" --strip-components 1 ;;
  esac
done
