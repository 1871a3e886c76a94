// The servers that share the store.
import {call} from "./api.js";
import {empty, h, table, trouble} from "./dom.js";
import {chip, time} from "./format.js";

export const title = "Nodes";

export async function open(view, {signal}) {
  const list = table("Nodes", [
    ["Node", (n) => h("strong", null, n.name)],
    ["State", (n) => (n.draining ? chip("draining", "warn") : chip("serving", "good"))],
    ["Agents", (n) => String(n.agents)],
    ["Sessions", (n) => String(n.sessions)],
    ["Address", (n) => n.url],
    ["Version", (n) => n.version],
    ["Started", (n) => time(n.started_at)],
  ]);
  try {
    const {nodes} = await call("GET", "/v1/nodes", {signal});
    nodes.forEach(list.add);
    view.append(nodes.length ? list.element : empty("This server knows of no nodes."));
  } catch (error) {
    if (!signal.aborted) view.append(trouble(error, "the nodes"));
  }
}
