/** What is wrong with a HOCON text or with a question asked of it. */
export type HoconErrorCode = "syntax" | "include" | "path" | "reference" | "cycle" | "type" | "limit";

/** The one error of HOCON. `message` is a sentence for an operator; it quotes keys and punctuation, never a value. */
export class HoconError extends Error {
  override readonly name = "HoconError";
  readonly code: HoconErrorCode;
  /** Where in the text, counted from 1; undefined where there is no text. */
  readonly line: number | undefined;
  /** Which text that is, where the error is of several that were merged: `/config/templates/default`. */
  readonly source: string | undefined;

  constructor(code: HoconErrorCode, message: string, line?: number, source?: string) {
    super(message);
    this.code = code;
    this.line = line;
    this.source = source;
  }
}
