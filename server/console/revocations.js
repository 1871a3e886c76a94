// Who is shut out, and who shall be.
import {call} from "./api.js";
import {announce, ask, button, empty, field, h, notice, select, table, trouble} from "./dom.js";
import {time} from "./format.js";

export const title = "Revocations";
const KINDS = [["principal", "a principal: all that is his"], ["credential", "one credential"], ["session", "one session"]];
const TIMES = [["", "until it is lifted"], ["3600", "for an hour"], ["86400", "for a day"], ["604800", "for 7 days"], ["2592000", "for 30 days"]];

const names = (list, text) => (list.length ? ` ${text}: ${list.join(", ")}.` : "");
const told = (a) => `${a.sessions === 1 ? "1 session" : `${a.sessions} sessions`} ended in ${a.took_ms} ms.` + names(a.unreached, "Not connected") +
  names(a.unconfirmed, "Not confirmed") + names(a.silent, "Nodes that did not answer");

// Asks whom and why. known: {principal, credential, session} that may be filled in. Resolves to the answer in words.
export async function revoke(known = {}) {
  const kinds = KINDS.filter(([kind]) => Object.keys(known).length === 0 || known[kind]);
  const first = known.session ? "session" : "principal", kind = select("kind", kinds, first);
  const value = h("input", {type: "text", name: "value", required: true, autocomplete: "off", spellcheck: "false", value: known[first] ?? ""});
  const duration = select("for_s", TIMES, ""), time = field("How long", duration);
  time.hidden = first === "session";
  kind.addEventListener("change", () => {
    value.value = known[kind.value] ?? "";
    time.hidden = kind.value === "session";
  });
  const answer = await ask({title: "Revoke", text: "Sessions end at once, whatever the policies say.", danger: true, action: "Revoke",
    fields: [field("What", kind), field("Name", value), field("Reason", {name: "reason", required: true, maxlength: "256"}, "It stands in the audit log."), time],
    run: ({kind: chosen, value: name, reason, for_s: seconds}) =>
      call("POST", "/v1/revocations", {body: {[chosen]: name, reason, ...(seconds && chosen !== "session" ? {for_s: Number(seconds)} : {})}})});
  if (!answer) return null;
  announce(told(answer));
  return told(answer);
}

export function open(view, {signal}) {
  const said = h("div"), result = h("div", {class: "result"});
  const list = table("Revocations", [
    ["What", (r) => r.kind],
    ["Name", (r) => h("strong", null, r[r.kind])],
    ["Reason", (r) => r.reason || "–"],
    ["By", (r) => r.by],
    ["Since", (r) => time(r.at)],
    ["Until", (r) => (r.expires_at ? time(r.expires_at) : "it is lifted")],
    ["", (r) => button("Lift", () => lift(r), {"aria-label": `Lift the revocation of ${r[r.kind]}`})],
  ]);

  async function lift(r) {
    const did = await ask({title: `Lift the revocation of ${r[r.kind]}?`, text: `${r.by} revoked this ${r.kind}: ${r.reason || "no reason was given"}.`,
      action: "Lift", run: () => call("DELETE", `/v1/revocations/${r.id}`)});
    if (!did) return;
    announce(`The revocation of ${r[r.kind]} was lifted`);
    load();
  }

  async function load() {
    try {
      const {revocations} = await call("GET", "/v1/revocations", {signal});
      list.body.replaceChildren();
      revocations.forEach(list.add);
      result.replaceChildren(revocations.length ? list.element : empty("Nobody is revoked, as far as you may see."));
    } catch (error) {
      if (!signal.aborted) result.replaceChildren(trouble(error, "the revocations"));
    }
  }

  view.append(h("div", {class: "filter"}, button("Revoke …", async () => {
    const words = await revoke();
    if (!words) return;
    said.replaceChildren(notice(words, "good"));
    load();
  }, {class: "danger"})), said, result);
  load();
}
