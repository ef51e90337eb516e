import { hasHeader, headerLinesOf } from "../headers.ts";

/** The head of an answer, ready for any number of requests. */
export class AnswerHead {
  readonly status: number;
  /** Name, value, name, value; without the hop-by-hop ones. */
  readonly headers: readonly string[];
  /** Whether an answer with this status has a body, unless it is to HEAD. @source RFC 9110 §15 */
  readonly mayHaveBody: boolean;
  readonly tellsLength: boolean;
  /**
   * Status line and headers as they go out, without the empty line; undefined where they hold what no answer may,
   * such as a line end within a value.
   */
  readonly lines: string | undefined;

  constructor(status: number, statusText: string, headers: readonly string[]) {
    this.status = status;
    this.headers = headers;
    this.mayHaveBody = status !== 204 && status !== 304;
    this.tellsLength = hasHeader(headers, "content-length");
    const isSound = VALUE.test(statusText) && headers.every((text, i) => (i % 2 ? VALUE : NAME).test(text));
    this.lines = isSound ? `HTTP/1.1 ${status} ${statusText}\r\n${headerLinesOf(headers)}` : undefined;
  }
}

/** @source RFC 9110 §5.6.2 */
const NAME = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;
/** @source RFC 9110 §5.5 */
const VALUE = /^[\t\x20-\x7e\x80-\xff]*$/;
