// Bytes per second over time, to the target and back, as a drawing that says in words what it shows.
import {h, s} from "./dom.js";
import {bytes, rate} from "./format.js";

export const SAMPLES = 90;

// A ring of the last rates. add(counters, seconds): what was counted in all; a counter that went back began anew.
export class Rates {
  up = [];
  down = [];
  #last = null;

  add(counters, now) {
    const last = this.#last;
    this.#last = counters && {...counters, now};
    if (!last || !counters || now <= last.now) return;
    const change = (key) => Math.max(0, counters[key] - last[key]) / (now - last.now);
    this.push(change("up"), change("down"));
  }

  push(up, down) {
    this.up = [...this.up, up].slice(-SAMPLES);
    this.down = [...this.down, down].slice(-SAMPLES);
  }

  get now() {
    return {up: this.up.at(-1) ?? 0, down: this.down.at(-1) ?? 0};
  }
}

// The newest stands at the right edge; what was not measured is not drawn.
function line(numbers, most, closed) {
  const x = (i) => (100 - ((numbers.length - 1 - i) * 100) / (SAMPLES - 1)).toFixed(2);
  const points = numbers.map((n, i) => `${x(i)},${(98 - (94 * n) / most).toFixed(2)}`).join("L");
  if (!points) return "";
  return closed ? `M${x(0)},98L${points}L100,98Z` : `M${points}`;
}

// small: beside a row, without axes.
export function chart(small) {
  const area = s("path", {class: "area"}), down = s("path", {class: "down"}), up = s("path", {class: "up"}), title = s("title");
  const svg = s("svg", {viewBox: "0 0 100 100", preserveAspectRatio: "none", role: "img"}, title, area, down, up);
  const top = h("span", {class: "top"}), element = h("div", {class: small ? "chart small" : "chart"}, svg, small ? null : top);
  const draw = (rates) => {
    const most = Math.max(...rates.up, ...rates.down, 1000), {up: u, down: d} = rates.now;
    area.setAttribute("d", line(rates.down, most, true));
    down.setAttribute("d", line(rates.down, most));
    up.setAttribute("d", line(rates.up, most));
    title.textContent = `now ${rate(u)} to the target, ${rate(d)} back; at most ${bytes(most)} per second in the time shown`;
    top.textContent = rate(most);
  };
  return {element, draw};
}
