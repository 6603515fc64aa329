// Receives webhooks: verifies the signature, stores each change once, then answers.
//
//     WEBHOOK_SECRETS='whsec_… whpk_…' node webhooks.mjs PORT DIRECTORY
//
// `whsec_…` is the secret of a subscription with the scheme v1, `whpk_…` the public key of one with the scheme v1a.
// Several are accepted, so that a secret can be rotated.
import { createHmac, createPublicKey, timingSafeEqual, verify as verifySignature } from "node:crypto";
import { createServer } from "node:http";
import { openStore } from "./tidings.mjs";

const TOLERANCE_SECONDS = 300;
const ED25519 = Buffer.from("302a300506032b6570032100", "hex"); // what precedes a raw key in SPKI (RFC 8410)

/** Returns the change of a request, or null if no signature is valid. `body` is the Buffer that arrived. */
export function verify(body, headers, secrets) {
  const { "webhook-id": id, "webhook-timestamp": at, "webhook-signature": signatures = "" } = headers;
  if (!/^\d+$/.test(at ?? "") || Math.abs(Date.now() / 1000 - Number(at)) > TOLERANCE_SECONDS) return null;
  const signed = Buffer.concat([Buffer.from(`${id}.${at}.`), body]);
  // During a rotation there are several signatures, separated by spaces. One that is valid is enough.
  const valid = signatures.split(" ").some((signature) => {
    const [scheme, text = ""] = signature.split(",");
    return secrets.some((secret) => isValid(scheme, Buffer.from(text, "base64"), secret, signed));
  });
  return valid ? JSON.parse(body) : null;
}

function isValid(scheme, given, secret, signed) {
  const [prefix, encoded] = secret.split("_");
  const key = Buffer.from(encoded, "base64");
  if (scheme === "v1" && prefix === "whsec") {
    const expected = createHmac("sha256", key).update(signed).digest();
    return given.length === expected.length && timingSafeEqual(given, expected);
  }
  if (scheme === "v1a" && prefix === "whpk") {
    const publicKey = createPublicKey({ key: Buffer.concat([ED25519, key]), format: "der", type: "spki" });
    return verifySignature(null, signed, publicKey, given);
  }
  return false;
}

const store = openStore(process.argv[3]);
const secrets = process.env.WEBHOOK_SECRETS.split(" ");
createServer(async (request, response) => {
  const parts = [];
  for await (const part of request) parts.push(part);
  const change = verify(Buffer.concat(parts), request.headers, secrets);
  if (!change) {
    response.writeHead(401).end("no signature is valid");
    return;
  }
  const isNew = store.add(change);
  // Only now: 2xx says that the change is stored. Slow work is done afterwards.
  response.writeHead(200).end(isNew ? "stored" : "known");
  if (isNew) console.log(`${change.id} ${change.type} ${change.data.recipient ?? ""}`);
}).listen(Number(process.argv[2]), "127.0.0.1");
