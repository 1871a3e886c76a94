#!/bin/sh
# Plugins that were built with the headers of ABI 1.0 (1.0/tunnel, never changed again) are loaded and keep their rules.
# Usage: plugins_of_1_0.sh <tunnel-plugin-check> <tunnel-server> <source folder> <C compiler>
set -eu
check=$1 server=$2 source=$3 cc=$4
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
for plugin in auth-static store-memory; do
	"$cc" -std=c99 -D_GNU_SOURCE -O2 -Wall -Wextra -Werror -fPIC -fvisibility=hidden -shared \
		-I "$source/tests/abi/1.0" $(pkg-config --cflags jansson) -o $plugin.so "$source/examples/$plugin/$plugin.c" \
		$(pkg-config --libs jansson)
	"$server" --describe-plugin "$work/$plugin.so" > described
	grep -q '^ *abi *1\.0$' described || {
		cat described
		exit 1
	}
done
umask 077
echo 's3cret-token-of-alice alice' > tokens
"$check" --accept 'Authorization: Static s3cret-token-of-alice' ./auth-static.so file="$work/tokens"
"$check" --volatile ./store-memory.so
