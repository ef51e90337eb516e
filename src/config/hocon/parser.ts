import { HoconError } from "./error.ts";
import { isBlank, type Token, tokenise } from "./lexer.ts";
import { join, MAX_PIECES, withFallback } from "./merge.ts";
import { MAX_DEPTH, pathOf, renderPath, tokenName } from "./path.ts";
import {
  type HoconNode,
  listOf,
  type ObjectNode,
  type Origin,
  objectOf,
  type ReferenceNode,
} from "./tree.ts";

/**
 * Reads a HOCON text, such as the content of a znode or what an operator typed. References stay references.
 *
 * @param source What the text is, for error messages and origins: `/config/templates/default`.
 * @throws {HoconError} `syntax`, `path`, `type`, `limit`, or `include`: nothing is read but the text itself.
 */
export function parseHocon(text: string, source: string): ObjectNode {
  try {
    return new Parser(tokenise(text), source).document();
  } catch (error) {
    if (!(error instanceof HoconError)) throw error;
    const where = error.line === undefined ? source : `${source}, line ${error.line}`;
    throw new HoconError(error.code, `Cannot read "${where}": ${error.message}`, error.line);
  }
}

type Field = { readonly path: readonly string[]; readonly value: HoconNode };

class Parser {
  readonly #tokens: readonly Token[];
  readonly #source: string;
  #at = 0;
  /** The keys around the value that is being read: `a += 1` refers to what it adds to by its whole path. */
  readonly #around: string[] = [];
  #lists = 0;
  #depth = 0;

  constructor(tokens: readonly Token[], source: string) {
    this.#tokens = tokens;
    this.#source = source;
  }

  document(): ObjectNode {
    const first = this.#skip();
    if (first.kind === "[")
      throw new HoconError("type", "there is a list where an object is expected: key = value", first.line);
    const braces = first.kind === "{";
    if (braces) this.#at += 1;
    const object = this.#object(first.line, braces);
    const last = this.#skip();
    if (last.kind !== "end")
      throw new HoconError("syntax", `there is ${tokenName(last)} after the last "}"`, last.line);
    return object;
  }

