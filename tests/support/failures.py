"""failures.py JUNIT_XML [LINES]: the ends of what the failed cases of a ctest run said, so that a log that is cut from above
still shows them. LINES (50) are shared among them."""

import re
import sys
import xml.etree.ElementTree as ET


def main():
    cases = [c for c in ET.parse(sys.argv[1]).getroot().iter("testcase") if c.find("failure") is not None]
    share = max(8, int(sys.argv[2] if len(sys.argv) > 2 else 50) // max(1, len(cases)))
    for c in cases:
        said = re.sub(r"\n{2,}", "\n", c.findtext("system-out") or "").rstrip().splitlines()
        why = c.find("failure").get("message") or "failed"
        print(f"-- {c.get('name')}: {why.strip() or 'failed'} after {float(c.get('time') or 0):.1f} s")
        print("\n".join("   " + line[:300] for line in said[-share:]) or "   (it said nothing)")


main()
