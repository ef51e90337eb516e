import { NsdbError } from "./error.ts";

/** One field, in the order of the text. What repeats is there several times. */
export interface ProtobufField {
  readonly name: string;
  readonly value: ProtobufValue;
}

/** A scalar keeps its spelling (`42`, `0x2a`, `V4`, `true`): only a schema could tell what it is. */
export type ProtobufValue =
  | { readonly kind: "message"; readonly fields: readonly ProtobufField[] }
  | { readonly kind: "string"; readonly bytes: Buffer }
  | { readonly kind: "scalar"; readonly text: string };

/** Deeper than any object of MidoNet's, and shallow enough for any stack. */
const DEEPEST = 64;

/** Twice what MidoNet's jute.maxbuffer lets a znode hold. */
const LONGEST = 8 * 1024 * 1024;

/**
 * The fields of protobuf text, of whatever type: nothing is unknown here. As tolerant as MidoNet's parser:
 * comments, either quote, joined strings, `<…>`, optional `:` before a message, `,` or `;` after a field, `[a, b]`.
 *
 * @param skim Sees where each field of the outermost message begins, and may take it and more by itself: it returns where
 *   it stopped. For fields that repeat by the thousand in a spelling that can be told at a glance.
 * @throws {NsdbError} `malformed`, with line and column.
 * @source protobuf-java 2.6.1, TextFormat.Tokenizer and TextFormat.merge
 */
export function parseProtobufText(
  text: string,
  skim: (text: string, at: number) => number = (_, at) => at,
): ProtobufField[] {
  if (text.length > LONGEST) {
    throw new NsdbError(
      "malformed",
      `the text is ${text.length} characters long, but should be at most ${LONGEST}`,
    );
  }
  const tokens = new Tokens(text);
  const fields: ProtobufField[] = [];
  while (tokens.kind !== "end") {
    const at = skim(text, tokens.at);
    if (at > tokens.at) tokens.skipTo(at);
    else parseField(tokens, 0, fields);
  }
  return fields;
}

/** The text as MidoNet prints it, if the fields are in the order of their numbers. @source TextFormat.Printer */
export function printProtobufText(fields: readonly ProtobufField[], indent = ""): string {
  let text = "";
  for (const { name, value } of fields) {
    if (value.kind === "message") {
      text += `${indent}${name} {\n${printProtobufText(value.fields, `${indent}  `)}${indent}}\n`;
    } else {
      text += `${indent}${name}: ${value.kind === "string" ? quote(value.bytes) : value.text}\n`;
    }
  }
  return text;
}

function parseMessage(tokens: Tokens, end: string, depth: number): ProtobufField[] {
  if (depth > DEEPEST) throw tokens.wrong(`messages are nested more than ${DEEPEST} deep`);
  const fields: ProtobufField[] = [];
  while (tokens.text !== end && tokens.kind !== "end") parseField(tokens, depth, fields);
  tokens.expect(end);
  return fields;
}

/** Adds one field, or as many as it has values in a list. */
function parseField(tokens: Tokens, depth: number, fields: ProtobufField[]): void {
  const name = parseName(tokens);
  const hasColon = tokens.take(":");
  if (tokens.take("[")) {
    while (!tokens.take("]")) {
      fields.push({ name, value: parseValue(tokens, hasColon, depth) });
      if (tokens.text !== "]") tokens.expect(",");
    }
  } else {
    fields.push({ name, value: parseValue(tokens, hasColon, depth) });
  }
  if (!tokens.take(";")) tokens.take(",");
}

function parseName(tokens: Tokens): string {
  if (tokens.take("[")) {
    let name = "";
    while (tokens.kind === "word" || tokens.text === "." || tokens.text === "/") name += tokens.next();
    tokens.expect("]");
    return `[${name}]`;
  }
  // The printer gives a field that it has no name for by number.
  if (tokens.kind === "word" || /^\d+$/.test(tokens.text)) return tokens.next();
  throw tokens.wrong("a field's name should be here");
}

function parseValue(tokens: Tokens, hasColon: boolean, depth: number): ProtobufValue {
  if (tokens.take("{")) return { kind: "message", fields: parseMessage(tokens, "}", depth + 1) };
  if (tokens.take("<")) return { kind: "message", fields: parseMessage(tokens, ">", depth + 1) };
  if (!hasColon) throw tokens.wrong('":" or "{" should be here');
  if (tokens.kind === "string") {
    const parts: Buffer[] = [];
    while (tokens.kind === "string") parts.push(unquote(tokens));
    return {
      kind: "string",
      bytes: parts.length === 1 && parts[0] !== undefined ? parts[0] : Buffer.concat(parts),
    };
  }
  if (tokens.kind === "word" || tokens.kind === "number") return { kind: "scalar", text: tokens.next() };
  throw tokens.wrong("a value should be here");
}

type TokenKind = "word" | "number" | "string" | "symbol" | "end";

