import type { Socket } from "node:net";
import { KnownHeaders } from "./known-headers.ts";
import { Places } from "./places.ts";
import { RecentRequests } from "./recent.ts";
import { TokenBucket } from "./token-bucket.ts";

/** What waits for its turn at nova. */
export interface Turn {
  readonly share: PortShare;
  /** Where it was granted one; the gate's own. */
  lane: Lane | undefined;
  /** Which kind it has; the gate's own. What trickles has none at nova, but its port's. */
  kind: "counted" | "aside" | "trickling";
  /** Where it wants a place. It may change its mind until it has one. */
  wants(): Lane;
  granted(): void;
}

/** One nova's places, and who waits for them. */
export class Lane {
  readonly places = new Places();
  readonly ring: PortShare[] = [];
  /** Turns that have a place. */
  counted = 0;
  /** Turns that take so long that others do not wait for them. */
  aside = 0;

  get isFull(): boolean {
    return this.counted >= this.places.limit || this.counted + this.aside >= MAX_ON_WIRE;
  }
}

/** What waits for a token of its port. */
export interface Delayable {
  /** On the clock of `performance.now()`. */
  readonly startedAt: number;
  proceed(): void;
}

/** A connection, as far as making room for another is concerned. */
export interface SharedConnection {
  readonly socket: Socket;
  readonly pending: readonly unknown[];
  cut(): void;
}

/** All that one port uses of the proxy, over all its addresses: what its limits are held against. */
export class PortShare {
  /** The port, or for a peer that no port is known of, its address. */
  readonly name: string;
  /** The oldest first. */
  readonly connections: SharedConnection[] = [];
  readonly bucket: TokenBucket;
  readonly recent = new RecentRequests();
  readonly knownHeaders = new KnownHeaders();
  /** Requests that wait for a token. */
  readonly delayed: Delayable[] = [];
  /** Questions that wait for their turn at nova. */
  readonly waiting: Turn[] = [];
  /** Questions that nova is being asked, and answers that trickle. */
  onWire = 0;
  /** Those of them that others wait for. */
  counted = 0;
  /** Where it waits for its turn; the gate's own. */
  ring: Lane | undefined;
  /** Whether a tenure of the port has ended and nothing was asked since. */
  isGone = false;
  /** Requests that have not been answered. */
  pending = 0;
  /** Bytes of request bodies held. */
  bodyBytes = 0;
  /** When the last line about this port was logged, by what it was about. */
  readonly loggedAt = new Map<string, number>();
  #unsentBytes = 0;
  /** When it last read too little. */
  #heldItselfUpAt = Number.NEGATIVE_INFINITY;

  constructor(name: string, burst: number, now: number) {
    this.name = name;
    this.bucket = new TokenBucket(burst, now);
  }

  /** Whether so much of its answers waits to be read that nothing more is asked for it. */
  get readsTooLittle(): boolean {
    return this.#unsentBytes > MAX_UNSENT_BYTES;
  }

  /** So many more bytes of answers wait for the guest to read; or fewer, where it is negative. */
  addUnsent(bytes: number): void {
    this.#unsentBytes += bytes;
    if (this.readsTooLittle) this.#heldItselfUpAt = performance.now();
  }

  /** Whether what it asks may be late because it reads too little, or did within that time. */
  heldItselfUp(withinMs: number): boolean {
    return this.readsTooLittle || performance.now() - this.#heldItselfUpAt < withinMs;
  }
}

/** Of one nova, whatever it takes over them. @source measured: nova under uwsgi as Debian runs it has 8 × 32 threads and a backlog of 100 */
const MAX_ON_WIRE = 128;
/** Of one port: a guest that asks over a thousand connections and reads none would have the host keep all its answers. */
const MAX_UNSENT_BYTES = 16 * 1024 * 1024;
