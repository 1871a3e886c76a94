// Where in a JSON text a path such as Statement[2].Condition.StringEquals stands.

// Walks a text that JSON.parse has taken; visit(path, offset) for each member and element.
function walk(text, visit) {
  let at = 0;
  const space = () => { while (/\s/.test(text[at] ?? "")) at++; };
  const string = () => {
    const start = at++;
    while (text[at] !== '"') at += text[at] === "\\" ? 2 : 1;
    return JSON.parse(text.slice(start, ++at));
  };
  const members = (close, one) => {
    at++;
    for (space(); text[at] !== close; space()) {
      one();
      space();
      if (text[at] === ",") at++;
    }
    at++;
  };
  const value = (path) => {
    space();
    let i = 0;
    if (text[at] === "{") members("}", () => {
      const start = at, key = string(), inner = path ? `${path}.${key}` : key;
      visit(inner, start);
      space();
      at++;
      value(inner);
    });
    else if (text[at] === "[") members("]", () => {
      const inner = `${path}[${i++}]`;
      visit(inner, at);
      value(inner);
    });
    else if (text[at] === '"') string();
    else while (/[^\s,\]}]/.test(text[at] ?? " ")) at++;
  };
  value("");
}

// The line, from 1, of the path or of as much of it as there is: what is missing is missing there.
export function lineOf(text, path) {
  let best = "", offset = 0;
  walk(text, (found, at) => {
    const rest = path.slice(found.length);
    if (path.startsWith(found) && (rest === "" || rest[0] === "." || rest[0] === "[") && found.length > best.length) {
      best = found;
      offset = at;
    }
  });
  return text.slice(0, offset).split("\n").length;
}
