import { type Answer, keyOf, type Question } from "./answer.ts";
import { isCacheable } from "./documents.ts";
import type { Timed } from "./flight-context.ts";

/** Answers to one guest that may be given again for a moment. */
export class KeptAnswers implements Timed {
  dueAt = 0;
  /** Counts what may have changed the answers: one that was asked for before is not kept after. */
  generation = 0;
  /** By method, path and headers; the oldest first. */
  readonly #answers = new Map<string, KeptAnswer>();
  readonly #timed: Set<Timed>;

  /** @param timed Where it is found when something in it has become too old. */
  constructor(timed: Set<Timed>) {
    this.#timed = timed;
  }

  get(question: Question, now: number): Answer | undefined {
    if (this.#answers.size === 0) return undefined;
    const kept = this.#answers.get(keyOf(question));
    return kept === undefined || kept.until < now ? undefined : kept.answer;
  }

  /** @param generation What {@link KeptAnswers.generation} was when the question was asked. */
  keep(question: Question, answer: Answer, generation: number, forMs: number): void {
    if (forMs === 0 || generation !== this.generation || answer.head.status !== 200) return;
    if (answer.body.length > MAX_KEPT_BYTES || !isCacheable(question.path)) return;
    if (this.#answers.size >= MAX_KEPT_ANSWERS) this.#answers.clear();
    const key = keyOf(question);
    const until = performance.now() + forMs;
    // Behind all that are older.
    this.#answers.delete(key);
    this.#answers.set(key, { answer, until });
    if (this.#answers.size > 1) return;
    this.dueAt = until;
    this.#timed.add(this);
  }

  forget(): void {
    this.generation++;
    this.#answers.clear();
    this.#timed.delete(this);
  }

  due(): void {
    const now = performance.now();
    for (const [key, { until }] of this.#answers) {
      this.dueAt = until;
      if (until >= now) return;
      this.#answers.delete(key);
    }
    this.#timed.delete(this);
  }
}

interface KeptAnswer {
  readonly answer: Answer;
  /** On the clock of `performance.now()`. */
  readonly until: number;
}

const MAX_KEPT_ANSWERS = 64;
const MAX_KEPT_BYTES = 64 * 1024;
