/** What a piece of a chunked body came to. */
export type ChunkStep = "more" | "end" | "malformed";

/**
 * Takes a chunked body apart, however it is cut into pieces. Strict: sizes below 4 GiB in hexadecimal digits only, CRLF
 * everywhere, extensions and trailers passed over within a bound.
 *
 * @source RFC 9112 §7.1
 */
export class ChunkReader {
  #state: "size" | "data" | "data-end" | "trailer" = "size";
  #line = "";
  #left = 0;
  /** Bytes of the last piece that came after the end. */
  surplus = 0;

  /** @param onData Called with views of the piece, in order. */
  read(piece: Buffer, onData: (data: Buffer) => void): ChunkStep {
    let at = 0;
    while (at < piece.length) {
      if (this.#state === "data") {
        const end = Math.min(piece.length, at + this.#left);
        onData(piece.subarray(at, end));
        this.#left -= end - at;
        at = end;
        if (this.#left === 0) this.#state = "data-end";
        continue;
      }
      const newline = piece.indexOf(LF, at);
      const end = newline < 0 ? piece.length : newline + 1;
      this.#line += piece.toString("latin1", at, end);
      at = end;
      if (this.#line.length > MAX_LINE) return "malformed";
      if (newline < 0) return "more";
      const step = this.#takeLine();
      if (step === "end") this.surplus = piece.length - at;
      if (step !== "more") return step;
    }
    return "more";
  }

  #takeLine(): ChunkStep {
    const line = this.#line;
    this.#line = "";
    if (!line.endsWith("\r\n") || /[\r\0]/.test(line.slice(0, -2))) return "malformed";
    const text = line.slice(0, -2);
    if (this.#state === "data-end") {
      this.#state = "size";
      return text === "" ? "more" : "malformed";
    }
    if (this.#state === "trailer") return text === "" ? "end" : "more";
    const size = /^0*([0-9a-f]{1,8})(?:[\t ]*;.*)?$/i.exec(text)?.[1];
    if (size === undefined) return "malformed";
    this.#left = Number.parseInt(size, 16);
    this.#state = this.#left === 0 ? "trailer" : "data";
    return "more";
  }
}

const LF = 0x0a;
const MAX_LINE = 16_384;
