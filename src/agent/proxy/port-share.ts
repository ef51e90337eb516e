import type { Socket } from "node:net";
import { KnownHeaders } from "./known-headers.ts";
import { removeFrom } from "./lists.ts";
import { RecentRequests } from "./recent.ts";
import { TokenBucket } from "./token-bucket.ts";

/** What waits for its turn at nova. */
export interface Turn {
  readonly share: PortShare;
  granted(): void;
}

/** A turn whose answer goes out no faster than its guest reads. */
export interface Trickle extends Turn {
  /** Ends it, so that another may be given the room. */
  cut(): void;
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
  /** Whether it stands in the gate's ring. */
  inRing = false;
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

/**
 * Whose turn it is to ask nova. Each port has a few places; when all places are taken, ports take turns, so a
 * port with a thousand requests waits as long for its next one as a port with one.
 * What trickles has no place among all, so that who reads slowly keeps nobody else from nova; of its port's places it
 * keeps the one that it has.
 */
export class FairGate {
  readonly #ring: PortShare[] = [];
  /** The oldest first. */
  readonly #trickles: Trickle[] = [];
  #onWire = 0;

  /** Calls {@link Turn.granted}, now or later. */
  enter(turn: Turn): void {
    const { share } = turn;
    if (this.#onWire < MAX_ON_WIRE && mayAsk(share) && share.waiting.length === 0) {
      this.#grant(share, turn);
    } else {
      share.waiting.push(turn);
      this.#line(share);
    }
  }

  /** Gives back the place of a turn that was granted. */
  leave(share: PortShare): void {
    this.#onWire--;
    share.onWire--;
    this.makeUse(share);
  }

  /** Gives turns to whom they are due, now that this port may ask more. */
  makeUse(share: PortShare): void {
    this.#line(share);
    this.#grantNext();
  }

  /**
   * Gives back the place of a turn that was granted, but not its port's. Where there are too many such turns, the oldest of
   * the port that has the most is cut.
   *
   * @returns False where there are too many and each is of another port: it has its place on.
   */
  trickle(turn: Trickle): boolean {
    if (this.#trickles.length >= MAX_TRICKLES && !this.#cutOne()) return false;
    this.#trickles.push(turn);
    this.#onWire--;
    this.#grantNext();
    return true;
  }

  /** The end of a turn that trickled. */
  trickled(turn: Trickle): void {
    removeFrom(this.#trickles, turn);
    turn.share.onWire--;
    this.makeUse(turn.share);
  }

  /** Takes back an {@link enter} that was not granted yet. */
  cancel(turn: Turn): void {
    removeFrom(turn.share.waiting, turn);
  }

  #cutOne(): boolean {
    const counts = new Map<PortShare, number>();
    for (const { share } of this.#trickles) counts.set(share, (counts.get(share) ?? 0) + 1);
    const most = Math.max(...counts.values());
    const oldest = this.#trickles.find(({ share }) => counts.get(share) === most);
    if (most < 2) return false;
    oldest?.cut();
    return true;
  }

  #grantNext(): void {
    while (this.#onWire < MAX_ON_WIRE) {
      const next = this.#ring.shift();
      if (next === undefined) return;
      next.inRing = false;
      if (!mayAsk(next)) continue;
      const turn = next.waiting.shift();
      if (turn === undefined) continue;
      this.#grant(next, turn);
      this.#line(next);
    }
  }

  #grant(share: PortShare, turn: Turn): void {
    this.#onWire++;
    share.onWire++;
    turn.granted();
  }

  #line(share: PortShare): void {
    if (share.inRing || share.waiting.length === 0 || !mayAsk(share)) return;
    share.inRing = true;
    this.#ring.push(share);
  }
}

function mayAsk(share: PortShare): boolean {
  return share.onWire < MAX_ON_WIRE_PER_PORT && !share.readsTooLittle;
}

/** @source measured: nova under uwsgi as Debian runs it has 8 × 32 threads and a backlog of 100 */
const MAX_ON_WIRE = 128;
const MAX_ON_WIRE_PER_PORT = 16;
/** Each holds what its guest has not read, about 300 KiB, and a connection of nova. */
const MAX_TRICKLES = 128;
/** Of one port: a guest that asks over a thousand connections and reads none would have the host keep all its answers. */
const MAX_UNSENT_BYTES = 16 * 1024 * 1024;
