// Follows the change stream (server-sent events), and stores each change once.
//
//     TIDINGS_KEY=… node stream.mjs DIRECTORY
import { setTimeout } from "node:timers/promises";
import { URL_BASE, headers, openStore } from "./tidings.mjs";

const store = openStore(process.argv[2]);

/** Yields the id and the data of each event after the last one; the data is empty where there is only a place. */
async function* events(last) {
  // Silence for a minute means a broken connection: the server sends a comment every few seconds.
  const abort = new AbortController();
  let alarm = globalThis.setTimeout(() => abort.abort(), 60_000);
  const answer = await fetch(`${URL_BASE}/v1/changes/stream`, {
    headers: { ...headers, ...(last && { "last-event-id": last }) }, // without it, the stream begins with the present
    signal: abort.signal,
  });
  if (!answer.ok) throw new Error(`${answer.status}: ${await answer.text()}`);
  let rest = "";
  let id = "";
  let data = [];
  for await (const part of answer.body.pipeThrough(new TextDecoderStream())) {
    globalThis.clearTimeout(alarm);
    alarm = globalThis.setTimeout(() => abort.abort(), 60_000);
    const lines = (rest + part).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      if (line.startsWith("id: ")) id = line.slice(4);
      else if (line.startsWith("data: ")) data.push(line.slice(6));
      else if (line === "" && id) { // an empty line ends an event
        yield [id, data.join("\n")];
        [id, data] = ["", []];
      }
    }
  }
}

for (;;) {
  try {
    for await (const [id, data] of events(store.getCursor("stream"))) {
      const change = data && JSON.parse(data);
      if (change && store.add(change)) console.log(`${id} ${change.type} ${change.data.recipient ?? ""}`);
      store.setCursor("stream", id);
    }
  } catch (error) {
    console.log(`connecting again in 2 s: ${error.message}`);
  }
  await setTimeout(2000);
}
