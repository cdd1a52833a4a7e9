// Asks the service: JSON in and out, its errors as Refusal, its event streams, its pictures.

const KEY = "dogbooth.key";
const ENDS = new Set(["finished", "succeeded", "failed", "cancelled"]);

export class Refusal extends Error {
  /** What the service said no to; status 0: it did not answer. */
  constructor(status, code, message, details = {}) {
    super(message);
    Object.assign(this, { status, code, details });
  }
}

export const key = () => sessionStorage.getItem(KEY) ?? "";

export function setKey(value) {
  if (value) sessionStorage.setItem(KEY, value);
  else sessionStorage.removeItem(KEY);
}

async function send(path, options = {}) {
  const headers = new Headers(options.headers);
  if (key()) headers.set("Authorization", `Bearer ${key()}`);
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refusal(0, "unreachable", error.message);
  }
  if (!response.ok) {
    const body = await response.json().catch(() => null);
    throw refusal(response.status, body, response.headers.get("Retry-After"));
  }
  return response;
}

function refusal(status, body, retryAfter) {
  const error = body?.error ?? { code: "internal", message: "" };
  const refused = new Refusal(status, error.code, error.message, error);
  refused.retryAfter = Number(retryAfter) || null;
  if (status === 401) document.dispatchEvent(new CustomEvent("key-needed"));
  return refused;
}

/** The answer's JSON, null where it has none. `body` is plain data or a FormData. */
export async function ask(method, path, body) {
  const options = { method };
  if (body instanceof FormData) options.body = body;
  else if (body !== undefined) {
    options.body = JSON.stringify(body);
    options.headers = { "Content-Type": "application/json" };
  }
  const response = await send(path, options);
  return response.status === 204 ? null : response.json();
}

/** Posts a large form and tells `move(share)` how much of it is sent, which `fetch` does not know. */
export function upload(path, body, move, signal) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", path);
    request.responseType = "json";
    if (key()) request.setRequestHeader("Authorization", `Bearer ${key()}`);
    request.upload.addEventListener("progress", ({ loaded, total }) => move(loaded / total));
    request.addEventListener("load", () => {
      const { status, response } = request;
      if (status < 300) resolve(response);
      else reject(refusal(status, response, request.getResponseHeader("Retry-After")));
    });
    request.addEventListener("error", () => reject(new Refusal(0, "unreachable", "")));
    request.addEventListener("abort", () => reject(new DOMException("stopped", "AbortError")));
    signal.addEventListener("abort", () => request.abort());
    request.send(body);
  });
}

/**
 * Calls `hear(name, data)` for every event up to the final one; comes back after a lost line.
 * A training that was resumed tells of an earlier end too: only the last event of a stream ends it.
 */
export async function listen(path, hear, signal) {
  let last = null;
  let ended = false;
  for (let tries = 0; !signal?.aborted; tries += 1) {
    try {
      const headers = { Accept: "text/event-stream", ...(last && { "Last-Event-ID": last }) };
      const response = await send(path, { headers, signal, cache: "no-store" });
      if (response.status === 204) return;
      for await (const event of events(response.body)) {
        tries = 0;
        last = event.id ?? last;
        ended = ENDS.has(event.name);
        hear(event.name, event.data);
      }
      if (ended) return;
    } catch (error) {
      if (signal?.aborted) return;
      const passing = !(error instanceof Refusal) || [0, 429, 503].includes(error.status);
      if (!passing) throw error;
    }
    await new Promise((wake) => setTimeout(wake, Math.min(500 * 2 ** tries, 8000)));
  }
}

/** Server-Sent Events by the HTML standard, as far as the service sends them. */
async function* events(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    text += value.replaceAll("\r", "");
    const blocks = text.split("\n\n");
    text = blocks.pop();
    for (const block of blocks) {
      const event = {};
      const lines = [];
      for (const line of block.split("\n")) {
        const [, name, content] = line.match(/^(\w*): ?(.*)$/) ?? [];
        if (name === "data") lines.push(content);
        else if (name === "event") event.name = content;
        else if (name === "id") event.id = content;
      }
      if (lines.length) yield { ...event, data: JSON.parse(lines.join("\n")) };
    }
  }
}

/** Puts the picture at `path` into `image`: an <img> by itself could not send the key. */
export async function show(image, path) {
  const response = await send(path);
  const url = URL.createObjectURL(await response.blob());
  const before = image.dataset.blob;
  image.src = image.dataset.blob = url;
  if (before) URL.revokeObjectURL(before);
  return url;
}

/** Frees what `show` put into the pictures within `element`. */
export function release(element) {
  for (const image of element.querySelectorAll("img[data-blob]")) {
    URL.revokeObjectURL(image.dataset.blob);
  }
}
