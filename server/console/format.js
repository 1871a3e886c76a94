// How numbers and times are written.
import {h} from "./dom.js";

const two = (n) => String(n).padStart(2, "0");

// The browser's time, by year, month, day; the server's as a tip.
export function time(iso) {
  if (!iso) return "–";
  const t = new Date(iso);
  return h("time", {datetime: iso, title: iso},
    `${t.getFullYear()}-${two(t.getMonth() + 1)}-${two(t.getDate())} ${two(t.getHours())}:${two(t.getMinutes())}:${two(t.getSeconds())}`);
}

export function bytes(n) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let i = 0;
  for (; n >= 999.5 && i < units.length - 1; i++) n /= 1000;
  return `${i === 0 || n >= 100 ? Math.round(n) : n.toPrecision(2)} ${units[i]}`;
}

export const rate = (n) => `${bytes(n)}/s`;
export const chip = (text, kind = "") => h("span", {class: `chip ${kind}`}, text);
export const code = (text) => h("code", null, text);
