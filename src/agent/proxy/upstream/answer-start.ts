import { END_OF_HEAD, isBrokenHead, MAX_HEAD_BYTES, parseResponseHead } from "./response-head.ts";

/**
 * Looks at the beginning of each answer before undici reads it, and takes out the interim heads: a 100 that was not asked
 * for is none of undici's, which then gives up an answer that nova has already worked for. What is no HTTP/1.0 or
 * 1.1 is found here as well, since undici does not tell its reader the version.
 *
 * @source RFC 9110 §15.2; undici 7.30, `onHeadersComplete`
 */
export class AnswerStart {
  #isPast = true;
  #pending: Buffer | undefined;

  /** Whether something of an answer has come, interim heads aside. */
  get hasBegun(): boolean {
    return this.#isPast || this.#pending !== undefined;
  }

  /** An answer is the next thing to come. */
  expect(): void {
    this.#isPast = false;
    this.#pending = undefined;
  }

  /** @returns What undici is to read, perhaps nothing yet; undefined where it is no answer. */
  take(piece: Buffer): Buffer | undefined {
    if (this.#isPast) return piece;
    let bytes = this.#pending === undefined ? piece : Buffer.concat([this.#pending, piece]);
    this.#pending = undefined;
    for (;;) {
      const start = bytes.toString("latin1", 0, STATUS_END);
      const isInterim = INTERIM.test(start);
      if (!isInterim && START.test(start)) {
        this.#isPast = true;
        return bytes;
      }
      const end = isInterim ? bytes.indexOf(END_OF_HEAD) : -1;
      if (end < 0) {
        const isHopeless = start.length === STATUS_END && !isInterim;
        if (isHopeless || bytes.length > MAX_HEAD_BYTES || isBrokenHead(bytes)) return undefined;
        if (bytes.length > 0) this.#pending = bytes;
        return NOTHING;
      }
      if (parseResponseHead(bytes.toString("latin1", 0, end), "GET") === undefined) return undefined;
      bytes = bytes.subarray(end + END_OF_HEAD.length);
    }
  }
}

const NOTHING = Buffer.alloc(0);
/** Up to the last digit of the status. */
const STATUS_END = 12;
const START = /^HTTP\/1\.[01] [2-9]\d\d$/;
/** All but 101, which is an answer to what was not asked. */
const INTERIM = /^HTTP\/1\.[01] 1(?!01)\d\d$/;