/** What a character can be part of; those above ASCII, as most signs, are symbols. */
const [BLANK, LETTER, DIGIT, SIGN, DOT, QUOTE] = [1, 2, 4, 8, 16, 32];
const WORD = LETTER | DIGIT | SIGN;
const NUMBER = WORD | DOT;
const CLASSES = new Uint8Array(128);
for (const [kind, characters] of [
  [BLANK, "\t\n\v\f\r "],
  [LETTER, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_"],
  [DIGIT, "0123456789"],
  [SIGN, "+-"],
  [DOT, "."],
  [QUOTE, "\"'"],
] as const) {
  for (const character of characters) CLASSES[character.charCodeAt(0)] = kind;
}

const NEWLINE = 10;
const HASH = 35;
const BACKSLASH = 92;

/**
 * A cursor: the token at it, and ways to go on. Looks at one character after the other, and makes no more of it than the
 * token's text: thousands of objects are read at a start.
 */
class Tokens {
  readonly #source: string;
  #at = 0;
  kind: TokenKind = "end";
  text = "";

  constructor(source: string) {
    this.#source = source;
    this.#read();
  }

  /** Where the token begins. */
  get at(): number {
    return this.#at;
  }

  skipTo(at: number): void {
    this.#at = at;
    this.#read();
  }

  /** Gives the token and goes on. */
  next(): string {
    const { text } = this;
    this.#at += text.length;
    this.#read();
    return text;
  }

  take(symbol: string): boolean {
    if (this.kind !== "symbol" || this.text !== symbol) return false;
    this.next();
    return true;
  }

  expect(symbol: string): void {
    if (!this.take(symbol)) throw this.wrong(`"${symbol}" should be here`);
  }

  wrong(why: string): NsdbError {
    const before = this.#source.slice(0, this.#at).split("\n");
    const column = (before.at(-1)?.length ?? 0) + 1;
    const found = this.kind === "end" ? "the end of the text" : JSON.stringify(this.text.slice(0, 40));
    return new NsdbError("malformed", `line ${before.length}, column ${column} is ${found}: ${why}`);
  }

  #read(): void {
    this.#skipBlanks();
    const start = this.#at;
    const first = this.#classAt(start);
    let end = start + 1;
    if (start >= this.#source.length) {
      this.kind = "end";
      end = start;
    } else if (first === LETTER) {
      this.kind = "word";
      end = this.#endOf(WORD, end);
    } else if ((first & (DIGIT | SIGN)) !== 0 || (first === DOT && this.#isNumberAt(end))) {
      this.kind = "number";
      end = this.#endOf(NUMBER, end);
    } else if (first === QUOTE) {
      this.kind = "string";
      end = this.#endOfString(start);
    } else {
      this.kind = "symbol";
    }
    this.text = this.#source.slice(start, end);
  }

  #classAt(at: number): number {
    return at < this.#source.length ? (CLASSES[this.#source.charCodeAt(at)] ?? 0) : 0;
  }

  #isNumberAt(at: number): boolean {
    return (this.#classAt(at) & (DIGIT | SIGN)) !== 0;
  }

  #endOf(kinds: number, at: number): number {
    let end = at;
    while ((this.#classAt(end) & kinds) !== 0) end += 1;
    return end;
  }

  #endOfString(start: number): number {
    const quote = this.#source.charCodeAt(start);
    for (let at = start + 1; at < this.#source.length; at += 1) {
      let code = this.#source.charCodeAt(at);
      if (code === quote) return at + 1;
      if (code === BACKSLASH) code = this.#source.charCodeAt(++at);
      if (code === NEWLINE) break;
    }
    throw this.#unterminated();
  }

  #skipBlanks(): void {
    for (;;) {
      if (this.#classAt(this.#at) === BLANK) {
        this.#at += 1;
      } else if (this.#source.charCodeAt(this.#at) === HASH) {
        const end = this.#source.indexOf("\n", this.#at);
        this.#at = end === -1 ? this.#source.length : end;
      } else {
        return;
      }
    }
  }

  #unterminated(): NsdbError {
    const line = this.#source.slice(0, this.#at).split("\n").length;
    return new NsdbError("malformed", `line ${line} has a string without its closing quote`);
  }
}

const ESCAPES: ReadonlyMap<string, number> = new Map([
  ["a", 7],
  ["b", 8],
  ["t", 9],
  ["n", 10],
  ["v", 11],
  ["f", 12],
  ["r", 13],
  ['"', 34],
  ["'", 39],
  ["?", 63],
  ["\\", 92],
]);

function unquote(tokens: Tokens): Buffer {
  const quoted = tokens.text;
  const body = quoted.slice(1, -1);
  if (!body.includes("\\")) {
    tokens.next();
    return Buffer.from(body, "utf8");
  }
  const parts: Buffer[] = [];
  for (const [piece, octal, hex, letter] of body.matchAll(
    /\\([0-7]{1,3})|\\[xX]([0-9a-fA-F]{1,2})|\\(.)|[^\\]+/gsu,
  )) {
    if (octal !== undefined) parts.push(Buffer.of(Number.parseInt(octal, 8) & 0xff));
    else if (hex !== undefined) parts.push(Buffer.of(Number.parseInt(hex, 16)));
    else if (letter === undefined) parts.push(Buffer.from(piece, "utf8"));
    else {
      const byte = ESCAPES.get(letter);
      if (byte === undefined) throw tokens.wrong(`"\\${letter}" is no escape sequence`);
      parts.push(Buffer.of(byte));
    }
  }
  tokens.next();
  return Buffer.concat(parts);
}

const PRINTED_ESCAPES: ReadonlyMap<number, string> = new Map(
  [...ESCAPES].filter(([letter]) => letter !== "?").map(([letter, byte]) => [byte, `\\${letter}`]),
);

function quote(bytes: Buffer): string {
  let text = "";
  for (const byte of bytes) {
    const escaped = PRINTED_ESCAPES.get(byte);
    if (escaped !== undefined) text += escaped;
    else if (byte >= 0x20 && byte <= 0x7f) text += String.fromCharCode(byte);
    else text += `\\${byte.toString(8).padStart(3, "0")}`;
  }
  return `"${text}"`;
}
