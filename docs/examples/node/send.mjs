// Checks who may get mail, sends it, and announces what was sent.
//
//     TIDINGS_KEY=… node send.mjs SOURCE SENDER RECIPIENT…
import { randomBytes } from "node:crypto";
import { call } from "./tidings.mjs";

/** Stands in for the provider's API, and returns the id that its answer contains. Put your own call here. */
async function sendByProvider(sender, recipients) {
  console.log(`sent from ${sender} to ${recipients.join(", ")}`);
  return randomBytes(20).toString("base64url");
}

const [source, sender, ...recipients] = process.argv.slice(2);
// One request for all recipients, up to 10,000. The results are in the order of the addresses.
const { results } = await call("POST", "/v1/suppressions/check", { addresses: recipients, type: "transactional" });
for (const { address, reason } of results.filter((result) => result.suppressed)) {
  console.log(`not sent to ${address}: ${reason}`);
}
const allowed = results.filter((result) => !result.suppressed).map((result) => result.address);
if (allowed.length) {
  const requestId = await sendByProvider(sender, allowed);
  // Announced sends of which the provider reports nothing raise an alert. Repeating an announcement does no harm,
  // so repeat it when the answer was lost.
  const message = await call("POST", "/v1/messages", { source, request_id: requestId, sender, recipients: allowed });
  console.log(`announced ${message.id}`);
}
