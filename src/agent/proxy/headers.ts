/**
 * What passes between guest and nova, and what does not. Lists are node's raw form: name, value, name, value,
 * in the order and the letter case of the sender.
 */

/** The outcome of screening a guest's headers. */
export type Screened =
  | {
      readonly kind: "pass";
      readonly headers: readonly string[];
      /** The same as they stand in a request. */
      readonly headerLines: string;
      /** Bytes of the body that follows; undefined where it is chunked and its length not known yet. */
      readonly bodyLength: number | undefined;
      readonly imdsToken: string | undefined;
      readonly imdsTtl: string | undefined;
      /** Whether the guest sent an X-Forwarded-For: a sign that something in it was talked into asking. */
      readonly wasForwarded: boolean;
      /** The value of an Expect header. */
      readonly expects: string | undefined;
    }
  | { readonly kind: "refuse"; readonly status: number; readonly reason: string };

/**
 * The headers of a guest's request that may go to nova: without the hop-by-hop ones, those that `Connection`
 * names, and every spelling of those by which nova knows a guest. WSGI reads `-` and `_` alike and joins equal
 * names with a comma, so one underscore of a guest would turn a good request into a 403.
 *
 * @param isHttp11 HTTP/1.1 demands a Host and knows Transfer-Encoding; 1.0 does neither (RFC 9112 §3.2, §6.1).
 * @source nova contract §2 (underscores, X-Metadata-Provider); RFC 9110 §7.6.1
 */
export function screenRequest(raw: readonly string[], isHttp11: boolean): Screened {
  if (raw.length > 2 * MAX_HEADERS) return refuse(431, `more than ${MAX_HEADERS} headers`);
  const headers: string[] = [];
  let named: Set<string> | undefined;
  let hosts = 0;
  let bodyLength: number | undefined = 0;
  let imdsToken: string | undefined;
  let imdsTtl: string | undefined;
  let wasForwarded = false;
  let expects: string | undefined;
  for (let i = 0; i < raw.length; i += 2) {
    const name = raw[i] as string; // node's list holds pairs
    const value = raw[i + 1] as string;
    if (FORBIDDEN_IN_VALUE.test(value)) return refuse(400, "a header value holds a control character");
    switch (ruleFor(canonical(name))) {
      case undefined:
        headers.push(name, value);
        break;
      case "host":
        if (++hosts > 1) return refuse(400, "more than one Host header");
        break;
      case "connection":
        named = namesIn(value, named);
        if (named !== undefined && named.size > MAX_NAMED)
          return refuse(431, `Connection names more than ${MAX_NAMED} headers`);
        break;
      case "content-length":
        // An underscore makes it another header, which the parser has not looked at.
        if (!name.includes("_")) bodyLength = Number(value);
        break;
      case "transfer-encoding":
        if (name.includes("_")) break;
        if (!isHttp11) return refuse(400, "Transfer-Encoding in HTTP/1.0");
        if (value.toLowerCase() !== "chunked") return refuse(501, "a Transfer-Encoding other than chunked");
        bodyLength = undefined;
        break;
      case "token":
        imdsToken = value;
        break;
      case "token-ttl":
        imdsTtl = value;
        break;
      case "forwarded":
        wasForwarded = true;
        break;
      case "expect":
        if (!name.includes("_")) expects = value;
        break;
      case "drop":
        break;
    }
  }
  if (hosts === 0 && isHttp11) return refuse(400, "no Host header");
  const kept = named === undefined ? headers : without(headers, named);
  const headerLines = headerLinesOf(kept);
  return { kind: "pass", headers: kept, headerLines, bodyLength, imdsToken, imdsTtl, wasForwarded, expects };
}

