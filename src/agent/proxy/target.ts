/**
 * The path and query of a request target, byte for byte as the guest sent them (one character a byte): no
 * decoding, no `..` or `//` taken out, since nova does its own. The authority of an absolute-form target is
 * dropped. Undefined for what is not a path (`*`, `host:port`) and for bytes that no request line may hold.
 *
 * @source RFC 9112 §3.2; measured: a path with a blank or control character makes undici refuse the request
 */
export function pathOf(target: string): string | undefined {
  const path = target.charCodeAt(0) === SLASH ? target : withoutAuthority(target);
  return path !== undefined && PATH.test(path) ? path : undefined;
}

/** The path without its query: all that may be logged. */
export function withoutQuery(path: string): string {
  const query = path.indexOf("?");
  return query < 0 ? path : path.slice(0, query);
}

const SLASH = 0x2f;
const PATH = /^\/[\x21-\x7e\x80-\xff]*$/;
const ABSOLUTE_FORM = /^https?:\/\/[^/?#]*/i;

function withoutAuthority(target: string): string | undefined {
  const prefix = ABSOLUTE_FORM.exec(target)?.[0];
  if (prefix === undefined) return undefined;
  const rest = target.slice(prefix.length);
  return rest.startsWith("/") ? rest : `/${rest}`;
}
