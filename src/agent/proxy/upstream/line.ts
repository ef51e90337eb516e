import type { AnswerHead } from "../http/answer-head.ts";

/** One request to nova. Everything in it has been validated: undici would refuse the rest in odd ways. */
export interface Ask {
  readonly method: string;
  readonly path: string;
  /** The guest's own headers: name, value, name, value. */
  readonly headers: readonly string[];
  /** The same as they stand in a request. */
  readonly headerLines: string;
  /** Who asks; goes after all of the guest's own. */
  readonly identity: Identity;
  readonly body: Buffer | undefined;
}

/** The headers by which nova knows a guest, as a list and as they stand in a request. */
export interface Identity {
  readonly headers: readonly string[];
  readonly lines: string;
}

/**
 * How an ask came to nothing.
 *
 * - `unsent`: no connection was made, so nova has seen nothing of it.
 * - `stale`: a connection kept from before was gone.
 * - `reset`: a new connection broke before the first byte of an answer.
 * - `empty`: nova closed a new connection without a byte, which is how uwsgi shows an exception in nova.
 * - `cut`: the answer broke off, perhaps within its head.
 * - `garbage`: what came is not HTTP, or contradicts itself.
 */
export type FailureKind = "unsent" | "stale" | "reset" | "empty" | "cut" | "garbage";

/** Hears the answer to one ask; after `onEnd` or `onFailure` it hears nothing more. */
export interface AnswerListener {
  onHead(head: AnswerHead): void;
  onBody(chunk: Buffer): void;
  /** All of a body whose length the headers told, instead of {@link AnswerListener.onBody}: latin1, a character for each byte. */
  onWholeBody(text: string): void;
  onEnd(): void;
  onFailure(kind: FailureKind, error: Error): void;
}

/** One connection to nova, made when it is needed, over which one thing at a time is asked. */
export interface Line {
  /** Whether {@link Line.ask} may be called. */
  free: boolean;
  readonly closed: boolean;
  /** Whether the next ask goes over a connection that was used before and may be gone by now. */
  readonly isWarm: boolean;
  /** Whether its endpoint has it in its list of idle lines already. */
  shelved: boolean;
  ask(ask: Ask, listener: AnswerListener): void;
  /** Stops hearing; the connection is closed, since an answer may still be on it. */
  abandon(): void;
  pause(): void;
  resume(): void;
  close(): void;
}

/** Better no agent than one guest's answer for another: a line has one question at a time. */
export const ASKED_TWICE = "a line to nova was asked a second question before it answered the first one";
