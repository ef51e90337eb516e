import type { AnswerHead } from "./http/answer-head.ts";

/** What a guest asks for, screened. */
export interface Question {
  readonly method: string;
  readonly path: string;
  readonly headers: readonly string[];
  /** The same as they stand in a request. */
  readonly headerLines: string;
  readonly body: Buffer | undefined;
  /** Whether asking twice is the same as asking once. */
  readonly isSafe: boolean;
}

/** Whether one answer serves both. Bodies are not looked at: a question that has one is never shared. */
export function isSameQuestion(a: Question, b: Question): boolean {
  return a.path === b.path && a.method === b.method && a.headerLines === b.headerLines;
}

/** What {@link isSameQuestion} goes by, as one string. */
export function keyOf({ method, path, headerLines }: Question): string {
  return `${method} ${path}\n${headerLines}`;
}

/** A whole answer of nova, ready for any number of guests' requests. */
export interface Answer {
  readonly head: AnswerHead;
  /** As text it is latin1, a character for each byte: what is small and comes whole goes through so at the least cost. */
  readonly body: Buffer | string;
}

/** Who waits for an answer: a guest's request. Exactly one of its ways to end is called. */
export interface Waiter {
  /** Nova's whole answer. */
  answer(answer: Answer): void;
  /**
   * The head of an answer too large to be held; its body follows through {@link Waiter.part}.
   *
   * @param resume To be called when a part was too much and more is wanted.
   */
  begin(head: AnswerHead, resume: () => void): void;
  /** False when no more is wanted for now. */
  part(chunk: Buffer): boolean;
  finish(): void;
  /** An answer of ours, one line of text. */
  refuse(status: number, text: string): void;
  /** A broken connection: the guest must not take what it got for the whole. */
  reset(): void;
  /** To ask again alone, since another has taken the stream. */
  askAlone(): void;
}

/** A question on its way, which requests that ask the same may join. */
export interface Joinable {
  readonly question: Question;
  readonly waiters: Waiter[];
  /** Whether nova has the question: what is not answered yet is nova's doing. */
  readonly isAtNova: boolean;
  /** Somebody no longer waits. */
  leave(waiter: Waiter): void;
  /** Somebody's time is up: it is told why there is no answer yet. */
  expire(waiter: Waiter): void;
}
