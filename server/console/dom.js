// The one place where elements are made. What comes from the server, or from a person, becomes text and never markup.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return element;
}

// h("button", {type: "button", click: f}, "Text", otherElement): functions listen, true is an attribute without a value.
export const h = (name, attributes, ...children) => fill(document.createElement(name), attributes, children);
export const s = (name, attributes, ...children) => fill(document.createElementNS(SVG, name), attributes, children);

export const button = (text, click, attributes) => h("button", {type: "button", click, ...attributes}, text);

let serial = 0;
export const newId = () => `e${++serial}`;

// A label with what it is of. kind: an attribute object of an input, or an element.
export function field(label, control, hint) {
  const element = control instanceof Element ? control : h("input", {type: "text", autocomplete: "off", spellcheck: "false", ...control});
  element.id ||= newId();
  const note = hint ? h("small", {id: newId()}, hint) : null;
  if (note) element.setAttribute("aria-describedby", note.id);
  return h("div", {class: "field"}, h("label", {for: element.id}, label), element, note);
}

export const select = (name, options, chosen) =>
  h("select", {name}, options.map(([value, text]) => h("option", {value, selected: value === chosen}, text)));

export const checkbox = (name, label, attributes) => {
  const id = newId();
  return h("div", {class: "check"}, h("input", {type: "checkbox", id, name, ...attributes}), h("label", {for: id}, label));
};

export const values = (form) =>
  Object.fromEntries([...new FormData(form)].map(([name, value]) => [name, typeof value === "string" ? value.trim() : ""]));

// columns: [title, (row) => what stands there]. Roles are said, since narrow screens show a row as a card.
export function table(caption, columns) {
  const body = h("tbody", {role: "rowgroup"});
  const cells = (row) => columns.map(([title, cell]) => h("td", {role: "cell", "data-label": title}, h("div", null, cell(row))));
  const element = h("table", {role: "table"}, h("caption", {class: "unseen"}, caption),
    h("thead", {role: "rowgroup"}, h("tr", {role: "row"}, columns.map(([title]) => h("th", {role: "columnheader", scope: "col"}, title)))), body);
  const add = (row) => {
    const line = h("tr", {role: "row"}, cells(row));
    body.append(line);
    return line;
  };
  return {element: h("div", {class: "wide"}, element), body, add};
}

export const empty = (text) => h("p", {class: "empty"}, text);
export const notice = (text, kind = "bad") => h("div", {class: `notice ${kind}`, role: kind === "bad" ? "alert" : "status"}, text);

export function announce(text) {
  document.getElementById("live").textContent = text;
}

// What went wrong, in words of a person. what: "the audit log".
export function trouble(error, what) {
  if (error.status === 403) return notice([h("strong", null, `You may not see or do this: ${what}. `), error.message], "bad");
  return notice([h("strong", null, `${what}: `), error.message, error.requestId ? h("small", null, ` (request ${error.requestId})`) : null]);
}

// A question that has to be answered. fields: elements of the form; run(values) does it, and what it throws is shown
// while the dialog stays open. Resolves to what run returned, or undefined when it was cancelled.
export function ask({title, text, fields = [], action, danger = false, run}) {
  return new Promise((resolve) => {
    let result;
    const heading = h("h2", {id: newId()}, title), wrong = h("div"), doIt = h("button", {class: danger ? "danger" : "main"}, action);
    const cancel = button("Cancel", () => dialog.close()); // first, so it has the focus
    const form = h("form", {submit: async (event) => {
      event.preventDefault();
      doIt.disabled = true;
      wrong.replaceChildren();
      try {
        result = (await run(values(form))) ?? true;
        dialog.close();
      } catch (error) {
        wrong.replaceChildren(trouble(error, action));
      }
      doIt.disabled = false;
    }}, heading, text ? h("p", null, text) : null, fields, wrong, h("div", {class: "actions"}, cancel, doIt));
    const dialog = h("dialog", {"aria-labelledby": heading.id, close: () => {
      dialog.remove();
      if (document.activeElement === document.body) document.getElementById("main").focus();
      resolve(result);
    }}, form);
    document.body.append(dialog);
    dialog.showModal();
  });
}
