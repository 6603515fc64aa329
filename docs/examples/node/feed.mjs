// Reads the change feed, and stores each change once.
//
//     TIDINGS_KEY=… node feed.mjs DIRECTORY
import { setTimeout } from "node:timers/promises";
import { call, openStore } from "./tidings.mjs";

const store = openStore(process.argv[2]);
for (;;) {
  const query = new URLSearchParams({ types: "message.*,suppression.*", limit: "500", wait: "25" });
  const cursor = store.getCursor("main");
  if (cursor) query.set("cursor", cursor);
  let page;
  try {
    page = await call("GET", `/v1/changes?${query}`);
  } catch (error) {
    if (error.status === 410) { // older than what is kept: start with the oldest, and look the rest up by hand
      console.log(`changes were missed: ${error.problem.detail}`);
      store.setCursor("main", error.problem.oldest_cursor);
      continue;
    }
    if (error.status && ![429, 500, 502, 503, 504].includes(error.status)) throw error;
    console.log(`tried again: ${error.message}`); // the cursor is unchanged, so nothing is lost
    await setTimeout((error.retryAfter ?? 5) * 1000);
    continue;
  }
  for (const change of page.items) {
    if (store.add(change)) console.log(`${change.id} ${change.type} ${change.data.recipient ?? ""}`);
  }
  // After the changes: a crash in between reads the page again, and its ids are known then.
  store.setCursor("main", page.next_cursor);
}
