/**
 * What nova has to do for an answer: `warm` where it has the instance in its cache, as far as we know; `cold` where it
 * builds everything first; `slow` where it asks somebody else.
 */
export type Effort = "warm" | "cold" | "slow";

/** An answer, as far as it tells whether nova is asked too much at a time. */
export interface AnswerTime {
  /** From when it was asked. */
  readonly ms: number;
  readonly effort: Effort;
  /** How many questions nova had when it was asked, itself among them. */
  readonly beside: number;
}

/**
 * How many questions one nova gets at a time: as many as it answers nearly as fast as one alone. A process of nova runs
 * on one CPU at a time, whatever it has of threads: asked more, it answers no more, each of it later, and what its threads
 * hold of the database may keep it from answering at all.
 *
 * @source measured: 100 crawls at once on two endpoints of two processes each took 6 s with 8 or 16 at a time, 10 s with 64
 */
export class Places {
  #limit = START;
  /** Milliseconds that it takes where next to nothing else is asked, on average; 0 where that is not known. */
  readonly #calmMs = { cold: 0, warm: 0 };
  #answers = 0;
  #tookMs = 0;
  #expectedMs = 0;

  get limit(): number {
    return this.#limit;
  }

  /** @param areTaken Whether all places were: only then can their number have been too small, or too large. */
  answered({ ms, effort, beside }: AnswerTime, areTaken: boolean): void {
    if (effort === "slow") return;
    const calmMs = this.#calmMs[effort];
    if (beside <= CALM) {
      this.#calmMs[effort] = calmMs === 0 ? ms : calmMs + (ms - calmMs) * SMOOTHING;
    } else if (areTaken) {
      this.#answers++;
      this.#tookMs += ms;
      // What is not known tells nothing: neither more nor less than expected.
      this.#expectedMs += calmMs === 0 ? ms / UNKNOWN : calmMs;
      if (this.#answers >= this.#limit) this.#judge();
    }
  }

  #judge(): void {
    const tookMs = this.#tookMs / this.#answers;
    const expectedMs = this.#expectedMs / this.#answers;
    if (tookMs < Math.max(expectedMs * AS_FAST, FAST_MS)) {
      this.#limit = Math.min(Math.ceil(this.#limit * MORE), MOST);
    } else if (tookMs > Math.max(expectedMs * TOO_SLOW, SLOW_MS)) {
      this.#limit = Math.max(Math.floor(this.#limit * FEWER), FEWEST);
    }
    this.#answers = 0;
    this.#tookMs = 0;
    this.#expectedMs = 0;
  }
}

const [FEWEST, START, MOST] = [8, 16, 128];
/** So many questions at a time do not slow each other down. */
const CALM = 2;
const SMOOTHING = 0.1;
/** Times what one alone takes. */
const [AS_FAST, TOO_SLOW] = [1.5, 3];
/** Where that is not known, it is taken to be between the two. */
const UNKNOWN = 2;
/** Milliseconds: what is as fast needs no fewer at a time, whatever one alone takes. */
const [FAST_MS, SLOW_MS] = [10, 20];
const [MORE, FEWER] = [1.25, 0.8];
