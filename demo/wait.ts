import { step } from "./show.ts";

/** Patience that a machine twenty times slower than usual needs, told to whoever watches. */
export class Wait {
  readonly #began = performance.now();
  #lastChange = performance.now();
  #lastTold = performance.now();
  #seen: string | undefined;

  /** False once what was seen has not changed for a minute and a half, or after five minutes. */
  goesOn(seen: string | undefined): boolean {
    const now = performance.now();
    if (seen === undefined || seen !== this.#seen) this.#lastChange = now;
    this.#seen = seen;
    if (now - this.#lastTold > 10_000) {
      this.#lastTold = now;
      step(`waiting for the agent: ${seen ?? "it has not answered yet"}`);
    }
    return now - this.#lastChange < 90_000 && now - this.#began < 300_000;
  }
}
