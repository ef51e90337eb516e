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
  /** What has come is at its beginning. All of it counts against the port, whatever a guest has filled of it. */
  #room: Buffer = NOTHING;
  #size = 0;
  #isDropped = false;
  #isReleased = false;

  constructor(share: PortShare, done: (outcome: BodyOutcome) => void) {
    this.#share = share;
    this.#done = done;
  }

  bodyPart(part: Buffer): void {
    if (this.#isReleased) return;
    const held = this.#size;
    this.#size += part.length;
    if (this.#size > MAX_DROPPED_BYTES) this.#done({ kind: "too-large", isRead: false });
    if (this.#isDropped || this.#isReleased) return;
    if (this.#size > this.#room.length && !this.#makeRoom(held, part)) return;
    if (this.#room !== part) part.copy(this.#room, held);
  }

  bodyWhole(): void {
    if (this.#isReleased) return;
    if (this.#size > MAX_BODY_BYTES) this.#done({ kind: "too-large", isRead: true });
    else if (this.#isDropped) this.#done({ kind: "over-budget" });
    else this.#done({ kind: "whole", body: this.#room.subarray(0, this.#size) });
  }

  /** Gives back the share of the port's budget. */
  release(): void {
    this.#isReleased = true;
    this.#drop();
  }

  /**
   * One buffer instead of all parts: a guest that sends its body in chunks of a byte would have a hundred times the
   * budget kept, in buffers of a byte each. Most bodies come in one part, which is that buffer then.
   */
  #makeRoom(held: number, part: Buffer): boolean {
    const wanted =
      held === 0 ? part.length : Math.min(Math.max(2 * this.#size, MIN_ROOM_BYTES), MAX_BODY_BYTES);
    const before = this.#room;
    const inUse = this.#share.bodyBytes - before.length;
    if (this.#size > MAX_BODY_BYTES || inUse + wanted > MAX_PORT_BODY_BYTES) {
      this.#drop();
      return false;
    }
    this.#share.bodyBytes = inUse + wanted;
    this.#room = held === 0 ? part : Buffer.allocUnsafeSlow(wanted);
    before.copy(this.#room, 0, 0, held);
    return true;
  }

  #drop(): void {
    this.#isDropped = true;
    this.#share.bodyBytes -= this.#room.length;
    this.#room = NOTHING;
  }
}

const NOTHING = Buffer.alloc(0);
const MAX_DROPPED_BYTES = 1024 * 1024;
const MAX_PORT_BODY_BYTES = 1024 * 1024;
const MIN_ROOM_BYTES = 1024;
