import type { Answer } from "./answer.ts";
import { AnswerHead } from "./http/answer-head.ts";

/** What has come of an answer, held until it is whole: what breaks off before is never shown to a guest. */
export class HeldAnswer {
  #head: AnswerHead | undefined;
  #text: string | undefined;
  /** Made when needed: nearly all answers come as one text. */
  #chunks: Buffer[] | undefined;
  /** Bytes that {@link add} was given. */
  size = 0;

  get hasHead(): boolean {
    return this.#head !== undefined;
  }

  get head(): AnswerHead {
    return this.#head ?? NO_HEAD;
  }

  begin(head: AnswerHead): void {
    this.#head = head;
  }

  /** @param text All of the body: latin1, a character for each byte. */
  setWhole(text: string): void {
    this.#text = text;
  }

  add(chunk: Buffer): void {
    this.#chunks ??= [];
    this.#chunks.push(chunk);
    this.size += chunk.length;
  }

  /** The body so far, which is held no longer. */
  takeChunks(): readonly Buffer[] {
    const chunks = this.#chunks ?? [];
    this.#chunks = undefined;
    return chunks;
  }

  /** All of it, which is held no longer. */
  take(): Answer {
    const answer = { head: this.head, body: this.#text ?? this.#body() };
    this.forget();
    return answer;
  }

  #body(): Buffer {
    const [only = EMPTY] = this.#chunks ?? [];
    return this.#chunks !== undefined && this.#chunks.length > 1 ? Buffer.concat(this.#chunks) : only;
  }

  forget(): void {
    this.#head = undefined;
    this.#text = undefined;
    this.#chunks = undefined;
    this.size = 0;
  }
}

const EMPTY = Buffer.alloc(0);
const NO_HEAD = new AnswerHead(502, "Bad Gateway", []);
