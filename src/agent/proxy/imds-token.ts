import { createHmac, timingSafeEqual } from "node:crypto";
import type { Secret } from "../../config/secret.ts";
import type { Tenure } from "../ports/tenure.ts";
import type { Answer } from "./answer.ts";
import { AnswerHead } from "./http/answer-head.ts";

/** @source AWS EC2 user guide, "Use IMDSv2": PUT, one second to six hours */
const TOKEN_PATH = "/latest/api/token";
const TTL_HEADER = "X-aws-ec2-metadata-token-ttl-seconds";

const MAX_TTL_SECONDS = 21_600;
const EXPIRY_BYTES = 6;
const MAC_BYTES = 32;

/** What a client asked at the token's path. */
export interface TokenRequest {
  readonly method: string;
  /** The value of the header that says how long, if any. */
  readonly ttl: string | undefined;
  readonly wasForwarded: boolean;
}

/** A token to give, or why there is none. */
export type TokenReply =
  | { readonly kind: "answer"; readonly answer: Answer }
  | { readonly kind: "refuse"; readonly status: number; readonly reason: string };

/** Whether a path, with its query, is where tokens are got. */
export function isTokenPath(path: string): boolean {
  return (
    path.startsWith(TOKEN_PATH) && (path.length === TOKEN_PATH.length || path[TOKEN_PATH.length] === "?")
  );
}

/** Answers a request for a token as AWS does: PUT only, never through a proxy, with a time to live. */
export function replyWithToken(asked: TokenRequest, secret: Secret, tenure: Tenure): TokenReply {
  const refuse = (status: number, reason: string): TokenReply => ({ kind: "refuse", status, reason });
  const seconds = ttlSeconds(asked.ttl);
  if (asked.method !== "PUT") return refuse(405, "a token is got with PUT");
  if (asked.wasForwarded) return refuse(403, "a forwarded request gets no token");
  if (seconds === undefined) {
    return refuse(400, `${TTL_HEADER} should be a number of seconds from 1 to ${MAX_TTL_SECONDS}`);
  }
  const body = Buffer.from(makeToken(secret, tenure, Date.now() + seconds * 1000));
  const headers = ["Content-Type", "text/plain", TTL_HEADER, String(seconds)];
  return { kind: "answer", answer: { head: new AnswerHead(200, "OK", headers), body } };
}

/** The seconds that a client asks for, or undefined where it asks for none that are allowed. */
export function ttlSeconds(value: string | undefined): number | undefined {
  if (value === undefined || !/^[0-9]{1,5}$/.test(value)) return undefined;
  const seconds = Number(value);
  return seconds >= 1 && seconds <= MAX_TTL_SECONDS ? seconds : undefined;
}

/**
 * A session token: its end, and a MAC over that and whom it is for. Nothing is remembered, and the key comes
 * from the shared secret, so a token outlives a restart of the agent and is worthless to any other port,
 * instance or address, and to the same one under another link-local address: that is another tenure.
 */
export function makeToken(secret: Secret, tenure: Tenure, expiresAtMs: number): string {
  const expiry = Buffer.alloc(EXPIRY_BYTES);
  expiry.writeUIntBE(expiresAtMs, 0, EXPIRY_BYTES);
  return Buffer.concat([expiry, macOf(secret, tenure, expiry)]).toString("base64url");
}

/** When a token ends, in milliseconds since the epoch; undefined where it was not made for this tenure. */
export function tokenExpiry(secret: Secret, tenure: Tenure, token: string): number | undefined {
  if (!/^[\w-]+$/.test(token)) return undefined;
  const bytes = Buffer.from(token, "base64url");
  if (bytes.length !== EXPIRY_BYTES + MAC_BYTES) return undefined;
  const expiry = bytes.subarray(0, EXPIRY_BYTES);
  if (!timingSafeEqual(bytes.subarray(EXPIRY_BYTES), macOf(secret, tenure, expiry))) return undefined;
  return expiry.readUIntBE(0, EXPIRY_BYTES);
}

/** The first step only derives a key, so that no token is ever a signature that nova would take. */
function macOf(
  secret: Secret,
  { portId, instanceId, fixedAddress, linkLocal }: Tenure,
  expiry: Buffer,
): Buffer {
  const key = createHmac("sha256", Buffer.from(secret.reveal(), "utf8"))
    .update("mn-metadata IMDSv2 token 2")
    .digest();
  return createHmac("sha256", key)
    .update(JSON.stringify([portId, instanceId, fixedAddress, linkLocal]))
    .update(expiry)
    .digest();
}
