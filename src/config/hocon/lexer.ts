import { HoconError } from "./error.ts";

/** Signs that stand for themselves. */
export type Punctuation = "{" | "}" | "[" | "]" | ":" | "=" | "+=" | ",";

/**
 * A token. `space` is white space between things of which one is no simple value; white space between two
 * simple values is `text`, because it is part of the string that they form together.
 */
export type Token = { readonly line: number } & (
  | { readonly kind: Punctuation | "newline" | "comment" | "space" | "null" | "end" }
  | { readonly kind: "text" | "string" | "number"; readonly text: string }
  | { readonly kind: "boolean"; readonly value: boolean }
  | { readonly kind: "reference"; readonly optional: boolean; readonly path: readonly Token[] }
);

/** @source jute.maxbuffer of MidoNet's clients (`zookeeper.buffer_size`): no znode is larger */
export const MAX_LENGTH = 4 * 1024 * 1024;
const RESERVED = new Set('$"{}[]:=,+#`^?!@*&\\');
const NUMBER_CHARACTERS = new Set("0123456789eE+-.");
const ESCAPES: ReadonlyMap<string, string> = new Map([
  ['"', '"'],
  ["\\", "\\"],
  ["/", "/"],
  ["b", "\b"],
  ["f", "\f"],
  ["n", "\n"],
  ["r", "\r"],
  ["t", "\t"],
]);
const INTEGER = /^-?\d+$/;
const DECIMAL = /^-?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$/;
const LONG_MAX = 2n ** 63n - 1n;
// Java's Character.isWhitespace with what the reference implementation adds (no-break spaces, BOM) is all of \s
// and the four information separators.
const SEPARATORS = new Set(["\u001c", "\u001d", "\u001e", "\u001f"]);
const WHITE_SPACE = /\s/;

/** Whether a text is white space only. */
export function isBlank(text: string): boolean {
  return [...text].every(isWhiteSpace);
}

function isWhiteSpace(character: string): boolean {
  return WHITE_SPACE.test(character) || SEPARATORS.has(character);
}

/** Whether a token can be a part of a string made of neighbours. */
export function isSimpleValue(token: Token): boolean {
  switch (token.kind) {
    case "text":
    case "string":
    case "number":
    case "boolean":
    case "null":
    case "reference":
      return true;
    default:
      return false;
  }
}

/**
 * All tokens of a text, the last of which is `end`.
 *
 * @throws {HoconError} `syntax`, or `limit` above 4 MiB.
 */
export function tokenise(text: string): Token[] {
  if (text.length > MAX_LENGTH)
    throw new HoconError("limit", `the text has ${text.length} characters; at most ${MAX_LENGTH} are read`);
  const lexer = new Lexer(text);
  const tokens: Token[] = [];
  do tokens.push(...lexer.next());
  while (tokens.at(-1)?.kind !== "end");
  return tokens;
}

class Lexer {
  readonly #text: string;
  #at = 0;
  #line = 1;
  #afterSimpleValue = false;
  #insideReference = false;

  constructor(text: string) {
    this.#text = text;
  }

  /** The next token, and before it the white space, if that means anything. */
  next(): Token[] {
    const line = this.#line;
    const space = this.#whitespace();
    const afterSimpleValue = this.#afterSimpleValue;
    const token = this.#token();
    const simple = isSimpleValue(token);
    const joins = afterSimpleValue && simple;
    this.#afterSimpleValue = simple;
    if (space === "") return [token];
    return [joins ? { kind: "text", text: space, line } : { kind: "space", line }, token];
  }

