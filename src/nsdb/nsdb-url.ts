import { isIPv6 } from "node:net";
import { resolve } from "node:path";
import { NsdbError } from "./error.ts";
import { assertPath } from "./paths.ts";

/** One ZooKeeper server. An IPv6 address is without its brackets. */
export interface ZookeeperHost {
  readonly host: string;
  readonly tcpPort: number;
}

/** Where the network state database is. */
export type NsdbUrl =
  | {
      readonly kind: "zookeeper";
      readonly hosts: readonly ZookeeperHost[];
      /** `/midonet`, or `/` for a tree without a root key. */
      readonly rootKey: string;
      /** `user:password` for ZooKeeper's digest scheme. Never printed. */
      readonly digest: string | undefined;
    }
  | { readonly kind: "directory"; readonly folder: string };

/** Where MidoNet looks when nothing is said. @source MidoNet nsdb.conf */
export const DEFAULT_ZOOKEEPER_HOSTS = "127.0.0.1:2181";
/** What is above everything of MidoNet's. @source MidoNet nsdb.conf */
export const DEFAULT_ROOT_KEY = "/midonet";

const DEFAULT_TCP_PORT = 2181;
const FORMS = `"zk://host:port,host:port/midonet" or "dir:/path"`;

/**
 * Reads `zk://[user:password@]host[:port],…[/root/key]` or `dir:/path`. Without a path the root key is `/midonet`.
 *
 * @throws {NsdbError} `usage`; the message never repeats credentials.
 */
export function parseNsdbUrl(text: string): NsdbUrl {
  if (text.startsWith("dir:")) return directoryUrl(text);
  const scheme = "zk://";
  if (!text.startsWith(scheme)) throw notAnUrl(text, `it should be ${FORMS}`);
  const rest = text.slice(scheme.length);
  const slash = rest.indexOf("/");
  if (/[/@].*@/.test(rest)) throw new NsdbError("usage", UNESCAPED);
  const authority = slash === -1 ? rest : rest.slice(0, slash);
  const at = authority.lastIndexOf("@");
  return {
    kind: "zookeeper",
    hosts: parseHosts(authority.slice(at + 1)),
    rootKey: slash === -1 ? DEFAULT_ROOT_KEY : parseRootKey(rest.slice(slash)),
    digest: at === -1 ? undefined : parseDigest(authority.slice(0, at)),
  };
}

const UNESCAPED =
  'Cannot read the credentials of the NSDB URL: a "/" or "@" in a user or password must be written %2F or %40';

/** The URL as text for people: credentials are left out. */
export function formatNsdbUrl(url: NsdbUrl): string {
  if (url.kind === "directory") return `dir:${url.folder}`;
  return `zk://${url.hosts.map(formatHost).join(",")}${url.rootKey}`;
}

/** `host:port`, with brackets around an IPv6 address. */
export function formatHost({ host, tcpPort }: ZookeeperHost): string {
  return host.includes(":") ? `[${host}]:${tcpPort}` : `${host}:${tcpPort}`;
}

/** A comma-separated list as in `zookeeper.zookeeper_hosts`. @throws {NsdbError} `usage`; without credentials. */
export function parseHosts(list: string): ZookeeperHost[] {
  const hosts = list
    .split(",")
    .map((item) => item.trim())
    .filter((item) => item !== "")
    .map(parseHost);
  if (hosts.length === 0)
    throw new NsdbError("usage", `Cannot read ZooKeeper hosts "${list}": none is named`);
  return hosts;
}

/** @throws {NsdbError} `usage` unless it is a znode's path; a trailing slash is allowed. */
export function parseRootKey(text: string): string {
  const rootKey = text.replace(/\/+$/, "") || "/";
  assertPath(rootKey);
  return rootKey;
}

function parseHost(item: string): ZookeeperHost {
  const match = /^(?:\[([0-9A-Fa-f:.]+(?:%[\w.-]+)?)\]|([^\s:[\]/@]+))(?::(\d{1,5}))?$/.exec(item);
  const host = match?.[1] ?? match?.[2];
  const tcpPort = match?.[3] === undefined ? DEFAULT_TCP_PORT : Number(match[3]);
  if (host === undefined || tcpPort < 1 || tcpPort > 65_535) {
    throw new NsdbError(
      "usage",
      `Cannot read ZooKeeper host "${withoutPassword(item)}": it should be "host:port", with an IPv6 address in brackets`,
    );
  }
  return { host, tcpPort };
}

/** What is before an "@", or after a ":" where no port is, may be credentials in a wrong place. */
function withoutPassword(item: string): string {
  return isIPv6(item) ? item : item.replace(/.*@/s, "…@").replace(/:(?!\d*$).*/s, ":…");
}

function parseDigest(text: string): string {
  const colon = text.indexOf(":");
  try {
    if (colon > 0)
      return `${decodeURIComponent(text.slice(0, colon))}:${decodeURIComponent(text.slice(colon + 1))}`;
  } catch (cause) {
    throw new NsdbError(
      "usage",
      `Cannot read the credentials of the NSDB URL: a "%" starts no valid escape`,
      { cause },
    );
  }
  throw new NsdbError(
    "usage",
    `Cannot read the credentials of the NSDB URL: they should be "user:password@"`,
  );
}

function directoryUrl(text: string): NsdbUrl {
  const folder = text.slice("dir:".length).replace(/^\/\/(?=\/)/, "");
  if (folder === "") throw notAnUrl(text, "a folder should follow");
  return { kind: "directory", folder: resolve(folder) };
}

function notAnUrl(text: string, why: string): NsdbError {
  return new NsdbError("usage", `Cannot use "${text.replace(/.*@/s, "…@")}" as an NSDB URL: ${why}`);
}
