import { HoconError } from "./error.ts";
import { type Token, tokenise } from "./lexer.ts";
import { renderString } from "./render-text.ts";

/** Deeper than any configuration, and shallow enough for recursion. */
export const MAX_DEPTH = 128;

/**
 * The elements of a key such as `agent."10.0.0.1".level`.
 *
 * @throws {HoconError} `path` or `syntax`.
 */
export function parsePath(text: string): readonly string[] {
  return pathOf(tokenise(text.trim()).filter((token) => token.kind !== "end" && token.kind !== "space"));
}

/** The text of a key; {@link parsePath} gives the elements back. */
export function renderPath(path: readonly string[]): string {
  return path
    .map((element) => (/^[\p{L}\p{Nd}_-]+$/u.test(element) ? element : renderString(element)))
    .join(".");
}

/**
 * The elements that a row of tokens names: dots outside of quotes separate them.
 *
 * @throws {HoconError} `path` if it is empty, has an empty element without quotes, or a token that is no name.
 */
export function pathOf(tokens: readonly Token[]): readonly string[] {
  const line = tokens[0]?.line;
  if (tokens.length === 0) throw new HoconError("path", "a key is expected, but there is none", line);
  const elements = [{ text: "", mayBeEmpty: false }];
  for (const token of tokens) {
    const [first = "", ...more] = token.kind === "string" ? [token.text] : unquotedText(token).split(".");
    const last = elements.at(-1);
    if (last !== undefined) {
      last.text += first;
      if (token.kind === "string" && last.text === "") last.mayBeEmpty = true;
    }
    for (const text of more) elements.push({ text, mayBeEmpty: false });
  }
  if (elements.some((element) => element.text === "" && !element.mayBeEmpty))
    throw new HoconError("path", 'a key has a "." at its start, at its end or beside another one', line);
  if (elements.length > MAX_DEPTH)
    throw new HoconError(
      "limit",
      `a key has ${elements.length} elements; at most ${MAX_DEPTH} are read`,
      line,
    );
  return elements.map((element) => element.text);
}

function unquotedText(token: Token): string {
  switch (token.kind) {
    case "text":
    case "number":
      return token.text;
    case "boolean":
      return String(token.value);
    case "null":
      return "null";
    default:
      throw new HoconError(
        "path",
        `a key cannot hold ${tokenName(token)} outside of double quotes`,
        token.line,
      );
  }
}

/** What a token is called in a sentence. */
export function tokenName(token: Token): string {
  switch (token.kind) {
    case "end":
      return "the end of the text";
    case "newline":
      return "the end of the line";
    case "reference":
      return "a reference";
    case "text":
    case "string":
    case "number":
    case "boolean":
    case "null":
    case "comment":
    case "space":
      return `a ${token.kind}`;
    default:
      return `"${token.kind}"`;
  }
}
