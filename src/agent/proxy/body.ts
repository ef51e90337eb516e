import type { BodyListener } from "./http/conversation.ts";
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
 * Takes a request body whole, within the limits of one request and of all requests of its port. What is too much is
 * taken and dropped for a while, so that the guest reads our answer instead of a broken connection.
 */
export class BodyCollector implements BodyListener {
  readonly #share: PortShare;
  readonly #done: (outcome: BodyOutcome) => void;
  #chunks: Buffer[] = [];
  #size = 0;
  #held = 0;
  #isReleased = false;

  constructor(share: PortShare, done: (outcome: BodyOutcome) => void) {
    this.#share = share;
    this.#done = done;
  }

  bodyPart(part: Buffer): void {
    const share = this.#share;
    this.#size += part.length;
    if (this.#isReleased) return;
    if (this.#size > MAX_DROPPED_BYTES) this.#done({ kind: "too-large", isRead: false });
    if (this.#size > MAX_BODY_BYTES || share.bodyBytes > MAX_PORT_BODY_BYTES) {
      this.#chunks = [];
      return;
    }
    this.#chunks.push(part);
    this.#held += part.length;
    share.bodyBytes += part.length;
  }

  bodyWhole(): void {
    if (this.#isReleased) return;
    if (this.#size > MAX_BODY_BYTES) this.#done({ kind: "too-large", isRead: true });
    else if (this.#held < this.#size) this.#done({ kind: "over-budget" });
    else this.#done({ kind: "whole", body: Buffer.concat(this.#chunks) });
  }

  /** Gives back the share of the port's budget. */
  release(): void {
    if (this.#isReleased) return;
    this.#isReleased = true;
    this.#chunks = [];
    this.#share.bodyBytes -= this.#held;
  }
}

const MAX_DROPPED_BYTES = 1024 * 1024;
const MAX_PORT_BODY_BYTES = 1024 * 1024;
