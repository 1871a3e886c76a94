// The audit log, newest first.
import {call} from "./api.js";
import {announce, button, empty, field, h, table, trouble, values} from "./dom.js";
import {chip, time} from "./format.js";

export const title = "Audit";
const PAGE = 100;
const SHOWN = new Set(["seq", "at", "node", "event", "prev", "hash", "target", "session"]);

const plain = (value) => (typeof value === "string" ? value : JSON.stringify(value));
const actor = (r) => ["by", "principal", "subject"].find((name) => r[name]);
const details = (r) => h("dl", {class: "details"}, Object.entries(r).filter(([name, value]) => !SHOWN.has(name) && name !== actor(r) && value !== null && value !== "")
  .map(([name, value]) => h("div", null, h("dt", null, name), h("dd", null, plain(value)))));
const instant = (local) => local && new Date(local).toISOString();

export function open(view, {params, signal}) {
  const result = h("div", {class: "result"}), count = h("p", {class: "count"}), older = button("Older", () => load(before));
  const list = table("Records of the audit log", [
    ["Number", (r) => String(r.seq)],
    ["When", (r) => time(r.at)],
    ["Event", (r) => chip(r.event, r.event === "denied" || r.event.startsWith("revocation") ? "warn" : "")],
    ["Who", (r) => r[actor(r)] ?? "–"],
    ["Target", (r) => r.target ?? "–"],
    ["Session", (r) => h("span", {class: "id"}, r.session ?? "–")],
    ["Details", details],
  ]);
  let before, n = 0;

  async function load(from) {
    const {since, until, ...filters} = values(form);
    older.disabled = true;
    try {
      const page = await call("GET", "/v1/audit", {query: {...filters, since: instant(since), until: instant(until), tail: PAGE, before: from}, signal});
      if (!from) list.body.replaceChildren();
      n = (from ? n : 0) + page.records.length;
      page.records.reverse().forEach(list.add);
      before = page.next_before;
      older.hidden = !before;
      count.textContent = `${n} found${before ? "; there are older ones to search" : ", and no more"}`;
      result.replaceChildren(n ? list.element : empty(before ? "None among the newest." : "No record."), count, older);
      announce(count.textContent);
    } catch (error) {
      if (!signal.aborted) result.replaceChildren(trouble(error, "the audit log"));
    }
    older.disabled = false;
  }

  const form = h("form", {class: "filter", submit: (event) => {
    event.preventDefault();
    load();
  }}, ...[["Event", "event", "may contain *: session.*"], ["Principal", "principal"], ["Target", "target"], ["Session", "session"]]
    .map(([label, name, hint]) => field(label, {name, value: params.get(name) ?? ""}, hint)),
  field("Since", {name: "since", type: "datetime-local", step: "1"}), field("Until", {name: "until", type: "datetime-local", step: "1"}),
  h("button", {class: "main"}, "Search"));
  view.append(form, result);
  load();
}
