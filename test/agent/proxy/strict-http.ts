/** A request as a parser reads it that takes nothing but what RFC 9112 says. */
export interface StrictRequest {
  readonly method: string;
  /** As it stands in the request line. */
  readonly target: string;
  readonly version: "1.0" | "1.1";
  readonly headers: readonly (readonly [name: string, value: string])[];
  readonly body: string;
}

/**
 * Reads the requests at the beginning of a stream, up to the first that is not whole or not valid: written anew
 * from the RFC, so that a mistake in what is tested is not its own proof. One character is one byte.
 *
 * @source RFC 9112 §2 to §7, RFC 9110 §5
 */
export function readStrictly(stream: string): { readonly requests: StrictRequest[]; readonly rest: string } {
  const requests: StrictRequest[] = [];
  let rest = stream;
  for (;;) {
    // A server should ignore an empty line before a request.
    const next = readOne(rest.replace(/^(?:\r\n)+/, ""));
    if (next === undefined) return { requests, rest };
    requests.push(next.request);
    rest = next.rest;
  }
}

/** The path and query that a proxy passes on. */
export function pathAndQueryOf(target: string): string | undefined {
  if (target.startsWith("/")) return target;
  const [, after] = /^https?:\/\/[^/?#]*(.*)$/i.exec(target) ?? [];
  if (after === undefined) return undefined;
  return after.startsWith("/") ? after : `/${after}`;
}

function readOne(stream: string): { readonly request: StrictRequest; readonly rest: string } | undefined {
  const end = stream.indexOf("\r\n\r\n");
  if (end < 0) return undefined;
  const [requestLine = "", ...lines] = stream.slice(0, end).split("\r\n");
  const [, method, target, version] = REQUEST_LINE.exec(requestLine) ?? [];
  const headers = lines.map(readHeader);
  if (method === undefined || target === undefined || !headers.every((header) => header !== undefined))
    return undefined;
  const hosts = valuesOf(headers, "host").length;
  if (hosts > 1 || (hosts === 0 && version === "1.1")) return undefined;
  const body = readBody(headers, version === "1.1", stream.slice(end + 4));
  if (body === undefined) return undefined;
  const request = { method, target, version: version as "1.0" | "1.1", headers, body: body.body };
  return { request, rest: body.rest };
}

function readHeader(line: string): readonly [string, string] | undefined {
  const [, name, value] = HEADER.exec(line) ?? [];
  return name === undefined || value === undefined ? undefined : [name, value.replace(/[\t ]+$/, "")];
}

function readBody(
  headers: readonly (readonly [string, string])[],
  mayBeChunked: boolean,
  stream: string,
): { readonly body: string; readonly rest: string } | undefined {
  const codings = valuesOf(headers, "transfer-encoding");
  const lengths = valuesOf(headers, "content-length");
  if (codings.length > 0) {
    const isChunked = mayBeChunked && codings.length === 1 && codings[0]?.toLowerCase() === "chunked";
    return isChunked && lengths.length === 0 ? readChunks(stream) : undefined;
  }
  if (lengths.length === 0) return { body: "", rest: stream };
  if (lengths.length > 1 || !/^\d{1,15}$/.test(lengths[0] ?? "")) return undefined;
  const length = Number(lengths[0]);
  if (stream.length < length) return undefined;
  return { body: stream.slice(0, length), rest: stream.slice(length) };
}

function readChunks(stream: string): { readonly body: string; readonly rest: string } | undefined {
  let body = "";
  let rest = stream;
  for (;;) {
    const [line, size = ""] = CHUNK_SIZE.exec(rest) ?? [];
    if (line === undefined) return undefined;
    const length = Number.parseInt(size, 16);
    rest = rest.slice(line.length);
    if (length === 0) break;
    if (rest.slice(length, length + 2) !== "\r\n") return undefined;
    body += rest.slice(0, length);
    rest = rest.slice(length + 2);
  }
  while (!rest.startsWith("\r\n")) {
    const [line] = TRAILER.exec(rest) ?? [];
    if (line === undefined) return undefined;
    rest = rest.slice(line.length);
  }
  return { body, rest: rest.slice(2) };
}

function valuesOf(headers: readonly (readonly [string, string])[], wanted: string): string[] {
  return headers.filter(([name]) => name.toLowerCase() === wanted).map(([, value]) => value);
}

const TOKEN = "[!#$%&'*+\\-.^_`|~0-9A-Za-z]+";
const TEXT = "[\\t\\x20-\\x7e\\x80-\\xff]*";
const REQUEST_LINE = new RegExp(`^(${TOKEN}) ([\\x21-\\x7e]+) HTTP/(1\\.[01])$`);
const HEADER = new RegExp(`^(${TOKEN}):[\\t ]*(${TEXT})$`);
const CHUNK_SIZE = new RegExp(`^0*([0-9A-Fa-f]{1,8})(?:[\\t ]*;${TEXT})?\\r\\n`);
const TRAILER = new RegExp(`^${TOKEN}:${TEXT}\\r\\n`);
