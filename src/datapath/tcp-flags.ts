/**
 * Whether a match of `nft -j` on TCP flags holds for a packet with exactly those set; undefined where it is none, or one
 * that is not understood. `in` asks for any of some, `!` for none of them.
 */
export function flagsMatch(
  { op, left, right }: Readonly<Record<string, unknown>>,
  set: readonly string[],
): boolean | undefined {
  const { "&": masked } = (isObject(left) ? left : {}) as { readonly "&"?: unknown };
  const [field, mask] = Array.isArray(masked) ? (masked as readonly unknown[]) : [left, set];
  const kept = namesOf(mask);
  if (!isFlags(field) || kept === undefined) return undefined;
  const own = set.filter((flag) => kept.includes(flag));
  const { set: members } = (isObject(right) ? right : {}) as { readonly set?: unknown };
  const wanted = (Array.isArray(members) ? (members as readonly unknown[]) : [right]).map(namesOf);
  const isAny = (holds: (names: readonly string[]) => boolean): boolean | undefined =>
    wanted.includes(undefined) ? undefined : wanted.some((names) => names !== undefined && holds(names));
  const equal = isAny((names) => names.length === own.length && names.every((name) => own.includes(name)));
  const shared = isAny((names) => names.some((name) => own.includes(name)));
  if (op === "==") return equal;
  if (op === "!=") return equal === undefined ? undefined : !equal;
  if (op === "in") return shared;
  return op === "!" && shared !== undefined ? !shared : undefined;
}

/** nft prints several flags as a list or as one sum, and none as a number. */
function namesOf(value: unknown): readonly string[] | undefined {
  if (value === 0) return [];
  if (typeof value === "string") return [value];
  const parts = isObject(value) ? value["|"] : value;
  if (!Array.isArray(parts)) return undefined;
  const names = parts.map(namesOf);
  return names.includes(undefined) ? undefined : names.flatMap((some) => some ?? []);
}

function isFlags(field: unknown): boolean {
  const { payload } = (isObject(field) ? field : {}) as { readonly payload?: unknown };
  return isObject(payload) && payload["protocol"] === "tcp" && payload["field"] === "flags";
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
