#!/bin/sh
# Installs headers and plugins into a fresh prefix, builds examples/auth-static there as a stranger would (pkg-config and
# a C compiler, nothing of this tree), and lets the installed tunnel-plugin-check load it and ask it for decisions.
# Usage: out_of_tree_plugin.sh <cmake> <build folder> <source folder> [library for LD_PRELOAD]
set -eu
cmake=$1 build=$2 source=$3
umask 022
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() {
	echo "FAILED: $*" >&2
	exit 1
}

for part in plugin-dev plugins; do
	DESTDIR=$work/root "$cmake" --install "$build" --component $part > "$work/install.log" || {
		cat "$work/install.log"
		fail "install of $part"
	}
done
prefix=$(sed -n 's/^CMAKE_INSTALL_PREFIX:PATH=//p' "$build/CMakeCache.txt")
for header in plugin auth store; do
	test -f "$work/root$prefix/include/tunnel/$header.h" || fail "$header.h is not where it belongs"
done
pc=$(find "$work/root" -name tunnel-plugin.pc)
test -n "$pc" || fail "no tunnel-plugin.pc"
export PKG_CONFIG_PATH="$(dirname "$pc")" PKG_CONFIG_SYSROOT_DIR="$work/root"
plugindir=$(PKG_CONFIG_SYSROOT_DIR= pkg-config --variable=plugindir tunnel-plugin)
case $plugindir in
/*/tunnel/plugins) ;;
*) fail "plugindir is \"$plugindir\"" ;;
esac
test -f "$work/root$plugindir/store-sqlite.so" || fail "store-sqlite.so is not in $plugindir"

mkdir "$work/example"
cp "$source"/examples/auth-static/* "$work/example/"
cd "$work/example"
make CFLAGS="-O2 -Wall -Wextra -Wpedantic -Werror" > make.log 2>&1 || {
	cat make.log
	fail "the example does not build"
}
symbols=$(nm -D --defined-only auth-static.so | awk '{ print $3 }')
test "$symbols" = tunnel_plugin_entry || fail "exports: $symbols"

umask 077
printf '# for the test\ns3cret-token-of-alice alice\nanother-token-of-bob bob\n' > tokens
check=$work/root$prefix/bin/tunnel-plugin-check
"$check" --accept 'Authorization: Static another-token-of-bob' ./auth-static.so file="$PWD/tokens" > out.log 2>&1 || {
	cat out.log
	fail "the plugin breaks a rule"
}
grep -q 'authorization is "bob"' out.log || fail "bob was not recognised"
grep -q ' 0 skipped, 0 failed' out.log || fail "$(cat out.log)"
if "$check" --accept 'Authorization: Static another-token-of-bop' --case good_credential_is_accepted ./auth-static.so \
	file="$PWD/tokens" > out.log 2>&1; then
	fail "a wrong token was accepted"
fi
if "$check" --case two_instances ./auth-static.so fiel="$PWD/tokens" > out.log 2>&1; then
	fail "an unknown option was taken"
fi
grep -q 'fiel: unknown option of auth-static; allowed: plugin, file' out.log || fail "$(cat out.log)"
echo "built, loaded and asked; plugindir=$plugindir"
