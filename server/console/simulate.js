// What the policies in force say of somebody: would it be allowed, and who can reach a target.
import {call} from "./api.js";
import {announce, checkbox, empty, field, h, notice, select, table, trouble, values} from "./dom.js";
import {chip, code} from "./format.js";

export const title = "Simulate";
const ACTIONS = ["StartSession", "OpenSsh", "OpenTcp", "OpenUnix", "AcceptTcp", "ListTargets", "EnrollTarget", "DeregisterTarget", "ResumeSession", "TerminateSession", "DescribeSessions",
  "Revoke", "PutPolicy", "GetPolicy", "ReadAudit", "ReadMetrics", "ListNodes"].map((name) => [`tunnel:${name}`, name]);
const KEYS = {login: "tunnel:Login", host: "tunnel:Host", port: "tunnel:Port", path: "tunnel:Path", source: "tunnel:SourceIp"};

function contextOf(given) {
  const context = {};
  for (const [name, key] of Object.entries(KEYS)) if (given[name]) context[key] = given[name];
  for (const line of (given.context ?? "").split("\n").filter((text) => text.trim())) {
    const at = line.indexOf("=");
    if (at < 1) throw new Error(`"${line}": expected a key and a value, as in tunnel:Claim/team=red`);
    context[line.slice(0, at).trim()] = line.slice(at + 1).trim();
  }
  return context;
}

const section = (heading, form, out) => h("section", {class: "panel"}, h("h2", null, heading), form, out);

// A form whose answer stands below it.
function question(fields, action, run) {
  const out = h("div", {"aria-live": "polite"}), submit = h("button", {class: "main"}, action);
  const form = h("form", {submit: async (event) => {
    event.preventDefault();
    submit.disabled = true;
    try {
      out.replaceChildren(...[await run(values(form), new FormData(form))].flat());
    } catch (error) {
      out.replaceChildren(trouble(error, action));
    }
    submit.disabled = false;
  }}, h("div", {class: "grid"}, fields), h("div", {class: "actions"}, submit));
  return {form, out};
}

async function simulate(given) {
  const groups = (given.groups ?? "").split(",").map((g) => g.trim()).filter(Boolean);
  const answer = await call("POST", "/v1/policies:simulate",
    {body: {subject: given.subject, groups, action: given.action, resource: given.resource, context: contextOf(given)}});
  const allowed = answer.effect === "allow";
  const by = answer.statement || answer.policy ? [" by statement ", code(answer.statement ?? "without a Sid"), " of policy ", code(answer.policy ?? "")] : ": no statement matches, and that refuses";
  announce(allowed ? "allowed" : "refused");
  return notice([h("strong", null, allowed ? "Allowed" : answer.effect === "deny" ? "Denied" : "Refused"), by], allowed ? "good" : "warn");
}

function who(w) {
  if (w.everyone) return "everyone";
  if (w.everyone_except) return `everyone except ${[...(w.everyone_except.users ?? []), ...(w.everyone_except.groups ?? []).map((g) => `group ${g}`)].join(", ")}`;
  return w.user !== undefined ? `user ${w.user}` : w.group === "*" ? "anybody in a group" : `group ${w.group}`;
}
const conditions = (all) => all.map((one) => h("div", null, code(JSON.stringify(one))));
const unless = (u) => h("div", null, `statement ${u.statement ?? "without a Sid"} of ${u.policy}`, u.who ? `, for ${u.who.map(who).join(", ")}` : "", conditions(u.if));

async function whoCan(given, form) {
  const actions = form.getAll("actions");
  const answer = await call("POST", "/v1/policies:who-can", {body: {target: given.target, ...(actions.length ? {actions} : {}), context: contextOf(given)}});
  const list = table(`Who can reach ${answer.target}`, [
    ["Who", (r) => h("strong", null, who(r.who))],
    ["What", (r) => r.actions.map((a) => chip(a.replace("tunnel:", "")))],
    ["Only if", (r) => (r.if.length ? conditions(r.if) : "–")],
    ["Unless denied by", (r) => (r.unless.length ? r.unless.map(unless) : "–")],
    ["Because of", (r) => [code(r.statement ?? "a statement without a Sid"), " of ", code(r.policy)]],
  ]);
  answer.reach.forEach(list.add);
  return [answer.reach.length ? list.element : empty(`Nobody can reach ${answer.target}.`), answer.more ? notice("The list was cut; ask about one action.", "warn") : h("span")];
}

export function open(view, {params, who: me}) {
  const target = params.get("target") ?? "";
  const may = question([
    field("Principal", {name: "subject", required: true, value: me.subject}), field("Groups", {name: "groups", value: me.groups.join(", ")}, "with commas between"),
    field("Action", select("action", ACTIONS, "tunnel:StartSession")), field("Resource", {name: "resource", required: true, value: `target/${target}`}, "target/web-1, session/…, policy/…, audit"),
    field("Login", {name: "login"}), field("Host", {name: "host"}), field("Port", {name: "port", inputmode: "numeric"}), field("Socket's path", {name: "path"}), field("Source address", {name: "source"}),
    field("Further keys", h("textarea", {name: "context", rows: "2", spellcheck: "false"}), "a line each: tunnel:Claim/team=red")], "Simulate", simulate);
  const reach = question([
    field("Target", {name: "target", required: true, value: target}), field("Login", {name: "login"}),
    h("fieldset", null, h("legend", null, "Actions"),
      ["StartSession", "OpenSsh", "OpenTcp", "OpenUnix", "AcceptTcp", "ListTargets", "EnrollTarget", "DeregisterTarget"].map((name) => checkbox("actions", name, {value: `tunnel:${name}`})), h("small", null, "none: what a session needs"))], "Who can?", whoCan);
  view.append(h("p", null, "Asks the policies in force; nothing is changed or recorded. What an auth plugin's own authorisation adds or vetoes is not in the answers."),
    section("Would it be allowed?", may.form, may.out), section("Who can reach a target?", reach.form, reach.out));
  if (target) reach.form.requestSubmit();
}
