import { type HoconNode, scalarText } from "./tree.ts";

/**
 * How MidoNet's getters read a value: with the coercions of the reference implementation. Each gives undefined
 * for a value of the wrong type.
 *
 * @source Typesafe config 1.2.1, SimpleConfig and DefaultTransformer
 */

/** true, yes, on, false, no, off; lower case, as a word or in quotes. */
export function asBoolean(node: HoconNode): boolean | undefined {
  const text = node.kind === "number" ? undefined : scalarText(node);
  if (text === "true" || text === "yes" || text === "on") return true;
  return text === "false" || text === "no" || text === "off" ? false : undefined;
}

/** Any scalar but null, with the text it was written with. */
export function asText(node: HoconNode): string | undefined {
  return node.kind === "null" ? undefined : scalarText(node);
}

/** A number, or a string that is one. */
export function asNumber(node: HoconNode): number | undefined {
  const text = node.kind === "number" || node.kind === "string" ? node.text.trim() : "";
  return /^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$/.test(text) ? Number(text) : undefined;
}

/** A number within 32 bits; what follows the decimal point is cut off. */
export function asInteger(node: HoconNode): number | undefined {
  const number = asNumber(node);
  return number === undefined || Math.abs(number) >= 2 ** 31 ? undefined : Math.trunc(number);
}

/** A duration such as `15s`, `1.5 minutes` or `500` (milliseconds), in milliseconds. */
export function asMillis(node: HoconNode): number | undefined {
  return withUnit(node, millisPerUnit);
}

/** A size such as `512K`, `1 MiB`, `10 megabytes` or `100` (bytes), in bytes. */
export function asBytes(node: HoconNode): number | undefined {
  return withUnit(node, bytesPerUnit);
}

/** Each item of a list, read by one of the other functions; undefined if it is no list or one item does not fit. */
export function asList<T>(
  node: HoconNode,
  read: (item: HoconNode) => T | undefined,
): readonly T[] | undefined {
  if (node.kind !== "list") return undefined;
  const items = node.items.map(read).filter((item) => item !== undefined);
  return items.length === node.items.length ? items : undefined;
}

function withUnit(node: HoconNode, factorOf: (unit: string) => number | undefined): number | undefined {
  if (node.kind === "number") return Math.trunc(Number(node.text));
  if (node.kind !== "string") return undefined;
  const match = /^\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(\p{L}*)\s*$/u.exec(node.text);
  const factor = factorOf(match?.[2] ?? "");
  return match === null || factor === undefined ? undefined : Number(match[1]) * factor;
}

const MILLIS: ReadonlyMap<string, number> = new Map([
  ["ns", 1e-6],
  ["nanos", 1e-6],
  ["nanoseconds", 1e-6],
  ["us", 1e-3],
  ["micros", 1e-3],
  ["microseconds", 1e-3],
  ["", 1],
  ["ms", 1],
  ["millis", 1],
  ["milliseconds", 1],
  ["s", 1_000],
  ["seconds", 1_000],
  ["m", 60_000],
  ["minutes", 60_000],
  ["h", 3_600_000],
  ["hours", 3_600_000],
  ["d", 86_400_000],
  ["days", 86_400_000],
]);

function millisPerUnit(unit: string): number | undefined {
  return MILLIS.get(plural(unit));
}

const PREFIXES = ["", "kilo", "mega", "giga", "tera", "peta", "exa", "zetta", "yotta"];
const BINARY_PREFIXES = ["", "kibi", "mebi", "gibi", "tebi", "pebi", "exbi", "zebi", "yobi"];
const LETTERS = ["", "K", "M", "G", "T", "P", "E", "Z", "Y"];

function bytesPerUnit(unit: string): number | undefined {
  if (["", "B", "b", "byte", "bytes"].includes(unit)) return 1;
  for (const [power, letter] of LETTERS.entries()) {
    if (power === 0) continue;
    const decimal = [`${letter === "K" ? "k" : letter}B`, `${PREFIXES[power]}bytes`];
    const binary = [
      letter,
      letter.toLowerCase(),
      `${letter}i`,
      `${letter}iB`,
      `${BINARY_PREFIXES[power]}bytes`,
    ];
    if (decimal.includes(unit) || decimal.includes(plural(unit))) return 1000 ** power;
    if (binary.includes(unit) || binary.includes(plural(unit))) return 1024 ** power;
  }
  return undefined;
}

function plural(unit: string): string {
  return unit.length > 2 && !unit.endsWith("s") ? `${unit}s` : unit;
}
