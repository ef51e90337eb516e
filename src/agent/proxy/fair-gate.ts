import { removeFrom } from "./lists.ts";
import type { Lane, PortShare, Turn } from "./port-share.ts";

/** A turn whose answer goes out no faster than its guest reads. */
export interface Trickle extends Turn {
  /** Ends it, so that another may be given the room. */
  cut(): void;
}

/**
 * Whose turn it is to ask nova. Each nova has its places, and each port may have a few of them; when all are taken, ports
 * take turns, so a port with a thousand requests waits as long for its next one as a port with one.
 * What trickles has no place at nova, so that who reads slowly keeps nobody else from it; of its port's places it
 * keeps the one that it has.
 */
export class FairGate {
  /** The oldest first. */
  readonly #trickles: Trickle[] = [];

  /** Calls {@link Turn.granted}, now or later. */
  enter(turn: Turn): void {
    const { share } = turn;
    const lane = turn.wants();
    if (share.waiting.length === 0 && !lane.isFull && mayAsk(share, lane)) {
      grant(turn, lane);
    } else {
      share.waiting.push(turn);
      line(share);
    }
  }

  /** The end of a turn, or of its waiting for one. */
  leave(turn: Turn): void {
    const { lane, share } = turn;
    if (lane === undefined) {
      removeFrom(share.waiting, turn);
      return;
    }
    if (turn.kind === "trickling") removeFrom(this.#trickles, turn);
    vacate(turn, lane);
    turn.lane = undefined;
    share.onWire--;
    this.makeUse(share);
    grantNext(lane);
  }

  /** A turn that was granted asks another nova: at once, since it has waited. */
  move(turn: Turn, lane: Lane): void {
    const before = turn.lane;
    if (before === undefined || before === lane || turn.kind === "trickling") return;
    vacate(turn, before);
    take(turn, lane);
    grantNext(before);
  }

  /** What takes so long has its place on, beside those that others wait for. */
  setAside(turn: Turn): void {
    const { lane } = turn;
    if (lane === undefined || turn.kind !== "counted") return;
    vacate(turn, lane);
    turn.kind = "aside";
    lane.aside++;
    this.makeUse(turn.share);
    grantNext(lane);
  }

  /** Gives turns to whom they are due, now that this port may ask more. */
  makeUse(share: PortShare): void {
    line(share);
    if (share.ring !== undefined) grantNext(share.ring);
  }

  /** Who waits for this nova waits where it wants to now. */
  regroup(lane: Lane): void {
    for (const share of lane.ring.splice(0)) {
      share.ring = undefined;
      this.makeUse(share);
    }
  }

  /**
   * Gives back the place of a turn that was granted, but not its port's. Where there are too many such turns, the oldest of
   * the port that has the most is cut.
   *
   * @returns False where there are too many and each is of another port: it has its place on.
   */
  trickle(turn: Trickle): boolean {
    if (this.#trickles.length >= MAX_TRICKLES && !this.#cutOne()) return false;
    const { lane, kind } = turn;
    if (lane === undefined || kind === "trickling") return true;
    this.#trickles.push(turn);
    vacate(turn, lane);
    turn.kind = "trickling";
    this.makeUse(turn.share);
    grantNext(lane);
    return true;
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
}

function grantNext(lane: Lane): void {
  while (!lane.isFull) {
    const share = lane.ring.shift();
    if (share === undefined) return;
    share.ring = undefined;
    const [turn] = share.waiting;
    if (turn === undefined) continue;
    if (turn.wants() !== lane) {
      line(share);
      if (share.ring !== undefined) grantNext(share.ring);
    } else if (mayAsk(share, lane)) {
      share.waiting.shift();
      grant(turn, lane);
      line(share);
    }
  }
}

function grant(turn: Turn, lane: Lane): void {
  take(turn, lane);
  turn.share.onWire++;
  turn.granted();
}

function take(turn: Turn, lane: Lane): void {
  turn.lane = lane;
  turn.kind = "counted";
  lane.counted++;
  turn.share.counted++;
}

function vacate({ share, kind }: Turn, lane: Lane): void {
  if (kind === "trickling") return;
  lane[kind]--;
  if (kind === "counted") share.counted--;
}

/** Where a port's first turn wants a place, the port waits for it. */
function line(share: PortShare): void {
  const [turn] = share.waiting;
  if (share.ring !== undefined || turn === undefined) return;
  const lane = turn.wants();
  if (!mayAsk(share, lane)) return;
  share.ring = lane;
  lane.ring.push(share);
}

/** No port has more than half of the places, so that none has to wait until all that another asked is answered. */
function mayAsk(share: PortShare, { places }: Lane): boolean {
  return share.onWire < MAX_ON_WIRE_PER_PORT && share.counted < places.limit / 2 && !share.readsTooLittle;
}

const MAX_ON_WIRE_PER_PORT = 16;
/** Each holds what its guest has not read, about 300 KiB, and a connection of nova. */
const MAX_TRICKLES = 128;
