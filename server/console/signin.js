// The form that asks who calls.
import {signIn} from "./api.js";
import {checkbox, field, h, newId, notice, values} from "./dom.js";

function ways(form) {
  const way = (value, text, checked) => {
    const id = newId();
    return h("div", {class: "check"}, h("input", {type: "radio", name: "kind", value, id, checked, change: () => show(value)}), h("label", {for: id}, text));
  };
  const hmac = h("div", null,
    field("Key id", {name: "keyId", required: true, autocomplete: "username"}),
    field("Secret", {name: "secret", type: "password", required: true}, "It signs each request here and is never sent."),
    h("details", null, h("summary", null, "Region and service"),
      field("Region", {name: "region", value: "default", required: true}), field("Service", {name: "service", value: "tunnel", required: true})));
  const token = h("div", {hidden: true}, field("Token", {name: "token", type: "password", required: true, disabled: true}, "A JWT, as your identity provider gives it."));
  const show = (kind) => {
    for (const [name, group] of [["hmac", hmac], ["token", token]]) {
      group.hidden = name !== kind;
      for (const input of group.querySelectorAll("input")) input.disabled = name !== kind;
    }
  };
  form.append(h("fieldset", null, h("legend", null, "Sign in with"), way("hmac", "an HMAC key", true), way("token", "a bearer token", false)), hmac, token);
}

// done(who) is called once somebody is signed in. why: what ended the time before; "": nothing.
export function openSignIn(main, done, why) {
  const wrong = h("div", null, why ? notice(why) : null), submit = h("button", {class: "main"}, "Sign in");
  const form = h("form", {class: "panel", submit: async (event) => {
    event.preventDefault();
    const {keep, ...credential} = values(form);
    submit.disabled = true;
    try {
      done(await signIn(credential, keep === "on"));
    } catch (error) {
      wrong.replaceChildren(notice(`Not signed in: ${error.message}`));
    }
    submit.disabled = false;
  }});
  ways(form);
  form.append(checkbox("keep", "Keep it in this tab until I sign out or close the tab"), wrong, h("div", {class: "actions"}, submit));
  main.replaceChildren(h("div", {class: "sign-in"}, h("h1", null, "Sign in"), form));
  form.querySelector("[name=keyId]").focus();
}
