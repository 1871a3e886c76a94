// Machines, and whether they are there.
import {call} from "./api.js";
import {announce, button, checkbox, empty, field, h, table, trouble, values} from "./dom.js";
import {chip, code, time} from "./format.js";

export const title = "Targets";
const LOGIN = "tunnel.login"; // not secret: a name for links

const codeLink = (target, login) =>
  `vscode://vscode-remote/ssh-remote+${login ? `${encodeURIComponent(login)}@` : ""}${encodeURIComponent(target)}.tunnel/`;

const tags = (all) => Object.entries(all).map(([name, value]) => chip(`${name}=${value}`));
const state = (t) => chip(t.state === "connected" ? "online" : t.state === "disconnected" ? "offline" : t.state, t.state === "connected" ? "good" : "");

// "web role=db": tags are the server's to look for, words are looked for in the names here.
function parse(filter) {
  const words = filter.split(/\s+/).filter(Boolean), query = {};
  for (const word of words.filter((w) => w.includes("="))) query[`tag.${word.slice(0, word.indexOf("="))}`] = word.slice(word.indexOf("=") + 1);
  return {query, names: words.filter((w) => !w.includes("="))};
}

export function open(view, {params, signal}) {
  const login = h("input", {name: "login", type: "text", autocomplete: "off", spellcheck: "false", value: sessionStorage.getItem(LOGIN) ?? ""});
  const list = table("Targets", [
    ["Target", (t) => h("strong", null, t.id)],
    ["State", state],
    ["Tags", (t) => tags(t.tags)],
    ["Sessions", (t) => h("a", {href: `#/sessions?target=${encodeURIComponent(t.id)}`}, String(t.sessions))],
    ["Node", (t) => t.node ?? "–"],
    ["Agent", (t) => t.version || "–"],
    ["Last seen", (t) => time(t.last_seen)],
    ["", (t) => [
      h("a", {class: "button", "data-target": t.id, href: codeLink(t.id, login.value), "aria-label": `Open ${t.id} in VS Code`}, "Open in VS Code"),
      h("a", {class: "button", href: `#/simulate?target=${encodeURIComponent(t.id)}`, "aria-label": `Who can reach ${t.id}`}, "Who can?")]],
  ]);
  const result = h("div", {class: "result"}), more = button("Show more", () => load(cursor)), count = h("p", {class: "count"});
  let cursor, loaded = [];

  function draw() {
    const {filter = "", online} = values(form), {names} = parse(filter);
    const shown = loaded.filter((t) => (!online || t.state === "connected") && names.every((name) => t.id.includes(name)));
    list.body.replaceChildren();
    shown.forEach(list.add);
    more.hidden = !cursor;
    count.textContent = `${shown.length} of ${loaded.length}${cursor ? " loaded so far" : ""}`;
    result.replaceChildren(shown.length ? list.element : empty(loaded.length ? "No target matches." : "No target that you may see."), count, more);
  }

  async function load(from) {
    const {query} = parse(values(form).filter ?? "");
    try {
      const page = await call("GET", "/v1/targets", {query: {...query, limit: 500, cursor: from}, signal});
      loaded = from ? [...loaded, ...page.targets] : page.targets;
      cursor = page.next_cursor;
      draw();
      announce(count.textContent);
    } catch (error) {
      if (!signal.aborted) result.replaceChildren(trouble(error, "the targets"));
    }
  }

  login.addEventListener("input", () => {
    sessionStorage.setItem(LOGIN, login.value.trim());
    for (const link of list.body.querySelectorAll("[data-target]")) link.href = codeLink(link.dataset.target, login.value.trim());
  });
  const form = h("form", {class: "filter", submit: (event) => {
    event.preventDefault();
    load();
  }}, field("Filter", {name: "filter", type: "search", value: params.get("filter") ?? ""}, "parts of names, tags as role=web"),
  field("Login for VS Code", login, h("span", null, "the links need ", code("tunnel-cli ssh-config"), " on this machine")),
  checkbox("online", "Online only", {change: draw}), h("button", {class: "main"}, "Apply"));
  view.append(form, result);
  load();
}
