#!/bin/sh
# Installs everything into a fresh root and looks at what is where; builds the examples there as a stranger would
# (pkg-config and a C compiler, nothing of this tree); lets the installed tunnel-plugin-check judge them; and starts the
# installed server with auth-static, which then tells callers apart by its word.
# Usage: out_of_tree_plugin.sh <cmake> <build folder> <source folder>
set -eu
cmake=$1 build=$2 source=$3
umask 022
work=$(mktemp -d)
server=
finish() {
	[ -z "$server" ] || { kill "$server" && wait "$server"; } 2>/dev/null || true
	rm -rf "$work"
}
trap finish EXIT
fail() {
	echo "FAILED: $*" >&2
	exit 1
}

DESTDIR=$work/root "$cmake" --install "$build" > "$work/install.log" 2>&1 || {
	cat "$work/install.log"
	fail "the installation"
}
prefix=$(sed -n 's/^CMAKE_INSTALL_PREFIX:PATH=//p' "$build/CMakeCache.txt")
root=$work/root$prefix
set -- "$work"/root/*
[ $# = 1 ] && [ "$1" = "$work/root/$(echo "$prefix" | cut -d / -f 2)" ] || fail "something is outside $prefix: $*"
is_there() {
	for file; do test -s "$root/$file" || fail "$prefix/$file is not there"; done
}
programs=$(cd "$root/bin" && echo *)
test "$programs" = "tunnel-agent tunnel-cli tunnel-plugin-check tunnel-server" || fail "programs: $programs"
is_there include/tunnel/plugin.h include/tunnel/auth.h include/tunnel/store.h \
	share/man/man1/tunnel-cli.1 share/man/man1/tunnel-plugin-check.1 share/man/man8/tunnel-agent.8 share/man/man8/tunnel-server.8
for sample in $(cd "$source/etc" && find . -type f ! -name CMakeLists.txt ! -name '*.service'); do
	is_there "share/tunnel/examples/${sample#./systemd/}"
done
for unit in tunnel-server tunnel-agent; do
	is_there lib/systemd/system/$unit.service
	grep -q "^ExecStart=$prefix/bin/$unit " "$root/lib/systemd/system/$unit.service" || fail "$unit.service starts another program"
done

pc=$(find "$work/root" -name tunnel-plugin.pc)
test -n "$pc" || fail "no tunnel-plugin.pc"
export PKG_CONFIG_PATH="$(dirname "$pc")" PKG_CONFIG_SYSROOT_DIR="$work/root"
plugindir=$(PKG_CONFIG_SYSROOT_DIR= pkg-config --variable=plugindir tunnel-plugin)
libdir=$prefix/lib
# As packaged, libraries are in the folder of the machine's kind.
[ "$prefix" != /usr ] || [ ! -e /etc/debian_version ] || libdir=/usr/lib/$(cc -print-multiarch)
test "$plugindir" = "$libdir/tunnel/plugins" || fail "plugindir is \"$plugindir\"; expected $libdir/tunnel/plugins"
test "$pc" = "$work/root$libdir/pkgconfig/tunnel-plugin.pc" || fail "tunnel-plugin.pc is $pc"
plugins=$(cd "$work/root$plugindir" && echo *)
test "$plugins" = "auth-hmac.so auth-jwt.so store-redis.so store-sqlite.so" || fail "plugins: $plugins"
"$root/bin/tunnel-server" --describe-config | grep -q "^plugin_dir (path), default $plugindir\$" ||
	fail "the server does not look for its plugins in $plugindir"

for example in auth-static store-memory; do
	mkdir "$work/$example"
	cp "$source/examples/$example"/* "$work/$example/"
	cd "$work/$example"
	make CFLAGS="-O2 -Wall -Wextra -Wpedantic -Werror" > make.log 2>&1 || {
		cat make.log
		fail "$example does not build"
	}
	symbols=$(nm -D --defined-only $example.so | awk '{ print $3 }')
	test "$symbols" = tunnel_plugin_entry || fail "$example exports: $symbols"
done
"$root/bin/tunnel-plugin-check" --volatile ./store-memory.so > out.log 2>&1 || {
	cat out.log
	fail "store-memory breaks a rule"
}
grep -q ' 3 skipped, 0 failed' out.log || fail "$(cat out.log)" # what is kept, and events of other nodes

cd "$work/auth-static"
umask 077
printf '# for the test\ns3cret-token-of-alice alice\nanother-token-of-bob bob\n' > tokens
check=$root/bin/tunnel-plugin-check
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
grep -q 'fiel: unknown option of auth-static; allowed: plugin, provider, file' out.log || fail "$(cat out.log)"
if "$check" ./auth-static.so > out.log 2>&1; then
	fail "an option that must be given was not missed"
fi
test "$(grep -c 'file is missing' out.log)" = 1 && grep -q 'nothing was checked' out.log || fail "$(cat out.log)"

install -m 644 auth-static.so "$work/root$plugindir"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=127.0.0.1 \
	-addext subjectAltName=IP:127.0.0.1 -keyout server.key -out server.pem 2> openssl.log || fail "$(cat openssl.log)"
cat > server.conf <<CONF
listen = "127.0.0.1:0";
plugin_dir = "$work/root$plugindir";
state_dir = "$work/state";
ready_file = "$work/ready";
tls: { certificate = "server.pem"; key = "server.key"; };
store: { plugin = "store-sqlite"; path = "$work/state/tunnel.db"; };
auth = ( { plugin = "auth-static"; file = "tokens"; } );
CONF
"$root/bin/tunnel-server" --config server.conf > server.log 2>&1 &
server=$!
until [ -s "$work/ready" ]; do
	kill -0 "$server" 2>/dev/null || fail "the server ended: $(cat server.log)"
	sleep 0.05
done
whoami_is() { # status, what the answer has, token
	answer=$(curl -sS -m 60 --noproxy '*' --cacert server.pem -w '\n%{http_code}' -H "Authorization: Static $3" \
		"$(cat "$work/ready")/v1/whoami") || fail "curl: $(cat server.log)"
	test "$(echo "$answer" | tail -n 1)" = "$1" || fail "whoami of $3: $answer; expected $1"
	echo "$answer" | grep -q "$2" || fail "whoami of $3: $answer; expected $2"
}
whoami_is 200 '"subject": *"bob"' another-token-of-bob
whoami_is 200 '"subject": *"alice"' s3cret-token-of-alice
whoami_is 401 'auth-static: unknown token' another-token-of-bop
kill "$server"
wait "$server" || fail "the server ended with $?: $(cat server.log)"
server=
echo "installed, built, loaded, asked, decided; plugindir=$plugindir"
