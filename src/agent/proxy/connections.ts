import type { Socket } from "node:net";
import type { Connection } from "./connection.ts";

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
    (connection.socket as GuestSocket)[CONNECTION] = connection; // ours alone, by a symbol
  }

  delete(connection: Connection): void {
    const last = this.#all.pop();
    if (last === undefined || last === connection) return;
    last.index = connection.index;
    this.#all[last.index] = last;
  }

  of(socket: Socket): Connection | undefined {
    return (socket as GuestSocket)[CONNECTION]; // as in add()
  }
}

/** On the socket itself, which costs less than a table of all sockets that come and go. */
const CONNECTION = Symbol("connection");

interface GuestSocket extends Socket {
  [CONNECTION]?: Connection;
}
