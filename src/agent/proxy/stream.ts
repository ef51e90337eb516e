import type { Waiter } from "./answer.ts";
import type { AnswerHead } from "./http/answer-head.ts";
import type { Line } from "./upstream/line.ts";

/** An answer that is too large to be held whole, on its way through to one guest: nova is read as fast as the guest reads. */
export class Stream {
  readonly #waiter: Waiter;
  #line: Line | undefined;
  #isPaused = false;

  constructor(waiter: Waiter, line: Line | undefined) {
    this.#waiter = waiter;
    this.#line = line;
  }

  begin(head: AnswerHead, held: readonly Buffer[]): void {
    this.#waiter.begin(head, () => this.#resume());
    for (const chunk of held) this.part(chunk);
  }

  part(chunk: Buffer): void {
    if (this.#waiter.part(chunk) || this.#isPaused) return;
    this.#isPaused = true;
    this.#line?.pause();
  }

  /** Nova has no more of it: the line may be another question's from now on, while the guest reads what it has not yet. */
  leaveLine(): void {
    this.#line = undefined;
  }

  finish(): void {
    this.#waiter.finish();
  }

  reset(): void {
    this.#waiter.reset();
  }

  #resume(): void {
    if (!this.#isPaused) return;
    this.#isPaused = false;
    this.#line?.resume();
  }
}
