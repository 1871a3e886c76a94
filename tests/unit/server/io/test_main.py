"""test_main.py TUNNEL_SERVER CASE: the program itself: command line, --dev, signals."""

import faulthandler
import os
import re
import signal
import socket
import ssl
import stat
import subprocess
import sys
import tempfile
import time

SERVER = sys.argv[1]


def run(*args, **kw):
    return subprocess.run([SERVER, *args], capture_output=True, text=True, timeout=60, **kw)


class Dev:
    """--dev in a folder; READY=1 on the notification socket says that it serves."""

    def __init__(self, folder):
        self.state = os.path.join(folder, "dev")
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notify.settimeout(60)
        path = os.path.join(folder, "notify")
        if os.path.exists(path):
            os.unlink(path)
        self.notify.bind(path)
        env = dict(os.environ, NOTIFY_SOCKET=path)
        self.log = open(os.path.join(folder, "log"), "w+")
        self.said = open(os.path.join(folder, "said"), "w+")
        self.p = subprocess.Popen([SERVER, "--dev", "--state-dir", self.state], env=env, stdout=self.said, stderr=self.log)
        self.expect("READY=1")
        self.url = self.read("ready").strip()

    def expect(self, text):
        got = self.notify.recv(100).decode()  # what is in the other lines, test_watchdog.py looks at
        assert got.split("\n")[0] == text, got

    def read(self, name):
        with open(os.path.join(self.state, name)) as f:
            return f.read()

    def curl(self, path, *args):
        ca = os.path.join(self.state, "ca.pem")
        r = subprocess.run(["curl", "-sS", "-m", "60", "--cacert", ca, *args, self.url + path], capture_output=True, text=True, env={"PATH": os.environ["PATH"]})
        assert r.returncode == 0, r.stderr
        return r.stdout

    def signed(self, path):
        key = re.findall(r'"(.*)"', self.read("cli-credentials"))
        return self.curl(path, "--aws-sigv4", "aws:amz:default:tunnel", "-u", ":".join(key))

    def terminate(self):
        self.p.send_signal(signal.SIGTERM)
        self.expect("STOPPING=1")

    def stopped(self, want=0):
        code = self.p.wait(60)
        self.log.seek(0)
        said = self.log.read()
        assert code == want, (code, said)
        self.notify.close()
        self.log.close()
        self.said.close()
        return said

    def stop(self):
        self.terminate()
        self.stopped()

    def tls(self):
        host, port = self.url.removeprefix("https://").rsplit(":", 1)
        context = ssl.create_default_context(cafile=os.path.join(self.state, "ca.pem"))
        return context.wrap_socket(socket.create_connection((host, int(port)), timeout=60), server_hostname=host)


def test_dev_keeps_everything(folder):
    d = Dev(folder)
    assert d.curl("/healthz") and '"subject":"dev"' in d.signed("/v1/whoami")
    for secret in ("server.key", "credentials", "cli-credentials"):
        assert stat.S_IMODE(os.stat(os.path.join(d.state, secret)).st_mode) == 0o600, secret
    url, ca, key = d.url, d.read("ca.pem"), d.read("credentials")
    r = run("--dev", "--state-dir", d.state)
    assert r.returncode == 1 and r.stderr.count("\n") == 1 and "listen" in r.stderr, r
    d.stop()
    assert not os.path.exists(os.path.join(d.state, "ready"))
    d = Dev(folder)
    assert (d.url, d.read("ca.pem"), d.read("credentials")) == (url, ca, key)
    assert '"subject":"dev"' in d.signed("/v1/whoami")
    d.stop()


def test_dev_says_where_everything_is(folder):
    d = Dev(folder)
    d.said.seek(0)
    said = d.said.read()
    state = os.path.realpath(d.state)
    assert f"tunnel-server {d.url}, for development, all in {state}\n" in said, said
    config = re.search(r"(?m)^  use it:  export TUNNEL_CONFIG=(\S+)$", said)[1]
    assert config == f"{state}/cli.conf" and f'server = "{d.url}"' in d.read("cli.conf"), said
    assert f'agents:  server = [ "{d.url}" ]; ca_file = "{state}/ca.pem";' in said, said
    assert os.path.exists(f"{state}/ca.pem") and os.path.exists(f"{state}/server.conf")
    d.stop()


