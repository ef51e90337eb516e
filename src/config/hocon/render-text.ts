const SHORT_ESCAPES: ReadonlyMap<string, string> = new Map([
  ['"', '\\"'],
  ["\\", "\\\\"],
  ["\n", "\\n"],
  ["\b", "\\b"],
  ["\f", "\\f"],
  ["\r", "\\r"],
  ["\t", "\\t"],
]);

/** A string in double quotes, escaped as the reference implementation does. */
export function renderString(text: string): string {
  const escaped = text.replace(/["\\]|\p{Cc}/gu, (character) => {
    const hex = character.charCodeAt(0).toString(16).padStart(4, "0");
    return SHORT_ESCAPES.get(character) ?? `\\u${hex}`;
  });
  return `"${escaped}"`;
}

/** A string without quotes where it is sure to be read as the same string, else in quotes. */
export function renderStringBare(text: string): string {
  const plain =
    /^[\p{L}\p{Nd}-]+$/u.test(text) && !/^[\p{Nd}-]/u.test(text) && !/^(include|true|false|null)/.test(text);
  return plain ? text : renderString(text);
}

/** A number as Java prints it: `0123` is `123`, `1e3` is `1000`, `1.50` is `1.5`, `1e-9` is `1.0E-9`. */
export function renderNumber(text: string): string {
  if (/^-?\d+$/.test(text)) return BigInt(text).toString();
  const value = Number(text);
  if (Number.isInteger(value) && Math.abs(value) < 2 ** 63) return BigInt(value).toString();
  const size = Math.abs(value);
  if (size >= 1e-3 && size < 1e7) return String(value);
  const [mantissa = "", exponent = ""] = value.toExponential().split("e");
  return `${mantissa.includes(".") ? mantissa : `${mantissa}.0`}E${exponent.replace("+", "")}`;
}
