// Bytes per second over time, to the target and back, as a drawing that says in words what it shows.
import {h, s} from "./dom.js";
import {bytes, rate} from "./format.js";

export const SAMPLES = 90;

// A ring of the last rates. add(counters, seconds): what was counted in all; a counter that went back began anew.
export class Rates {
  up = Array(SAMPLES).fill(0);
  down = Array(SAMPLES).fill(0);
  #last = null;

  add(counters, now) {
    const last = this.#last;
    this.#last = counters && {...counters, now};
    const over = last && counters && now > last.now ? now - last.now : 0;
    const change = (key) => (over && counters[key] >= last[key] ? (counters[key] - last[key]) / over : 0);
    this.push(change("up"), change("down"));
  }

  push(up, down) {
    this.up = [...this.up.slice(1), up];
    this.down = [...this.down.slice(1), down];
  }

  get now() {
    return {up: this.up.at(-1), down: this.down.at(-1)};
  }
}

function line(numbers, most, closed) {
  const at = (n, i) => `${((i * 100) / (SAMPLES - 1)).toFixed(2)},${(98 - (94 * n) / most).toFixed(2)}`;
  return closed ? `M0,98L${numbers.map(at).join("L")}L100,98Z` : `M${numbers.map(at).join("L")}`;
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
