// The policies, and an editor that shows what is wrong where it stands.
import {call} from "./api.js";
import {announce, ask, button, empty, field, h, newId, notice, table, trouble} from "./dom.js";
import {lineOf} from "./place.js";
import {chip} from "./format.js";

export const title = "Policies";
const NEW = {Version: "2026-01-01", Statement: [{Sid: "", Effect: "Allow", Principal: {Group: "operators"}, Action: ["tunnel:StartSession", "tunnel:OpenSsh"], Resource: "target/*"}]};
const json = (document) => JSON.stringify(document, null, 2);

function goTo(area, line) {
  const lines = area.value.split("\n"), start = lines.slice(0, line - 1).reduce((n, text) => n + text.length + 1, 0);
  area.focus();
  area.setSelectionRange(start, start + lines[line - 1].length);
  area.scrollTop = (area.scrollHeight / lines.length) * Math.max(0, line - 4);
}

function mistakeList(area, error) {
  const item = ({path, text}) => {
    const line = lineOf(area.value, path);
    return h("li", null, button(`line ${line}`, () => goTo(area, line), {class: "quiet"}), " ", h("code", null, path), `: ${text}`);
  };
  const more = error.mistakeCount - error.mistakes.length;
  return notice([h("strong", null, error.mistakeCount === 1 ? "1 mistake; nothing was saved." : `${error.mistakeCount} mistakes; nothing was saved.`),
    h("ol", null, error.mistakes.map(item)), more > 0 ? `and ${more} more` : null]);
}

function editor(name, text, readOnly, saved, close) {
  const wrong = h("div", {id: newId()}), heading = h("h2", {tabindex: "-1"}, name ? `Policy ${name}` : "New policy");
  const nameBox = h("input", {type: "text", name: "name", required: true, pattern: "[A-Za-z0-9._\\-]+", title: "letters, digits, dots, dashes", autocomplete: "off", value: name, readonly: name !== ""});
  const area = h("textarea", {rows: "22", spellcheck: "false", autocapitalize: "off", "aria-describedby": wrong.id, readonly: readOnly}, text);
  const save = h("button", {class: "main"}, "Save");
  const show = (what, invalid) => {
    wrong.replaceChildren(what);
    area.toggleAttribute("aria-invalid", invalid);
  };
  const form = h("form", {class: "panel", submit: async (event) => {
    event.preventDefault();
    let document;
    try {
      document = JSON.parse(area.value);
    } catch (error) {
      show(notice(`This is not JSON: ${error.message}`), true);
      return;
    }
    save.disabled = true;
    try {
      await call("PUT", `/v1/policies/${nameBox.value}`, {body: document});
      saved(nameBox.value);
    } catch (error) {
      show(error.mistakes?.length ? mistakeList(area, error) : trouble(error, "saving the policy"), Boolean(error.mistakes?.length));
    }
    save.disabled = false;
  }}, heading, field("Name", nameBox), field("Document", area, readOnly ? "From a file of the server's policy_dir: it is changed there." : "Statements as in docs/policy.md."),
  wrong, h("div", {class: "actions"}, button("Close", close), readOnly ? null : save));
  return {form, heading};
}

export function open(view, {signal}) {
  const said = h("div"), result = h("div", {class: "result"}), place = h("div");
  const list = table("Policies", [
    ["Policy", (p) => h("strong", null, p.name)],
    ["From", (p) => chip(p.source === "file" ? "file of the server" : "store")],
    ["", (p) => [button(p.source === "file" ? "View" : "Edit", () => edit(p), {"aria-label": `${p.source === "file" ? "View" : "Edit"} ${p.name}`}),
      p.source === "store" ? button("Delete", () => remove(p.name), {class: "danger", "aria-label": `Delete ${p.name}`}) : null]],
  ]);

  function show(name, text, readOnly) {
    const {form, heading} = editor(name, text, readOnly, (saved) => {
      place.replaceChildren();
      said.replaceChildren(notice(`Policy ${saved} is in force; live sessions were judged again.`, "good"));
      load();
      document.getElementById("main").focus();
    }, () => place.replaceChildren());
    said.replaceChildren();
    place.replaceChildren(form);
    heading.focus();
  }

  async function edit(p) {
    try {
      show(p.name, json(await call("GET", `/v1/policies/${p.name}`, {signal})), p.source === "file");
    } catch (error) {
      if (!signal.aborted) place.replaceChildren(trouble(error, `policy ${p.name}`));
    }
  }

  async function remove(name) {
    const did = await ask({title: `Delete policy ${name}?`, text: "Sessions that no other statement allows end at once.", action: "Delete", danger: true,
      run: () => call("DELETE", `/v1/policies/${name}`)});
    if (!did) return;
    announce(`Policy ${name} was deleted`);
    place.replaceChildren();
    load();
  }

  async function load() {
    try {
      const {policies} = await call("GET", "/v1/policies", {signal});
      list.body.replaceChildren();
      policies.forEach(list.add);
      result.replaceChildren(policies.length ? list.element : empty("No policy that you may read."));
    } catch (error) {
      if (!signal.aborted) result.replaceChildren(trouble(error, "the policies"));
    }
  }

  view.append(h("div", {class: "filter"}, button("New policy", () => show("", json(NEW), false), {class: "main"}), h("a", {class: "button", href: "#/simulate"}, "Simulate")),
    said, result, place);
  load();
}