  #peek(): string {
    return this.#text.charAt(this.#at);
  }

  #whitespace(): string {
    const from = this.#at;
    while (this.#peek() !== "\n" && isWhiteSpace(this.#peek())) this.#at += 1;
    return this.#text.slice(from, this.#at);
  }

  #startsComment(): boolean {
    return this.#peek() === "#" || this.#text.startsWith("//", this.#at);
  }

  #token(): Token {
    const line = this.#line;
    const character = this.#peek();
    if (character === "") return { kind: "end", line };
    if (this.#startsComment()) {
      while (this.#peek() !== "\n" && this.#peek() !== "") this.#at += 1;
      return { kind: "comment", line };
    }
    switch (character) {
      case "\n":
        this.#at += 1;
        this.#line += 1;
        return { kind: "newline", line };
      case "{":
      case "}":
      case "[":
      case "]":
      case ":":
      case "=":
      case ",":
        this.#at += 1;
        return { kind: character, line };
      case "+":
        if (!this.#text.startsWith("+=", this.#at)) throw reserved("+", line);
        this.#at += 2;
        return { kind: "+=", line };
      case '"':
        return this.#string();
      case "$":
        return this.#reference();
      default:
        return /[-0-9]/.test(character) ? this.#number() : this.#unquoted();
    }
  }

  #number(): Token {
    const from = this.#at;
    while (this.#peek() !== "" && NUMBER_CHARACTERS.has(this.#peek())) this.#at += 1;
    const text = this.#text.slice(from, this.#at);
    const line = this.#line;
    if (INTEGER.test(text) && BigInt(text) <= LONG_MAX && BigInt(text) >= -LONG_MAX - 1n)
      return { kind: "number", text, line };
    if (!INTEGER.test(text) && DECIMAL.test(text)) {
      if (!Number.isFinite(Number(text))) throw new HoconError("syntax", "a number is out of range", line);
      return { kind: "number", text, line };
    }
    if (text.includes("+")) throw reserved("+", line);
    return { kind: "text", text, line };
  }

  #unquoted(): Token {
    const from = this.#at;
    const line = this.#line;
    while (this.#peek() !== "" && !RESERVED.has(this.#peek())) {
      if (isWhiteSpace(this.#peek()) || this.#startsComment()) break;
      this.#at += 1;
      // A literal ends where it is complete: what follows is its neighbour, and they form a string.
      const text = this.#text.slice(from, this.#at);
      if (text === "true" || text === "false") return { kind: "boolean", value: text === "true", line };
      if (text === "null") return { kind: "null", line };
    }
    if (this.#at === from) throw reserved(this.#peek(), line);
    return { kind: "text", text: this.#text.slice(from, this.#at), line };
  }

  #string(): Token {
    const line = this.#line;
    if (this.#text.startsWith('"""', this.#at)) return this.#tripleQuoted();
    this.#at += 1;
    let text = "";
    for (;;) {
      const character = this.#peek();
      if (character === "") throw new HoconError("syntax", "a quoted string is not closed", line);
      if (character < " ")
        throw new HoconError(
          "syntax",
          "a quoted string goes over the end of its line, or holds a control character; write \\n or \\u0000 for it",
          line,
        );
      this.#at += 1;
      if (character === '"') return { kind: "string", text, line };
      text += character === "\\" ? this.#escape() : character;
    }
  }

  #escape(): string {
    const character = this.#peek();
    this.#at += 1;
    if (character === "u") {
      const digits = this.#text.slice(this.#at, this.#at + 4);
      if (!/^[0-9a-fA-F]{4}$/.test(digits))
        throw new HoconError("syntax", "\\u in a quoted string needs four hexadecimal digits", this.#line);
      this.#at += 4;
      return String.fromCharCode(Number.parseInt(digits, 16));
    }
    const meant = ESCAPES.get(character);
    if (meant === undefined)
      throw new HoconError(
        "syntax",
        `\\${character} in a quoted string means nothing; write \\\\ for a backslash`,
        this.#line,
      );
    return meant;
  }

  #tripleQuoted(): Token {
    const line = this.#line;
    const from = this.#at + 3;
    let end = this.#text.indexOf('"""', from);
    if (end < 0) throw new HoconError("syntax", 'a """ string is not closed', line);
    // Of more than three quotes the last three close the string.
    while (this.#text.charAt(end + 3) === '"') end += 1;
    const text = this.#text.slice(from, end);
    this.#line += text.split("\n").length - 1;
    this.#at = end + 3;
    return { kind: "string", text, line };
  }

  #reference(): Token {
    const line = this.#line;
    if (!this.#text.startsWith("${", this.#at))
      throw new HoconError("syntax", '"$" must be followed by "{", or stand in a quoted string', line);
    this.#at += 2;
    const optional = this.#peek() === "?";
    if (optional) this.#at += 1;
    if (this.#insideReference) throw new HoconError("syntax", "a reference cannot hold another one", line);
    this.#insideReference = true;
    const path: Token[] = [];
    this.#afterSimpleValue = false;
    for (;;) {
      for (const token of this.next()) {
        if (token.kind === "}") {
          this.#insideReference = false;
          return { kind: "reference", optional, path, line };
        }
        if (token.kind === "end") throw new HoconError("syntax", `"$\{" is not closed with "}"`, line);
        if (token.kind !== "space") path.push(token);
      }
    }
  }
}

function reserved(character: string, line: number): HoconError {
  return new HoconError(
    "syntax",
    `"${character}" is reserved: a text that holds it must be in double quotes`,
    line,
  );
}
