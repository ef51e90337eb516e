import { screenResponse } from "../headers.ts";
import { AnswerHead } from "../http/answer-head.ts";

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

/** Where a head ends: its last line end, and the empty line. */
export const END_OF_HEAD = Buffer.from("\r\n\r\n");

/** No head of nova's may be longer; an answer without an end to its head must not be kept for long. */
export const MAX_HEAD_BYTES = 32_768;

/**
 * Whether what has come cannot become a head, so that more of it need not be waited for: another protocol, or lines that
 * end without CR. A recipient may take those (RFC 9112 §2.2), but two readers then see different heads.
 *
 * @param bytes A head without its end.
 */
export function isBrokenHead(bytes: Buffer): boolean {
  const text = bytes.toString("latin1");
  return !PROTOCOL.startsWith(text.slice(0, PROTOCOL.length)) || BARE_LF.test(text);
}

/**
 * Reads a response head, in latin1 and without the empty line at its end. Undefined for whatever RFC 9112 does
 * not allow, and for what it allows but two readers may take differently: folded lines, bare CR or LF, both
 * lengths, several lengths, codings other than chunked.
 *
 * @source RFC 9112 §4, §5, §6.3
 */
export function parseResponseHead(text: string, method: string): ResponseHead | undefined {
  if (!HEAD.test(text)) return undefined;
  const headers: string[] = [];
  let isKeptAlive = text.charAt(MINOR_VERSION_AT) === "1";
  const startEnd = endOfLine(text, 0);
  for (let at = startEnd + 2, end: number; at < text.length; at = end + 2) {
    end = endOfLine(text, at);
    const colon = text.indexOf(":", at);
    const name = text.slice(at, colon);
    const value = trimmed(text, colon + 1, end);
    headers.push(name, value);
    if (name.length === CONNECTION.length && name.toLowerCase() === CONNECTION && /\bclose\b/i.test(value))
      isKeptAlive = false;
  }
  const status = Number(text.slice(STATUS_AT, STATUS_AT + 3));
  const framing = framingOf(status, method, headers);
  if (framing === undefined) return undefined;
  const statusText = text.slice(STATUS_AT + 4, startEnd);
  return { status, statusText, headers, framing, isKeptAlive: isKeptAlive && framing.kind !== "until-close" };
}

/**
 * What a guest gets of a head: all but the hop-by-hop headers, and no length where none may be.
 *
 * @source RFC 9110 §8.6: a 204 has no Content-Length, and who reads one may wait for so many bytes
 */
export function answerHeadOf(status: number, statusText: string, headers: readonly string[]): AnswerHead {
  const screened = screenResponse(headers);
  const passed = status === 204 ? without(screened, CONTENT_LENGTH) : screened;
  return new AnswerHead(status, statusText, passed);
}

function without(headers: readonly string[], name: string): string[] {
  return headers.filter((_, i) => (headers[i - (i % 2)] as string).toLowerCase() !== name); // pairs
}

function endOfLine(text: string, from: number): number {
  const end = text.indexOf("\r\n", from);
  return end < 0 ? text.length : end;
}

/** Without the blanks around it. */
function trimmed(text: string, from: number, to: number): string {
  let [start, end] = [from, to];
  while (start < end && isBlank(text.charCodeAt(start))) start++;
  while (start < end && isBlank(text.charCodeAt(end - 1))) end--;
  return text.slice(start, end);
}

function isBlank(code: number): boolean {
  return code === 0x20 || code === 0x09;
}

/**
 * What the headers of an answer say of the bytes that follow; undefined where they contradict themselves, or where the
 * body is in a coding that nobody here undoes: with `Transfer-Encoding` left out, a guest would take it for the document.
 *
 * @source RFC 9112 §6.3
 */
export function framingOf(status: number, method: string, headers: readonly string[]): Framing | undefined {
  let length: string | undefined;
  let coding: string | undefined;
  for (let i = 0; i < headers.length; i += 2) {
    const name = headers[i] as string; // pairs
    if (name.length === CONTENT_LENGTH.length && name.toLowerCase() === CONTENT_LENGTH) {
      if (length !== undefined) return undefined;
      length = headers[i + 1];
    } else if (name.length === TRANSFER_ENCODING.length && name.toLowerCase() === TRANSFER_ENCODING) {
      if (coding !== undefined) return undefined;
      coding = headers[i + 1];
    }
  }
  if (length !== undefined && (coding !== undefined || !DIGITS.test(length))) return undefined;
  if (coding !== undefined && coding.toLowerCase() !== "chunked") return undefined;
  if (method === "HEAD" || status < 200 || status === 204 || status === 304) return { kind: "none" };
  if (coding !== undefined) return { kind: "chunked" };
  return length === undefined ? { kind: "until-close" } : { kind: "length", length: Number(length) };
}

/** A status line and any number of field lines: one look at all of it, with nothing to fold and no bare CR or LF. */
const HEAD =
  /^HTTP\/1\.[01] [1-9]\d\d(?: [\t\x20-\x7e\x80-\xff]*)?(?:\r\n[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t\x20-\x7e\x80-\xff]*)*$/;
const PROTOCOL = "HTTP/1.";
const BARE_LF = /(?<!\r)\n/;
const MINOR_VERSION_AT = 7;
const STATUS_AT = 9;
const DIGITS = /^\d{1,15}$/;
const CONTENT_LENGTH = "content-length";
const TRANSFER_ENCODING = "transfer-encoding";
const CONNECTION = "connection";
