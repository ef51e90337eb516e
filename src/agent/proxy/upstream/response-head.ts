/** The head of nova's answer, and what it says of the bytes that follow. */
export interface ResponseHead {
  readonly status: number;
  readonly statusText: string;
  /** Name, value, name, value, as they came. */
  readonly headers: readonly string[];
  readonly framing: Framing;
  /** Whether the connection may be used again once the body has ended. */
  readonly isKeptAlive: boolean;
}

/** How the end of a body is found. */
export type Framing =
  | { readonly kind: "none" }
  | { readonly kind: "length"; readonly length: number }
  | { readonly kind: "chunked" }
  | { readonly kind: "until-close" };

/**
 * Reads a response head, in latin1 and without the empty line at its end. Undefined for whatever RFC 9112 does
 * not allow, and for what it allows but two readers may take differently: folded lines, bare CR or LF, both
 * lengths, several lengths, codings other than chunked.
 *
 * @source RFC 9112 §4, §5, §6.3
 */
export function parseResponseHead(text: string, method: string): ResponseHead | undefined {
  const lines = text.split("\r\n");
  const start = STATUS_LINE.exec(lines[0] ?? "");
  if (start === null) return undefined;
  const [, minorVersion, code, statusText = ""] = start;
  const status = Number(code);
  const headers: string[] = [];
  let length: string | undefined;
  let coding: string | undefined;
  let isKeptAlive = minorVersion === "1";
  for (let i = 1; i < lines.length; i++) {
    const field = FIELD_LINE.exec(lines[i] as string); // within bounds
    if (field === null) return undefined;
    const name = field[1] as string; // both groups always take part
    const value = field[2] as string;
    headers.push(name, value);
    switch (name.length) {
      case CONTENT_LENGTH.length:
        if (name.toLowerCase() !== CONTENT_LENGTH) break;
        if (length !== undefined) return undefined;
        length = value;
        break;
      case TRANSFER_ENCODING.length:
        if (name.toLowerCase() !== TRANSFER_ENCODING) break;
        if (coding !== undefined) return undefined;
        coding = value;
        break;
      case CONNECTION.length:
        if (name.toLowerCase() === CONNECTION && /\bclose\b/i.test(value)) isKeptAlive = false;
        break;
    }
  }
  const framing = framingOf(status, method, length, coding);
  if (framing === undefined) return undefined;
  return { status, statusText, headers, framing, isKeptAlive: isKeptAlive && framing.kind !== "until-close" };
}

function framingOf(
  status: number,
  method: string,
  length: string | undefined,
  coding: string | undefined,
): Framing | undefined {
  if (length !== undefined && (coding !== undefined || !DIGITS.test(length))) return undefined;
  if (coding !== undefined && coding.toLowerCase() !== "chunked") return undefined;
  if (method === "HEAD" || status < 200 || status === 204 || status === 304) return { kind: "none" };
  if (coding !== undefined) return { kind: "chunked" };
  return length === undefined ? { kind: "until-close" } : { kind: "length", length: Number(length) };
}

const STATUS_LINE = /^HTTP\/1\.([01]) ([1-9]\d\d)(?: ([\t\x20-\x7e\x80-\xff]*))?$/;
const FIELD_LINE =
  /^([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[\t ]*((?:[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?)[\t ]*$/;
const DIGITS = /^\d{1,15}$/;
const CONTENT_LENGTH = "content-length";
const TRANSFER_ENCODING = "transfer-encoding";
const CONNECTION = "connection";
