"""skips.py JUNIT_XML: tells which cases of a run of ctest or pytest were skipped, and why. With TUNNEL_TESTS_NO_SKIP=1 each
of them is a failure: exit code 1."""

import os
import sys
import xml.etree.ElementTree as ET


def main():
    cases = [c for c in ET.parse(sys.argv[1]).getroot().iter("testcase") if c.find("skipped") is not None]
    for c in cases:
        print(f"-- skipped: {c.get('name')}: {(c.find('skipped').get('message') or '').strip() or 'it does not say why'}")
    if cases and os.environ.get("TUNNEL_TESTS_NO_SKIP", "") not in ("", "0"):
        print(f"{len(cases)} skipped, and TUNNEL_TESTS_NO_SKIP forbids that")
        return 1
    return 0


sys.exit(main())
