"""The ten policies of docs/policy.md decide as the page says."""

import re
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "policy.md"
ALLOWED, REFUSED = 0, 245

# Title (its beginning) → what is asked, and the answer.
QUESTIONS = {
    "A team's own machines": [
        (ALLOWED, "--group developers --resource target/x --action OpenSsh --tag team=red --claim team=red --claim unix_login=ann --login ann"),
        (REFUSED, "--group developers --resource target/x --action OpenSsh --tag team=red --claim team=red --claim unix_login=ann --login root"),
        (REFUSED, "--group developers --resource target/x --action StartSession --tag team=blue --claim team=red"),
        (REFUSED, "--group developers --resource target/x --action StartSession --tag team=blue"),
    ],
    "One port": [
        (ALLOWED, "--group dba --resource target/db-1 --action OpenTcp --host 127.0.0.1 --port 5432 --source-ip 192.0.2.7"),
        (ALLOWED, "--group dba --resource target/db-1 --action StartSession --source-ip 192.0.2.7"),
        (REFUSED, "--group dba --resource target/db-1 --action OpenTcp --host 127.0.0.1 --port 22 --source-ip 192.0.2.7"),
        (REFUSED, "--group dba --resource target/db-1 --action OpenTcp --host 127.0.0.1 --port 5432 --source-ip 198.51.100.1"),
    ],
    "Root only": [
        (ALLOWED, "--group everything --resource target/x --action OpenSsh --login root --claim mfa=true"),
        (ALLOWED, "--group everything --resource target/x --action OpenSsh --login ann"),
        (REFUSED, "--group everything --resource target/x --action OpenSsh --login root --claim mfa=false"),
        (REFUSED, "--group everything --resource target/x --action OpenSsh --login root"),
    ],
    "For some time": [
        (ALLOWED, "--principal kim --resource target/staging-1 --action StartSession --time 2026-12-31T17:59:59Z"),
        (REFUSED, "--principal kim --resource target/staging-1 --action StartSession --time 2026-12-31T18:00:00Z"),
        (REFUSED, "--principal kim --resource target/staging-10 --action StartSession --time 2026-12-01T00:00:00Z"),
        (REFUSED, "--principal jo --resource target/staging-1 --action StartSession --time 2026-12-01T00:00:00Z"),
    ],
    "A machine account": [
        (ALLOWED, "--principal provisioning --resource target/web-7 --action EnrollTarget --tag role=web"),
        (REFUSED, "--principal provisioning --resource target/web-7 --action EnrollTarget --tag role=db"),
        (REFUSED, "--principal provisioning --group everything --resource target/web-7 --action StartSession"),
    ],
    "A job that deploys": [
        (ALLOWED, "--principal ci-deploy --resource target/x --action OpenSsh --login deploy --tag env=staging --source-ip 203.0.113.5"),
        (ALLOWED, "--principal ci-deploy --resource target/x --action StartSession --tag env=staging --source-ip 203.0.113.5"),
        (REFUSED, "--principal ci-deploy --resource target/x --action OpenSsh --login deploy --tag env=staging --source-ip 203.0.113.16"),
        (REFUSED, "--principal ci-deploy --resource target/x --action OpenSsh --login deploy --tag env=production --source-ip 203.0.113.5"),
        (REFUSED, "--principal ci-deploy --group everything --resource target/x --action OpenSsh --login root --source-ip 203.0.113.5"),
    ],
    "A freeze": [
        (ALLOWED, "--group everything --resource target/x --action StartSession --tag env=production --time 2026-12-19T16:59:59Z"),
        (REFUSED, "--group everything --resource target/x --action StartSession --tag env=production --time 2026-12-19T17:00:00Z"),
        (REFUSED, "--group everything --resource target/x --action OpenSsh --login ann --tag env=production --time 2027-01-04T07:59:59Z"),
        (ALLOWED, "--group everything --resource target/x --action StartSession --tag env=staging --time 2026-12-24T00:00:00Z"),
        (ALLOWED, "--group everything --group on-call --resource target/x --action StartSession --tag env=production --time 2026-12-24T00:00:00Z"),
        (ALLOWED, "--group everything --resource target/x --action StartSession --tag env=production --time 2027-01-04T08:00:00Z"),
    ],
    "An auditor": [
        (ALLOWED, "--group auditors --resource audit --action ReadAudit"),
        (ALLOWED, "--group auditors --resource session/s-1 --action DescribeSessions"),
        (REFUSED, "--group auditors --group everything --resource session/s-1 --action TerminateSession"),
        (REFUSED, "--group auditors --group everything --resource target/x --action StartSession"),
    ],
    "People of another issuer": [
        (ALLOWED, "--group partner:engineers --provider partner --resource target/x --action OpenSsh --login partner --tag shared-with=partner"),
        (REFUSED, "--group partner:engineers --provider partner --resource target/x --action OpenSsh --login root --tag shared-with=partner"),
        (REFUSED, "--group everything --provider partner --resource target/x --action StartSession --tag shared-with=us"),
        (REFUSED, "--group everything --provider partner --resource target/x --action StartSession"),
        (ALLOWED, "--group everything --provider auth-jwt --resource target/x --action StartSession"),
    ],
}
EVERYTHING = """{"Version": "2026-01-01", "Statement": {"Effect": "Allow", "Principal": {"Group": "everything"}, "Action": "*", "Resource": "*"}}"""


def test_they_decide_as_the_page_says(bare):
    bare.start_server()
    bare.cli("put-policy", "everything", "-", input=EVERYTHING)
    examples = re.findall(r"(?ms)^\*\*([^*]+)\*\*.*?```json\n(.*?)^```", PAGE.read_text().partition("\n## Ten policies\n")[2])
    assert len(examples) == 10, [title for title, _ in examples]
    asked = 0
    for title, document in examples:
        bare.cli("put-policy", "example", "-", input=document)
        for answer, question in next((q for start, q in QUESTIONS.items() if title.startswith(start)), []):
            args = question.split()
            args += [] if "--principal" in args else ["--principal", "ann"]
            r = bare.cli("simulate-policy", *args, check=False)
            assert r.returncode == answer, f"{title} {question}\n{r.stdout}{r.stderr}"
            asked += 1
    assert asked == sum(map(len, QUESTIONS.values()))
