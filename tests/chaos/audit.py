"""Is a chain of audit records whole? The rules of lib/base/audit_chain.c, on what tunnel-cli audit prints."""

import hashlib
import json

FIRST = "0" * 64


def record_hash(record):
    bare = {k: v for k, v in record.items() if k not in ("hash", "seq")}
    return hashlib.sha256(json.dumps(bare, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()).hexdigest()


def wrong(records):
    """What is wrong with the first bad record, or None."""
    heads = {}
    for number, r in enumerate(records, 1):
        if r.get("seq") != number:
            return f"record {number} is missing; there is {r.get('seq')}"
        if record_hash(r) != r.get("hash"):
            return f"record {number} was changed: its content does not have its hash"
        if r.get("prev") != heads.get(r.get("node"), FIRST):
            return f"record {number} does not follow the record of node {r.get('node')} before it"
        heads[r["node"]] = r["hash"]
    return None
