import type { IncomingMessage } from "node:http";
import type { PortShare } from "./port-share.ts";

/** How the reading of a guest's request body ended. */
export type BodyOutcome =
  | { readonly kind: "whole"; readonly body: Buffer }
  /** `isRead` is false when the guest still sends and must be cut off. */
  | { readonly kind: "too-large"; readonly isRead: boolean }
  | { readonly kind: "over-budget" };

/** @source nova takes no more than 1,020 bytes of a password, and reads no other body */
export const MAX_BODY_BYTES = 64 * 1024;

/** Whether a body that was announced is too large even to be read and dropped. */
export function isHopeless(announced: number | undefined, expectsContinue: boolean): boolean {
  return announced !== undefined && announced > (expectsContinue ? MAX_BODY_BYTES : MAX_DROPPED_BYTES);
}

/**
 * Reads a request body whole, within the limits of one request and of all requests of its port. What is too
 * much is read and dropped for a while, so that the guest reads our answer instead of a broken connection.
 *
 * @returns Gives back the share of the port's budget.
 */
export function collectBody(
  req: IncomingMessage,
  share: PortShare,
  done: (outcome: BodyOutcome) => void,
): () => void {
  let chunks: Buffer[] = [];
  let size = 0;
  let held = 0;
  let released = false;
  req.on("data", (chunk: Buffer) => {
    size += chunk.length;
    if (released) return;
    if (size > MAX_DROPPED_BYTES) done({ kind: "too-large", isRead: false });
    if (size > MAX_BODY_BYTES || share.bodyBytes > MAX_PORT_BODY_BYTES) {
      chunks = [];
      return;
    }
    chunks.push(chunk);
    held += chunk.length;
    share.bodyBytes += chunk.length;
  });
  req.on("end", () => {
    if (released) return;
    if (size > MAX_BODY_BYTES) done({ kind: "too-large", isRead: true });
    else if (held < size) done({ kind: "over-budget" });
    else done({ kind: "whole", body: Buffer.concat(chunks) });
  });
  return () => {
    if (released) return;
    released = true;
    chunks = [];
    share.bodyBytes -= held;
  };
}

const MAX_DROPPED_BYTES = 1024 * 1024;
const MAX_PORT_BODY_BYTES = 1024 * 1024;
