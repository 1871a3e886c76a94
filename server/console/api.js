// Who calls, and the calls. The secret of an HMAC key becomes a key of WebCrypto that cannot be read back and signs here; it
// is never sent. Nothing is kept but in this page's memory, or, if that was wished, in the tab's sessionStorage.

const KEPT = "tunnel.credential";
const text = new TextEncoder();
let caller = null; // {kind: "token", token} or {kind: "hmac", keyId, region, service, key}

export class Problem extends Error {
  constructor(status, body) {
    super(body.detail ?? `the server answered ${status}`);
    this.status = status;
    this.code = body.code;
    this.requestId = body.request_id;
    this.mistakes = body.mistakes ?? [];
    this.mistakeCount = body.mistake_count ?? 0;
  }
}

const hex = (buffer) => [...new Uint8Array(buffer)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
const sha256 = async (data) => hex(await crypto.subtle.digest("SHA-256", text.encode(data)));
const hmacKey = (bytes) => crypto.subtle.importKey("raw", bytes, {name: "HMAC", hash: "SHA-256"}, false, ["sign"]);
const mac = async (key, data) => crypto.subtle.sign("HMAC", key, text.encode(data));
const encode = (value) => encodeURIComponent(value).replace(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`);

export const queryText = (query) =>
  Object.entries(query).filter(([, value]) => value !== "" && value !== null && value !== undefined)
    .map(([name, value]) => [encode(name), encode(value)])
    .sort((a, b) => (a[0] < b[0] || (a[0] === b[0] && a[1] < b[1]) ? -1 : 1))
    .map((pair) => pair.join("=")).join("&");

async function take(credential) {
  if (credential.kind === "token") return credential;
  const {keyId, secret, region, service} = credential;
  return {kind: "hmac", keyId, region, service, key: await hmacKey(text.encode(`AWS4${secret}`))};
}

// AWS Signature Version 4, as docs/man/tunnel-server.8 has it. Of two equal requests within a second the nonce makes two.
async function sign(method, path, query, body) {
  const time = new Date().toISOString().replace(/[-:]|\.\d+/g, "");
  const nonce = hex(crypto.getRandomValues(new Uint8Array(16)));
  const sent = {"x-amz-content-sha256": await sha256(body), "x-amz-date": time, "x-tunnel-nonce": nonce};
  const signed = {host: location.host, ...sent};
  const names = Object.keys(signed).join(";");
  const canonical = [method, path.split("/").map(encode).join("/"), query, ...Object.entries(signed).map(([name, value]) => `${name}:${value}`),
    "", names, sent["x-amz-content-sha256"]].join("\n");
  const scope = [time.slice(0, 8), caller.region, caller.service, "aws4_request"];
  let key = caller.key;
  for (const part of scope) key = await hmacKey(await mac(key, part));
  const signature = hex(await mac(key, ["AWS4-HMAC-SHA256", time, scope.join("/"), await sha256(canonical)].join("\n")));
  return {...sent, authorization:
    `AWS4-HMAC-SHA256 Credential=${caller.keyId}/${scope.join("/")}, SignedHeaders=${names}, Signature=${signature}`};
}

// method and path as in PROTOCOL.md; the answer's JSON, null for 204. Throws a Problem.
export async function call(method, path, {query = {}, body, signal} = {}) {
  const search = queryText(query), content = body === undefined ? "" : JSON.stringify(body);
  const headers = caller.kind === "token" ? {authorization: `Bearer ${caller.token}`} : await sign(method, path, search, content);
  if (content) headers["content-type"] = "application/json";
  let response, answer;
  try {
    response = await fetch(path + (search && `?${search}`),
      {method, headers, body: content || undefined, signal, credentials: "omit", cache: "no-store", redirect: "error"});
    answer = response.status === 204 ? null : await response.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, {detail: response ? `the answer is not the server's (${response.status})` : "the server cannot be reached"});
  }
  if (response.ok) return answer;
  if (response.status === 401) dispatchEvent(new CustomEvent("refused", {detail: answer.detail}));
  throw new Problem(response.status, answer);
}

// Who that is; throws a Problem, and then nobody is signed in.
export async function signIn(credential, keep) {
  caller = await take(credential);
  try {
    const who = await call("GET", "/v1/whoami");
    if (keep) sessionStorage.setItem(KEPT, JSON.stringify(credential));
    return who;
  } catch (error) {
    signOut();
    throw error;
  }
}

export function kept() {
  return JSON.parse(sessionStorage.getItem(KEPT) ?? "null");
}

export function signOut() {
  caller = null;
  sessionStorage.clear();
}
