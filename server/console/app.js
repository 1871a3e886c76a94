// Signs in, then shows the page that the address names: #/sessions?target=web-1.
import {kept, signIn, signOut} from "./api.js";
import {announce, h} from "./dom.js";
import {openSignIn} from "./signin.js";
import * as audit from "./audit.js";
import * as nodes from "./nodes.js";
import * as policies from "./policies.js";
import * as revocations from "./revocations.js";
import * as sessions from "./sessions.js";
import * as simulate from "./simulate.js";
import * as targets from "./targets.js";

// Each has a title and open(main, {params, signal, who}); signal ends what it began when another page is opened.
const pages = {targets, sessions, audit, policies, simulate, revocations, nodes};
const main = document.getElementById("main"), nav = document.querySelector("nav"), whoBox = document.querySelector(".who");
let who = null, leaving = new AbortController();

function show() {
  leaving.abort();
  leaving = new AbortController();
  const [name, search] = location.hash.replace(/^#\//, "").split("?");
  const page = Object.hasOwn(pages, name) ? name : "targets";
  for (const link of nav.querySelectorAll("a"))
    if (link.dataset.page === page) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  const {title, open} = pages[page];
  document.title = `${title} – tunnel`;
  const view = h("div");
  main.replaceChildren(h("h1", {tabindex: "-1"}, title), view);
  main.firstChild.focus();
  open(view, {params: new URLSearchParams(search), signal: leaving.signal, who});
}

function signedIn(someone) {
  who = someone;
  nav.hidden = whoBox.hidden = false;
  whoBox.firstElementChild.textContent = who.subject;
  whoBox.firstElementChild.title = [`by ${who.provider}`, who.credential, ...who.groups].filter(Boolean).join(", ");
  show();
  announce(`Signed in as ${who.subject}`);
}

function signedOut(why) {
  leaving.abort();
  who = null;
  signOut();
  nav.hidden = whoBox.hidden = true;
  document.title = "Sign in – tunnel";
  openSignIn(main, signedIn, why);
}

nav.firstElementChild.append(...Object.entries(pages).map(([name, {title}]) => h("li", null, h("a", {href: `#/${name}`, "data-page": name}, title))));
document.getElementById("sign-out").addEventListener("click", () => {
  signedOut("");
  announce("Signed out; the credential is forgotten");
});
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
addEventListener("hashchange", () => who && show());
addEventListener("refused", ({detail}) => who && signedOut(`The server does not take the credential any more: ${detail}`));

const before = kept();
if (before) signIn(before, true).then(signedIn, (error) => signedOut(error.message));
else signedOut("");
