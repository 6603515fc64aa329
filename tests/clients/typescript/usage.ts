// A program as a user of the generated types writes it. It prints what it found, as JSON.
import createClient from "openapi-fetch";
import type { components, paths, webhooks } from "./schema.js";

declare const process: { argv: string[] };

type Bounced = webhooks["message.bounced"]["post"]["requestBody"]["content"]["application/json"];
type AnyChange = Bounced | components["schemas"]["AlertFiringChange"] | components["schemas"]["SuppressionAddedChange"];

// The type of a change decides what its content is.
function about(change: AnyChange): string | null {
  switch (change.type) {
    case "message.bounced":
      return change.data.event?.classification ?? null;
    case "alert.firing":
      return change.data.alert.rule;
    case "suppression.added":
      return change.data.suppression.address ?? null;
  }
}

const [baseUrl, key] = process.argv.slice(2) as [string, string];
const client = createClient<paths>({ baseUrl, headers: { Authorization: `Bearer ${key}` } });
const sent = { source: "main", sender: "shop@example.com", recipients: ["ann@example.net"] };
const announced = await client.POST("/v1/messages/bulk", { body: { messages: [{ ...sent, request_id: "r1" }] } });
const listed = await client.GET("/v1/messages", { params: { query: { recipient: "ann@example.net", status: "submitted" } } });
const refused = await client.POST("/v1/messages", { body: { ...sent, source: "absent", request_id: "r1" } });
const first = listed.data?.items[0];

// @ts-expect-error: a status that does not exist
await client.GET("/v1/messages", { params: { query: { status: "lost" } } });
// @ts-expect-error: a field that is not there
first?.colour;

const status: components["schemas"]["Recipient"]["status"] | undefined = first?.recipients[0]?.status;
const change: Bounced = JSON.parse(process.argv[4] as string);
console.log(
  JSON.stringify({
    announced: announced.data?.results[0]?.id,
    listed: first?.id,
    status,
    refused: refused.error?.errors?.["source"],
    about: about(change),
  }),
);
