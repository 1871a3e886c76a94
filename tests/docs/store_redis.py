"""store_redis.py PAGE SERVER PLUGIN: the page about the store on Redis names each option of the plugin with its default, and no other."""

import re
import subprocess
import sys
from pathlib import Path

PAGE, SERVER, PLUGIN = Path(sys.argv[1]), *sys.argv[2:4]

told = {}
text = subprocess.run([SERVER, "--describe-plugin", PLUGIN], capture_output=True, text=True, check=True).stdout.partition("options:")[2]
for name, rest in re.findall(r"(?m)^  ([a-z]\w*) +(\w.*)$", text):
    told[name] = re.search(r"default (\S+)", rest)
page = PAGE.read_text()
rows = re.findall(r"(?m)^\| (`[a-z_`, ]+`) \| (.*) \|$", page.partition("## The server")[0])
written = {name: words for names, words in rows for name in re.findall(r"`(\w+)`", names)}
wrong = [f"{name} is missing" for name in told.keys() - written.keys()] + [f"{name} does not exist" for name in written.keys() - told.keys()]
wrong += [f"{name}: its default {told[name][1]} is not said" for name in told.keys() & written.keys()
          if told[name] and told[name][1] != "false" and told[name][1] not in written[name]]
print("\n".join(wrong) or "the page says what the plugin does")
sys.exit(bool(wrong) or not told)
