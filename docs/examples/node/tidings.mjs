// What the examples share: one request to the API, and a store that takes each change once.
import { mkdirSync, openSync, writeSync, fsyncSync, closeSync, renameSync, readFileSync, existsSync } from "node:fs";
import { dirname, join } from "node:path";

export const URL_BASE = process.env.TIDINGS_URL ?? "http://127.0.0.1:8081";
export const headers = { authorization: `Bearer ${process.env.TIDINGS_KEY ?? ""}`, "content-type": "application/json" };

/** Sends one request and returns its document. Throws an Error with `status` and `problem` (RFC 9457). */
export async function call(method, path, body) {
  const answer = await fetch(URL_BASE + path, { method, headers, body: body && JSON.stringify(body) });
  const document = await answer.json();
  if (answer.ok) return document;
  const retryAfter = Number(answer.headers.get("retry-after") ?? 5);
  throw Object.assign(new Error(document.detail ?? document.title), { status: answer.status, problem: document, retryAfter });
}

/** Files in a directory, so that the examples need nothing but Node. A real application uses its database. */
export function openStore(directory) {
  for (const name of ["changes", "cursors"]) mkdirSync(join(directory, name), { recursive: true });
  return {
    /** Stores a change; returns false if it was stored before. Nothing runs between the question and the answer. */
    add(change) {
      if (!/^[\w-]+$/.test(change.id)) throw new Error(`not an id: ${change.id}`);
      const name = join(directory, "changes", `${change.id}.json`);
      if (existsSync(name)) return false;
      write(name, JSON.stringify(change));
      return true;
    },
    getCursor(name) {
      const path = join(directory, "cursors", name);
      return existsSync(path) ? readFileSync(path, "utf8") : null;
    },
    setCursor(name, cursor) {
      write(join(directory, "cursors", name), cursor);
    },
  };
}

/** A whole file appears at once, by its new name, and is on the disk then: a crash leaves no half of it. */
function write(path, text) {
  const file = openSync(`${path}.new`, "w");
  writeSync(file, text);
  fsyncSync(file);
  closeSync(file);
  renameSync(`${path}.new`, path);
  const directory = openSync(dirname(path), "r");
  fsyncSync(directory);
  closeSync(directory);
}

/** Keeps the newest state of each recipient: changes may arrive in any order, and a smaller version is older. */
export function newest(states, change) {
  const { message, recipient, status, version } = change.data;
  if (!message || !recipient || version == null) return states;
  const key = `${message.id} ${recipient}`;
  if (!states.has(key) || states.get(key).version < version) states.set(key, { status, version });
  return states;
}
