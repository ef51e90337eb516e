import type { LastRequest } from "./proxy.ts";
import { withoutQuery } from "./target.ts";

/** The last requests of one port, written over in place: remembering one makes nothing for the collector. */
export class RecentRequests {
  readonly #slots: Slot[] = [];
  #next = 0;

  /**
   * @param at When it was answered, on the clock of `performance.now()`.
   * @param asked Path and query; the query is left out when read.
   */
  add(at: number, method: string, asked: string, status: number, durationMs: number, serial: number): void {
    const target = asked.length <= MAX_TARGET ? asked : shortened(asked);
    const slot = this.#slots[this.#next];
    if (slot === undefined) {
      this.#slots.push({ at, method, target, status, durationMs, serial });
    } else {
      slot.at = at;
      slot.method = method;
      slot.target = target;
      slot.status = status;
      slot.durationMs = durationMs;
      slot.serial = serial;
    }
    this.#next = (this.#next + 1) % CAPACITY;
  }

  /** The newest first. */
  list(): readonly LastRequest[] {
    const inOrder = [...this.#slots.slice(this.#next), ...this.#slots.slice(0, this.#next)];
    const startOfClock = Date.now() - performance.now();
    return inOrder.reverse().map(({ at, method, target, status, durationMs, serial }) => ({
      at: Math.round(startOfClock + at),
      method,
      path: withoutQuery(target),
      status,
      durationMs,
      requestId: requestId(serial),
    }));
  }
}

/** What a guest reads in an error and an operator finds in the log. @param serial Counted from the start of this agent. */
export function requestId(serial: number): string {
  return serial.toString(36).padStart(6, "0");
}

interface Slot {
  at: number;
  method: string;
  target: string;
  status: number;
  durationMs: number;
  serial: number;
}

/** A part of a string keeps all of it in memory, so this is another one. */
function shortened(target: string): string {
  return `${Buffer.from(target.slice(0, MAX_TARGET), "latin1").toString("latin1")}…`;
}

const CAPACITY = 16;
/** A guest may ask for 32 KiB, and what it asked stays when it is gone. */
const MAX_TARGET = 256;
