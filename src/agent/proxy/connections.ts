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
  }

  delete(connection: Connection): void {
    const last = this.#all.pop();
    if (last === undefined || last === connection) return;
    last.index = connection.index;
    this.#all[last.index] = last;
  }
}