def test_reload(folder):
    d = Dev(folder)
    assert '"Statement"' in d.signed("/v1/policies/dev")
    policy = d.read("policies/dev.json").replace('"dev"', '"somebody"')
    with open(os.path.join(d.state, "policies", "dev.json"), "w") as f:
        f.write(policy)
    d.p.send_signal(signal.SIGHUP)
    d.expect("RELOADING=1")
    d.expect("READY=1")
    assert '"forbidden"' in d.signed("/v1/policies/dev")
    with open(os.path.join(d.state, "server.conf"), "a") as f:
        f.write("nonsense = 1;\n")
    d.p.send_signal(signal.SIGHUP)
    d.expect("RELOADING=1")
    d.expect("READY=1")
    d.log.seek(0)
    assert "nonsense" in d.log.read()
    assert d.curl("/healthz")
    d.stop()


def test_reload_takes_the_log_level(folder):
    d = Dev(folder)

    def reload(level):
        """What is logged by a reload that comes upon this level."""
        conf = re.sub(r"(?m)^log: .*\n", "", d.read("server.conf"))
        with open(os.path.join(d.state, "server.conf"), "w") as f:
            f.write(conf + f'log: {{ level = "{level}"; }};\n')
        before = os.path.getsize(d.log.name)
        d.p.send_signal(signal.SIGHUP)
        d.expect("RELOADING=1")
        d.expect("READY=1")
        with open(d.log.name) as f:
            f.seek(before)
            return f.read()

    assert "reloaded" in reload("info")
    assert "reloaded" not in reload("warn")
    assert "reloaded" not in reload("error")
    assert "reloaded" in reload("debug")
    d.stop()


def again_with(folder, line):
    """A server whose folder is there already, with one more setting."""
    Dev(folder).stop()
    with open(os.path.join(folder, "dev", "server.conf"), "a") as f:
        f.write(line)
    return Dev(folder)


def test_a_drain_has_an_end(folder):
    """Clients that never read, never finish a request, or never begin one hold the stop for drain_timeout and no longer."""
    d = again_with(folder, 'drain_timeout = "1s";\n')
    deaf, half, silent = d.tls(), d.tls(), socket.create_connection(d.tls().getpeername(), timeout=60)
    half.sendall(b"GET /healthz HTTP/1.1\r\nHost:")
    deaf.settimeout(1)
    try:
        while True:
            deaf.sendall(b"GET /none HTTP/1.1\r\nHost: x\r\n\r\n" * 50)
    except TimeoutError:
        pass  # it does not read, so it is not read
    begin = time.monotonic()
    d.terminate()
    d.stopped()
    assert time.monotonic() - begin < 40
    for s in (deaf, half, silent):
        s.close()


def test_a_store_that_is_older_than_its_copies(folder):
    """It was restored from a backup. What is to be moved away is named: a copy and how far it got; the daemon's socket is nobody's to move."""
    d = Dev(folder)
    d.stop()
    conf = os.path.join(d.state, "server.conf")
    written = d.read("server.conf")
    for setting, path in (("file", f"{folder}/audit.jsonl"), ("syslog", f"{folder}/daemon")):
        position = os.path.join(os.path.realpath(d.state), "state", f"audit.{setting}")
        with open(position, "w") as f:
            f.write("4711\n")
        with open(conf, "w") as f:
            f.write(f'{written}audit: {{ {setting} = "{path}"; }};\n')
        r = run("--config", conf)
        moved = f"it and {position}" if setting == "file" else position
        assert r.returncode == 1 and f"{path} got up to record 4711" in r.stderr and f"; move {moved} away" in r.stderr, r
        os.unlink(position)


