import type { Connection } from "./connection.ts";
import type { PortShare, SharedConnection } from "./port-share.ts";

/** All open connections of guests. */
export class Connections {
  readonly #all: Connection[] = [];

  get size(): number {
    return this.#all.length;
  }

  /** Requests that have not been answered. */
  get inFlight(): number {
    let count = 0;
    for (const { pending } of this.#all) count += pending.length;
    return count;
  }

  /** As they are now: what is done with one may end others. */
  list(): readonly Connection[] {
    return [...this.#all];
  }

  add(connection: Connection): void {
    connection.index = this.#all.push(connection) - 1;
  }

  delete(connection: Connection): void {
    const last = this.#all.pop();
    if (last === undefined || last === connection) return;
    last.index = connection.index;
    this.#all[last.index] = last;
  }
}

/**
 * Which connection of a port makes room for its newest, which may be the one that matters: the oldest that asks nothing
 * and has its answers; else the one that leaves most of them unread; else, where all are waiting for nova, the newest.
 */
export function leastDeserving({ connections }: PortShare): SharedConnection | undefined {
  const newest = connections.at(-1);
  let [least, most] = [newest, 0];
  for (const connection of connections) {
    const { writableLength } = connection.socket;
    if (connection === newest) break;
    if (connection.pending.length === 0 && writableLength === 0) return connection;
    if (writableLength > most) [least, most] = [connection, writableLength];
  }
  return least;
}