/** The headers of nova's answer that a guest gets: all but the hop-by-hop ones. */
export function screenResponse(raw: readonly string[]): string[] {
  const headers: string[] = [];
  let named: Set<string> | undefined;
  for (let i = 0; i < raw.length; i += 2) {
    const name = raw[i] as string; // pairs
    const value = raw[i + 1] as string;
    const lower = HOP_BY_HOP_LENGTHS.includes(name.length) ? name.toLowerCase() : "";
    if (lower === "connection") named = namesIn(value, named);
    else if (!HOP_BY_HOP.has(lower)) headers.push(name, value);
  }
  return named === undefined ? headers : without(headers, named);
}

/** Whether a list of headers holds that name (lower case). */
export function hasHeader(headers: readonly string[], name: string): boolean {
  for (let i = 0; i < headers.length; i += 2) {
    const candidate = headers[i] as string; // pairs
    if (candidate.length === name.length && candidate.toLowerCase() === name) return true;
  }
  return false;
}

/** Headers as they stand in a request or an answer. */
export function headerLinesOf(headers: readonly string[]): string {
  let lines = "";
  for (let i = 0; i < headers.length; i += 2) lines += `${headers[i]}: ${headers[i + 1]}\r\n`;
  return lines;
}

/** @source nova contract §5: eventlet refuses more than about 100, uwsgi falls silent between 101 and 150 */
const MAX_HEADERS = 128;
/** No client names more than a few. */
const MAX_NAMED = 64;
const FORBIDDEN_IN_VALUE = /[^\t\x20-\x7e\x80-\xff]/;
const HOP_BY_HOP: ReadonlySet<string> = new Set([
  "connection",
  "keep-alive",
  "proxy-authenticate",
  "proxy-authorization",
  "proxy-connection",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
  "http2-settings",
]);
const HOP_BY_HOP_LENGTHS = [...new Set([...HOP_BY_HOP].map((name) => name.length))];

type Rule =
  | "drop"
  | "host"
  | "connection"
  | "content-length"
  | "transfer-encoding"
  | "token"
  | "token-ttl"
  | "forwarded"
  | "expect";
const REQUEST_RULES: ReadonlyMap<string, Rule> = new Map<string, Rule>([
  ...[...HOP_BY_HOP].map((name): [string, Rule] => [name, "drop"]),
  ["host", "host"],
  ["connection", "connection"],
  ["transfer-encoding", "transfer-encoding"],
  ["x-aws-ec2-metadata-token", "token"],
  ["x-aws-ec2-metadata-token-ttl-seconds", "token-ttl"],
  ["content-length", "content-length"],
  ["expect", "expect"],
  ["x-forwarded-for", "forwarded"],
  ["x-instance-id", "drop"],
  ["x-tenant-id", "drop"],
  ["x-instance-id-signature", "drop"],
]);

function canonical(name: string): string {
  const lower = name.toLowerCase();
  return lower.includes("_") ? lower.replaceAll("_", "-") : lower;
}

/** Any `X-Metadata-Provider…` would switch nova to its load balancer's way of knowing guests. */
function ruleFor(name: string): Rule | undefined {
  return REQUEST_RULES.get(name) ?? (name.startsWith("x-metadata-provider") ? "drop" : undefined);
}

/**
 * Undefined where `Connection` names no header, which is nearly always. What is known is added to in place: made anew
 * for each of a hundred such headers, it stops everybody for as long as the square of them takes.
 */
function namesIn(value: string, known: Set<string> | undefined): Set<string> | undefined {
  if (value === "close" || value === "keep-alive") return known;
  const names = known ?? new Set();
  for (const name of value.split(",")) names.add(canonical(name.trim()));
  return names;
}

function without(headers: readonly string[], names: ReadonlySet<string>): string[] {
  return headers.filter((_, i) => !names.has(canonical(headers[i - (i % 2)] as string)));
}

function refuse(status: number, reason: string): Screened {
  return { kind: "refuse", status, reason };
}

/** Whether a request may have a body that does not come before it is told to. */
export function hasExpect(headers: readonly string[]): boolean {
  return headers.some((name, at) => at % 2 === 0 && name.toLowerCase() === "expect");
}
