// Live sessions: their throughput, and their end.
import {call} from "./api.js";
import {announce, ask, button, empty, field, h, select, table, trouble, values} from "./dom.js";
import {Rates, SAMPLES, chart} from "./chart.js";
import {bytes, chip, rate, time} from "./format.js";
import {revoke} from "./revocations.js";

export const title = "Sessions";
const EVERY_MS = 2000, LIMIT = 200;

const what = (x) => (x.kind === "ssh" ? `ssh as ${x.login}` : `tcp to ${x.allow.join(", ")}`);
const ends = (x) => (x.attached.client && x.attached.target ? null
  : chip(x.attached.client ? "target is away" : x.attached.target ? "client is away" : "both ends away", "warn"));
const stateOf = (x) => [chip(x.state, x.state === "active" ? "good" : ""), x.attached ? ends(x) : null, x.end ? ` ${x.end.code} ${x.end.text}` : null];

function terminate(x, done) {
  return ask({title: `Terminate ${x.id}?`, text: `${x.principal}, ${what(x)} on ${x.target}. What runs in it is hung up.`, action: "Terminate", danger: true,
    run: () => call("DELETE", `/v1/sessions/${x.id}`)}).then((did) => {
    if (!did) return;
    announce(`Session ${x.id} was terminated`);
    done();
  });
}

// A row lives as long as its session is shown, so what has the focus keeps it.
function rows(list, done) {
  const known = new Map();
  const make = (x) => {
    const drawing = chart(true), parts = {state: h("div"), rate: h("span"), rates: new Rates(), draw: drawing.draw};
    const alive = x.state !== "ended";
    parts.line = list.add({x, state: parts.state, rate: h("div", {class: "rate"}, drawing.element, parts.rate), actions: alive ? [
      button("Terminate", () => terminate(x, done), {class: "danger", "aria-label": `Terminate ${x.id}`}),
      button("Revoke …", () => revoke({session: x.id, principal: x.principal, credential: x.credential}).then((did) => did && done()),
        {"aria-label": `Revoke who has ${x.id}`})] : null});
    known.set(x.id, parts);
    return parts;
  };
  return {known, update(sessions, now) {
    const seen = new Set(sessions.map((x) => x.id));
    for (const [id, parts] of known)
      if (!seen.has(id)) {
        if (parts.line.contains(document.activeElement)) document.getElementById("main").focus();
        parts.line.remove();
        known.delete(id);
      }
    for (const x of sessions) {
      const parts = known.get(x.id) ?? make(x);
      parts.rates.add(x.bytes, now);
      parts.draw(parts.rates);
      const {up, down} = parts.rates.now;
      parts.rate.replaceChildren(...(x.bytes ? [`↑ ${rate(up)} ↓ ${rate(down)}`, h("br"), `${bytes(x.bytes.up + x.bytes.down)} in all`]
        : x.state === "active" ? [`counted on ${x.node}`] : []));
      parts.state.replaceChildren(...stateOf(x).filter(Boolean));
    }
  }};
}

export function open(view, {params, signal}) {
  const total = new Rates(), big = chart(false), sum = h("figcaption"), result = h("div", {class: "result"}), count = h("p", {class: "count"});
  const list = table("Sessions", [
    ["Session", ({x}) => [h("strong", null, x.id), h("br"), h("a", {href: `#/audit?session=${x.id}`}, "audit")]],
    ["Who", ({x}) => [x.principal, x.credential ? [h("br"), h("small", null, x.credential)] : null]],
    ["Target", ({x}) => [x.target, h("br"), h("small", null, what(x))]],
    ["State", ({state}) => state],
    ["Throughput", ({rate: r}) => r],
    ["Began, ends", ({x}) => [time(x.created_at), h("br"), time(x.ended_at ?? x.expires_at), x.reason ? [h("br"), h("small", null, x.reason)] : null]],
    ["", ({actions}) => actions],
  ]);
  let timer, paused = false, asked = 0, drawn = 0;

  function draw({sessions, next_cursor: more}) {
    const now = performance.now() / 1000;
    lines.update(sessions, now);
    const rates = [...lines.known.values()].map((p) => p.rates.now);
    if (drawn++) total.push(rates.reduce((n, r) => n + r.up, 0), rates.reduce((n, r) => n + r.down, 0)); // a rate takes two looks
    big.draw(total);
    sum.replaceChildren(h("span", {class: "up"}, `↑ ${rate(total.now.up)} to targets`), " ", h("span", {class: "down"}, `↓ ${rate(total.now.down)} back`));
    count.textContent = `${sessions.length} shown${more ? "; there are more: filter by target or principal" : ""}`;
    if (!sessions.length) result.replaceChildren(empty("No session that you may see."), count);
    else if (!result.contains(list.element)) result.replaceChildren(list.element, count);
  }

  async function load() {
    clearTimeout(timer);
    const mine = ++asked;
    try {
      const page = await call("GET", "/v1/sessions", {query: {...values(form), limit: LIMIT}, signal});
      if (mine === asked && !signal.aborted) draw(page);
    } catch (error) {
      if (!signal.aborted) result.replaceChildren(trouble(error, "the sessions"));
    }
    if (!paused && !signal.aborted && mine === asked) timer = setTimeout(load, document.hidden ? 5 * EVERY_MS : EVERY_MS);
  }

  const lines = rows(list, load);
  const pause = button("Pause", () => {
    paused = !paused;
    pause.textContent = paused ? "Go on" : "Pause";
    pause.setAttribute("aria-pressed", String(paused));
    if (paused) clearTimeout(timer);
    else load();
  }, {"aria-pressed": "false"});
  const form = h("form", {class: "filter", submit: (event) => {
    event.preventDefault();
    load();
  }}, field("State", select("state", [["active", "active"], ["starting", "starting"], ["ended", "ended"], ["", "all"]], "active")),
  field("Target", {name: "target", value: params.get("target") ?? ""}), field("Principal", {name: "principal", value: params.get("principal") ?? ""}),
  h("button", {class: "main"}, "Apply"), pause);
  view.append(h("figure", {class: "panel"}, big.element, h("p", {class: "axis"}, h("span", null, `${(SAMPLES * EVERY_MS) / 60000} minutes ago`), h("span", null, "now")), sum),
    form, result);
  signal.addEventListener("abort", () => clearTimeout(timer));
  load();
}