def test_a_second_signal_ends_it_at_once(folder):
    d = again_with(folder, 'drain_timeout = "10m";\n')
    half = d.tls()
    # A request that has begun, as the server says; its body is not here yet.
    half.sendall(b"POST /v1/sessions HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
    assert half.recv(4096).startswith(b"HTTP/1.1 100 ")
    d.terminate()
    d.p.send_signal(signal.SIGHUP)  # no order to go
    try:
        d.p.wait(0.5)
        raise AssertionError("it did not drain")
    except subprocess.TimeoutExpired:
        pass
    d.p.send_signal(signal.SIGTERM)
    assert "a second time" in d.stopped(want=1)
    half.close()
    d = Dev(folder)
    assert d.curl("/readyz")
    d.p.send_signal(signal.SIGTERM)
    d.expect("STOPPING=1")
    d.stopped()


def test_a_provider_that_hangs_holds_up_no_other(folder):
    """Its own callers are told so in time; health, a reload and the order to stop do not wait for it."""
    Dev(folder).stop()
    plugin = os.path.join(os.path.dirname(os.path.dirname(SERVER)), "tests", "doubles", "plugins", "auth-moody.so")
    hold = os.path.join(folder, "hold")
    with open(os.path.join(folder, "dev", "server.conf"), "r+") as f:
        text = f.read()
        moody = f'{{ plugin = "{plugin}"; needed = "1"; answer = 4; hold = "{hold}"; }}, '
        changed = re.sub(r"auth\s*=\s*\(\s*", lambda m: m[0] + moody, text) + "workers = 1;\n"
        assert moody in changed, text
        f.seek(0)
        f.write(changed)
    open(hold, "w").close()
    d = Dev(folder)
    ca = os.path.join(d.state, "ca.pem")
    junk = [
        subprocess.Popen(["curl", "-sS", "-m", "60", "--cacert", ca, d.url + "/v1/whoami"], stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    while not os.path.exists(hold + ".held"):
        time.sleep(0.01)
    assert d.curl("/healthz") and d.curl("/readyz") and d.curl("/nowhere")
    for p in junk:
        assert '"busy"' in p.communicate()[0]
    d.p.send_signal(signal.SIGHUP)
    d.expect("RELOADING=1")
    d.p.send_signal(signal.SIGTERM)
    while not (got := d.notify.recv(100).decode()).startswith("STOPPING=1\n"):
        assert got == "READY=1", got
    os.unlink(hold)
    d.stopped()


def test_command_line(folder):
    assert run("--version").stdout.startswith("tunnel-server ")
    assert "--config FILE" in run("--help").stdout
    assert "session.max_duration" in run("--describe-config").stdout
    for wrong in ([], ["--bogus"], ["--config"], ["--config", "x", "--dev"], ["--listen", "x", "--config", "y"], ["--dev", "extra"]):
        assert run(*wrong).returncode == 2, wrong


def plugin_folder():
    """Where the build has its plugins."""
    return os.path.join(os.path.dirname(os.path.dirname(SERVER)), "plugins")


def test_plugins_are_described(folder):
    plugins = {f.removesuffix(".so") for f in os.listdir(plugin_folder()) if f.endswith(".so")}
    assert plugins >= {"auth-hmac", "auth-jwt", "store-sqlite"}, plugins
    options = {"auth-hmac": "credentials", "auth-jwt": "issuer", "store-sqlite": "path"}
    for name in sorted(plugins):
        r = run("--describe-plugin", name, "--plugin-dir", plugin_folder())
        assert r.returncode == 0 and not r.stderr, r
        assert re.match(rf"{name} \d\S*\n", r.stdout), r.stdout
        assert re.search(rf"(?m)^  kind +{name.split('-')[0]}$", r.stdout), r.stdout
        assert re.search(r"(?m)^  abi +1\.\d+$", r.stdout) and f"{plugin_folder()}/{name}.so" in r.stdout, r.stdout
        described = r.stdout.partition("\noptions:\n")[2]
        if name in options:
            assert re.search(rf"(?m)^ *{options[name]}\S* .*required", described), r.stdout
    for args in (("auth-nobody", plugin_folder()), ("auth-hmac", folder), ("../auth-hmac", plugin_folder())):
        r = run("--describe-plugin", args[0], "--plugin-dir", args[1])
        assert r.returncode == 1 and not r.stdout, r
        assert r.stderr.startswith("tunnel-server: ") and args[0] in r.stderr and r.stderr.count("\n") == 1, r.stderr
    assert run("--describe-plugin").returncode == 2


def test_configuration(folder):
    path = os.path.join(folder, "server.conf")

    def write(**change):
        rows = {
            "listen": '"127.0.0.1:0"', "tls": '{ certificate = "none.pem"; key = "none.key"; }', "state_dir": f'"{folder}/state"',
            "store": '{ plugin = "store-none"; password = "hush"; }', "auth": '( { plugin = "auth-none"; } )', **change,
        }
        with open(path, "w") as f:
            f.write("".join(f"{k} = {v};\n" for k, v in rows.items() if v))

    write()
    r = run("--config", path, "--print-config")
    # The plugin cannot be asked which options are secret, so all are.
    assert r.returncode == 0 and "hush" not in r.stdout and re.search(r'password = "\*\*\*";', r.stdout), r
    doubles = os.path.join(os.path.dirname(os.path.dirname(SERVER)), "tests", "doubles", "plugins")
    write(plugin_dir=f'"{doubles}"', auth='( { plugin = "auth-moody"; needed = "shown"; password = "hide"; text = "plain"; } )')
    r = run("--config", path, "--print-config")
    assert r.returncode == 0 and "hide" not in r.stdout + r.stderr, r
    for line in ('plugin = "auth-moody";', 'needed = "shown";', 'password = "***";', 'text = "plain";'):
        assert line in r.stdout, (line, r.stdout)
    with open(path) as f:
        assert "hide" in f.read()
    r = run("--config", path, "--check-config")
    assert r.returncode == 1 and "none.key" in r.stderr, r
    assert run("--config", path).returncode == 1
    for change, names in (
        ({"listen": '"nowhere"'}, "listen"), ({"admin": '{ listen = "1"; }'}, "admin.listen"), ({"workers": "0"}, "workers"), ({"node": '"a b"'}, "node"), ({"surprise": "1"}, "surprise"),
        ({"advertise_url": '"http://x"'}, "advertise_url"), ({"server_urls": '[ "https://x/path" ]'}, "server_urls"), ({"auth": None}, "auth"),
        ({"log": '{ level = "loud"; }'}, "log.level"), ({"state_dir": '""'}, "state_dir: is empty"), ({"plugin_dir": '""'}, "plugin_dir: is empty"),
        ({"tls": '{ certificate = ""; key = "k"; }'}, "tls.certificate: is empty"),
    ):
        write(**change)
        r = run("--config", path, "--check-config")
        assert r.returncode == 1 and names in r.stderr and r.stderr.count("\n") == 1, (change, r)


def test_sections_of_one_plugin_have_names(folder):
    """Each another one, or who is taken for whom would go by its place."""
    d = Dev(folder)
    d.stop()
    conf = os.path.join(d.state, "server.conf")
    written = d.read("server.conf")
    (credentials,) = re.findall(r'credentials = "(.*?)";', written)

    def checked(*names, plugin="auth-hmac"):
        sections = ", ".join(f'{{ plugin = "{plugin}"; {n} credentials = "{credentials}"; }}' for n in names)
        with open(conf, "w") as f:
            f.write(re.sub(r"(?s)\bauth *[=:].*?\)[;\n]", f"auth = ( {sections} );\n", written))
        return run("--config", conf, "--check-config")

    for names in ([""], ["", ""], ['provider = "staff";', ""], ['provider = "staff";', 'provider = "a.b-c_1";', 'provider = "auth-jwt";']):
        r = checked(*names)
        assert (r.returncode, r.stderr) == (0, ""), (names, r.stderr)
    assert 'provider = "staff";' in run("--config", conf, "--print-config").stdout
    for names, said in (
        (['provider = "Staff";'], 'provider: "Staff"; allowed: 1 to 64 of a-z 0-9 . _ -'),
        (['provider = "";'], 'provider: ""; allowed: 1 to 64'),
        ([f'provider = "{"a" * 65}";'], "allowed: 1 to 64"),
        (['provider = "none";'], 'not "none"'),
        (["", 'provider = "auth-hmac#2";'], 'provider: "auth-hmac#2"; allowed:'),
        (["", 'provider = "auth-hmac";'], 'another section is called "auth-hmac"'),
        (['provider = "auth-hmac";', ""], None),  # the second one is auth-hmac#2
        (['provider = "x";', "", 'provider = "x";'], 'another section is called "x"'),
        (['provider = ["x", "y"];'], "provider: given twice"),
        (['provder = "x";'], 'did you mean provider?'),
    ):
        r = checked(*names)
        if said:
            assert r.returncode == 1 and said in r.stderr and r.stderr.count("\n") == 1, (names, r.stderr)
        else:
            assert r.returncode == 0, r.stderr
    with open(conf, "w") as f:
        f.write(re.sub(r'plugin = "store-sqlite";', 'plugin = "store-sqlite"; provider = "x";', written))
    r = run("--config", conf, "--check-config")
    assert r.returncode == 1 and "provider: unknown option of store-sqlite" in r.stderr, r.stderr


def test_a_secret_of_the_store_that_others_may_read(folder):
    """The check does not open a store, and says so all the same."""
    path, word = os.path.join(folder, "server.conf"), os.path.join(folder, "word")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=x",
                    "-keyout", f"{folder}/key", "-out", f"{folder}/cert"], check=True, stderr=subprocess.DEVNULL)
    os.chmod(f"{folder}/key", 0o600)
    with open(f"{folder}/credentials", "w") as f:
        f.write('credentials = ( { key_id = "K"; secret = "0123456789abcdef0123"; subject = "dev"; groups = []; } );\n')
    os.chmod(f"{folder}/credentials", 0o600)
    os.mkdir(f"{folder}/policies")
    plugins = os.path.join(os.path.dirname(os.path.dirname(SERVER)), "plugins")
    rows = ['listen = "127.0.0.1:0";', f'tls: {{ certificate = "{folder}/cert"; key = "{folder}/key"; }};', f'state_dir = "{folder}/state";',
            f'policy_dir = "{folder}/policies";', f'plugin_dir = "{plugins}";', f'auth = ( {{ plugin = "auth-hmac"; credentials = "{folder}/credentials"; }} );']

    def check(key):
        tls = 'tls = true; tls_certificate = "/x";' if key == "tls_key" else ""
        where = 'sentinels = [ "a:1" ]; master_name = "m";' if key.startswith("sentinel") else 'address = "127.0.0.1:1";'
        with open(path, "w") as f:
            f.write("\n".join([*rows, f'store: {{ plugin = "store-redis"; {where} {tls} {key} = "{word}"; }};\n']))
        return run("--config", path, "--check-config")

    for key in ("password_file", "sentinel_password_file", "tls_key"):
        r = check(key)
        assert r.returncode == 1 and re.search(rf"server.conf:\d+: {key}: {word}: No such file", r.stderr), (key, r)
        with open(word, "w") as f:
            f.write("word\n")
        os.chmod(word, 0o640)
        r = check(key)
        assert r.returncode == 1 and re.search(rf"server.conf:\d+: {key}: {word}: mode 0640 .*chmod 600", r.stderr), (key, r)
        os.chmod(word, 0o600)
        r = check(key)
        assert r.returncode == 0 and r.stderr == "", (key, r)
        os.unlink(word)


def main():
    cases = {k[5:]: v for k, v in globals().items() if k.startswith("test_")}
    for name in sys.argv[2:] or cases:
        faulthandler.dump_traceback_later(240, exit=True)  # ctest would kill without a word
        # A socket's path has room for 107 characters.
        short = tempfile.gettempdir() if len(tempfile.gettempdir()) < 60 else "/tmp"
        with tempfile.TemporaryDirectory(prefix="tunnel-main-", dir=short) as folder:
            cases[name](folder)
        print(f"{name}: ok")


main()