  /** The token to read next. */
  #peek(): Token {
    const token = this.#tokens[this.#at] ?? this.#tokens.at(-1);
    if (token === undefined) throw new HoconError("syntax", "there is nothing to read");
    return token;
  }

  #take(): Token {
    const token = this.#peek();
    this.#at += 1;
    return token;
  }

  /** Passes over white space, comments and line ends. */
  #skip(): Token {
    while (isIgnorable(this.#peek()) || this.#peek().kind === "newline") this.#at += 1;
    return this.#peek();
  }

  /** Passes over one comma or any number of line ends. */
  #separator(): "comma" | "newline" | undefined {
    let seen: "newline" | undefined;
    for (;;) {
      const token = this.#peek();
      if (token.kind === "newline") seen = "newline";
      else if (token.kind === ",") {
        this.#at += 1;
        return "comma";
      } else if (!isIgnorable(token)) return seen;
      this.#at += 1;
    }
  }

  #object(line: number, braces: boolean): ObjectNode {
    this.#deeper(line);
    const growing: Growing = { fields: new Map(), origin: this.#origin(line) };
    for (;;) {
      const token = this.#skip();
      if (token.kind === "end" && !braces) break;
      if (token.kind === "}" && braces) break;
      const { path, value } = this.#field();
      put(growing, path, value);
      if (this.#separator() !== undefined) continue;
      const after = this.#skip();
      if (after.kind === (braces ? "}" : "end")) break;
      throw new HoconError(
        "syntax",
        expected(braces ? '"}", a comma or a new line' : "a comma or a new line", after),
        after.line,
      );
    }
    if (braces) this.#at += 1;
    this.#depth -= 1;
    return grown(growing);
  }

  #field(): Field {
    const path = this.#key();
    const separator = this.#skip();
    const adds = separator.kind === "+=";
    if (adds && this.#lists > 0)
      throw new HoconError(
        "syntax",
        '"+=" does not work inside of a list; write the whole list',
        separator.line,
      );
    if (separator.kind === ":" || separator.kind === "=" || adds) this.#at += 1;
    else if (separator.kind !== "{")
      throw new HoconError("syntax", expected('"=", ":" or "{" after a key', separator), separator.line);
    this.#around.push(...path);
    if (this.#around.length > MAX_DEPTH)
      throw new HoconError("limit", `keys are nested more than ${MAX_DEPTH} deep`, separator.line);
    if (adds) this.#lists += 1;
    const value = separator.kind === "{" ? this.#piece() : this.#value(`a value for "${renderPath(path)}"`);
    if (adds) this.#lists -= 1;
    const whole = [...this.#around];
    this.#around.length -= path.length;
    return { path, value: adds ? this.#addition(whole, value, separator.line) : value };
  }

  #addition(path: readonly string[], value: HoconNode, line: number): HoconNode {
    const origin = this.#origin(line);
    const before: ReferenceNode = { kind: "reference", path, optional: true, origin };
    return join([before, listOf([value], origin)]) ?? before;
  }

  #key(): readonly string[] {
    const tokens: Token[] = [];
    const first = this.#peek();
    while (["text", "string", "number", "boolean", "null"].includes(this.#peek().kind))
      tokens.push(this.#take());
    if (first.kind === "text" && first.text === "include")
      throw new HoconError(
        "include",
        'include is refused: what the database says must not depend on files of the host that reads it; write the included keys here, or quote "include" if it is a key',
        first.line,
      );
    if (tokens.length === 0) throw new HoconError("syntax", expected("a key", first), first.line);
    return pathOf(tokens);
  }

  /** One value, or neighbours on the same line that form one. */
  #value(what: string): HoconNode {
    const first = this.#skip();
    const pieces: HoconNode[] = [];
    for (;;) {
      const token = this.#peek();
      if (token.kind === "space") this.#at += 1;
      else if (startsValue(token)) pieces.push(this.#piece());
      else break;
      if (pieces.length > MAX_PIECES)
        throw new HoconError("limit", `a value has more than ${MAX_PIECES} parts`, token.line);
    }
    const value = join(withoutTrailingBlank(pieces));
    if (value === undefined) throw new HoconError("syntax", expected(what, first), first.line);
    return value;
  }

  #piece(): HoconNode {
    const token = this.#take();
    const origin = this.#origin(token.line);
    switch (token.kind) {
      case "string":
        return { kind: "string", text: token.text, quoted: true, origin };
      case "text":
        return { kind: "string", text: token.text, quoted: false, origin };
      case "number":
        return { kind: "number", text: token.text, origin };
      case "boolean":
        return { kind: "boolean", value: token.value, origin };
      case "reference":
        return { kind: "reference", path: pathOf(token.path), optional: token.optional, origin };
      case "{":
        return this.#object(token.line, true);
      case "[":
        return this.#list(token.line);
      default:
        return { kind: "null", origin };
    }
  }

  #list(line: number): HoconNode {
    this.#deeper(line);
    this.#lists += 1;
    const items: HoconNode[] = [];
    while (this.#skip().kind !== "]") {
      items.push(this.#value('a value or "]"'));
      if (this.#separator() !== undefined) continue;
      const after = this.#skip();
      if (after.kind !== "]")
        throw new HoconError("syntax", expected('"]", a comma or a new line', after), after.line);
    }
    this.#at += 1;
    this.#lists -= 1;
    this.#depth -= 1;
    return listOf(items, this.#origin(line));
  }

  #deeper(line: number): void {
    this.#depth += 1;
    if (this.#depth > MAX_DEPTH)
      throw new HoconError("limit", `values are nested more than ${MAX_DEPTH} deep`, line);
  }

  #origin(line: number): Origin {
    return { source: this.#source, line };
  }
}

/**
 * An object that more is added to: to make a node of it for each key that comes would take time by the square of their
 * number, and texts with a whole path for each key are common.
 */
interface Growing {
  readonly fields: Map<string, HoconNode | Growing>;
  readonly origin: Origin | undefined;
}

/** Puts a value under a path of an object that is being read: the later one lies on top. */
function put({ fields }: Growing, [key = "", ...rest]: readonly string[], value: HoconNode): void {
  const below = fields.get(key);
  const inner =
    rest.length > 0 || (value.kind === "object" && !value.sealed) ? openedAt(below, value) : undefined;
  if (inner === undefined) {
    const top = rest.reduceRight(
      (node, name) => objectOf(new Map([[name, node]]), false, value.origin),
      value,
    );
    fields.set(key, below === undefined ? top : withFallback(top, grown(below)));
    return;
  }
  fields.set(key, inner);
  if (rest.length > 0) put(inner, rest, value);
  else if (value.kind === "object") for (const [name, node] of value.fields) put(inner, [name], node);
}

/** What is there, so that a value's fields can be put into it; undefined where they cannot. */
function openedAt(below: HoconNode | Growing | undefined, { origin }: HoconNode): Growing | undefined {
  if (below === undefined) return { fields: new Map(), origin };
  if (!("kind" in below)) return { fields: below.fields, origin: origin ?? below.origin };
  if (below.kind !== "object" || below.sealed) return undefined;
  return { fields: new Map(below.fields), origin: origin ?? below.origin };
}

function grown(object: Growing): ObjectNode;
function grown(object: HoconNode | Growing): HoconNode;
function grown(object: HoconNode | Growing): HoconNode {
  if ("kind" in object) return object;
  const fields = new Map([...object.fields].map(([key, inner]) => [key, grown(inner)] as const));
  return objectOf(fields, false, object.origin);
}

function isIgnorable(token: Token): boolean {
  return token.kind === "space" || token.kind === "comment" || (token.kind === "text" && isBlank(token.text));
}

function startsValue(token: Token): boolean {
  return (
    token.kind === "{" ||
    token.kind === "[" ||
    ["text", "string", "number", "boolean", "null", "reference"].includes(token.kind)
  );
}

function withoutTrailingBlank(pieces: readonly HoconNode[]): readonly HoconNode[] {
  const last = pieces.at(-1);
  return last?.kind === "string" && !last.quoted && isBlank(last.text) ? pieces.slice(0, -1) : pieces;
}

function expected(what: string, found: Token): string {
  return `expected ${what}, found ${tokenName(found)}`;
}
