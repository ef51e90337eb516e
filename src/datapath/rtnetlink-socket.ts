import { createRtNetlink, type RtNetlinkSocket as RtSocket, type rt } from "netlink";
import { DatapathError, type DatapathErrorCode } from "./error.ts";
import { type Link, linkIn, linkQuestion } from "./link.ts";
import { type AddressBytes, addressBytes, macBytes, vethInfo } from "./netlink-bytes.ts";

/** What the kernel would do with a packet. */
export interface RouteAnswer {
  readonly isLocal: boolean;
  readonly ifindex: number | undefined;
  readonly table: number | undefined;
}

export interface HostAddress {
  /** Dotted. */
  readonly address: string;
  readonly prefixLength: number;
}

/** The edge to links, addresses, routes and rules. Every change is safe to repeat. */
export interface Rtnetlink {
  /** @throws {DatapathError} */
  linkNamed(name: string): Promise<Link | undefined>;
  /** @throws {DatapathError} */
  linkAt(ifindex: number): Promise<Link | undefined>;
  /** Every link, or not quite: a dump that ran into changes may be short, and cannot tell. @throws {DatapathError} */
  links(): Promise<readonly Link[]>;
  /** @throws {DatapathError} `rejected` if either name is taken. */
  addVeth(name: string, peer: string, mac: string): Promise<void>;
  /** Sets the link up, with or without ARP. @throws {DatapathError} */
  setUp(
    ifindex: number,
    options: { readonly noArp: boolean; readonly mac?: string; readonly mtu?: number },
  ): Promise<void>;
  /** Takes the link out of the bridge, VRF or switch that it is a port of. @throws {DatapathError} */
  release(ifindex: number): Promise<void>;
  /** @throws {DatapathError} */
  deleteLink(ifindex: number): Promise<void>;
  /** Every IPv4 address of this host. @throws {DatapathError} */
  ipv4Addresses(): Promise<readonly HostAddress[]>;
  /** @throws {DatapathError} */
  addAddress(ifindex: number, address: string, prefixLength: number): Promise<void>;
  /** Undefined where there is no way. @throws {DatapathError} */
  routeTo(destination: string, from?: string, ifindex?: number): Promise<RouteAnswer | undefined>;
  /** The host route (/32) of the main table to that address, if there is one. @throws {DatapathError} */
  routeInMain(address: string): Promise<{ readonly ifindex: number } | undefined>;
  /** @throws {DatapathError} */
  addRoute(range: string, ifindex: number, table: number): Promise<void>;
  /** @throws {DatapathError} */
  addRule(from: string, table: number, priority: number): Promise<void>;
  /** Takes one such rule away; false where there was none. @throws {DatapathError} */
  deleteRule(from: string, table: number, priority: number): Promise<boolean>;
  close(): void;
}

/** @source linux/socket.h */
const [AF_INET, AF_INET6] = [2, 10];
/** @source linux/rtnetlink.h RTM_NEWLINK, RTM_GETLINK */
const [NEW_LINK, GET_LINK] = [16, 18];
/** @source linux/netlink.h NLM_F_DUMP */
const DUMP = 0x300;
/** @source linux/netlink.h NLM_F_REPLACE, NLM_F_EXCL, NLM_F_CREATE */
const REPLACE = 0x100;
const EXCLUSIVE = 0x200;
const CREATE = 0x400;
/** @source linux/rtnetlink.h RT_SCOPE_LINK */
const SCOPE_LINK = 253;

/** @source linux/rtnetlink.h RT_TABLE_MAIN */
const MAIN_TABLE = 254;

const TIMEOUT_MS = 5_000;
const TRIES = 5;

/** {@link Rtnetlink} by the `netlink` package: requests only, since a socket that listens can bring the process down. */
export class RtnetlinkSocket implements Rtnetlink {
  readonly #socket: RtSocket;

  constructor() {
    try {
      this.#socket = createRtNetlink();
    } catch (error) {
      throw new DatapathError("failed", `Cannot open a netlink socket: ${(error as Error).message}`, error);
    }
    this.#socket.socket.on("error", () => undefined);
  }

  linkNamed(name: string): Promise<Link | undefined> {
    return this.#oneLink(linkQuestion({ name }), `link "${name}"`);
  }

  linkAt(ifindex: number): Promise<Link | undefined> {
    return this.#oneLink(linkQuestion({ ifindex }), `link number ${ifindex}`);
  }

  async links(): Promise<readonly Link[]> {
    return this.#ask("list the links", (options) =>
      this.#getLinks(linkQuestion(), { ...options, flags: DUMP }),
    );
  }

  async addVeth(name: string, peer: string, mac: string): Promise<void> {
    const attributes = { ifname: name, address: macBytes(mac), linkinfo: vethInfo(peer) };
    await this.#ask(`create the interface "${name}"`, (options) =>
      this.#socket.newLink({}, attributes, { ...options, flags: CREATE | EXCLUSIVE }),
    );
  }

  async setUp(
    ifindex: number,
    { noArp, mac, mtu }: { readonly noArp: boolean; readonly mac?: string; readonly mtu?: number },
  ): Promise<void> {
    const flags: rt.DeviceFlags = noArp ? { up: true, noarp: true } : { up: true };
    const attributes = {
      ...(mac === undefined ? {} : { address: macBytes(mac) }),
      ...(mtu === undefined ? {} : { mtu }),
    };
    await this.#ask(`set up link number ${ifindex}`, (sending) =>
      this.#socket.setLink({ index: ifindex, flags, change: { up: true, noarp: true } }, attributes, sending),
    );
  }

  async release(ifindex: number): Promise<void> {
    await this.#ask(`release link number ${ifindex}`, (options) =>
      this.#socket.setLink({ index: ifindex }, { master: 0 }, options),
    );
  }

  async deleteLink(ifindex: number): Promise<void> {
    await this.#ask(`delete link number ${ifindex}`, (options) =>
      this.#socket.delLink({ index: ifindex }, {}, options),
    );
  }

  async ipv4Addresses(): Promise<readonly HostAddress[]> {
    const found = await this.#ask("list the addresses", (options) =>
      this.#socket.getAddresses({ family: AF_INET }, {}, options),
    );
    return found.flatMap(({ data, attrs }) => {
      const bytes = attrs.local ?? attrs.address;
      if (bytes?.length !== 4) return [];
      return [{ address: bytes.join("."), prefixLength: data.prefixlen ?? 32 }];
    });
  }

  async addAddress(ifindex: number, address: string, prefixLength: number): Promise<void> {
    const { family, bytes } = addressBytes(address);
    const flags: rt.AddressFlags = family === AF_INET6 ? { nodad: true } : {};
    const data: rt.Address = { family, prefixlen: prefixLength, scope: SCOPE_LINK, index: ifindex, flags };
    await this.#ask(`add the address "${address}/${prefixLength}"`, (options) =>
      this.#socket.newAddress(
        data,
        { local: bytes, address: bytes },
        { ...options, flags: CREATE | REPLACE },
      ),
    );
  }

  async routeTo(destination: string, from?: string, ifindex?: number): Promise<RouteAnswer | undefined> {
    const to = addressBytes(destination);
    const source = from === undefined ? undefined : addressBytes(from);
    const length = to.bytes.length * 8;
    const data: rt.Route = {
      family: to.family,
      dstLen: length,
      srcLen: source === undefined ? 0 : length,
      // The route alone: for IPv6 the kernel would look at every link for a source address as well.
      flags: { fibMatch: true },
    };
    const attributes: rt.RouteAttrs = { dst: to.bytes };
    if (source !== undefined) attributes.src = source.bytes;
    if (ifindex !== undefined) attributes.oif = ifindex;
    const found = await this.#askOr(NO_WAY, `look up the route to "${destination}"`, (options) =>
      this.#socket.getRoute(data, attributes, options),
    );
    const [route] = found ?? [];
    if (route === undefined) return undefined;
    return { isLocal: route.data.type === "LOCAL", ifindex: route.attrs.oif, table: route.attrs.table };
  }

  async routeInMain(address: string): Promise<{ readonly ifindex: number } | undefined> {
    const { family, bytes } = addressBytes(address);
    const all = await this.#ask("list the routes", (options) =>
      this.#socket.getRoutes({ family }, {}, options),
    );
    const found = all.find(
      ({ data, attrs }) =>
        attrs.table === MAIN_TABLE && data.dstLen === bytes.length * 8 && attrs.dst?.equals(bytes) === true,
    );
    return found?.attrs.oif === undefined ? undefined : { ifindex: found.attrs.oif };
  }

  async addRoute(range: string, ifindex: number, table: number): Promise<void> {
    const { family, bytes, length } = rangeBytes(range);
    const data: rt.Route = { family, dstLen: length, protocol: "STATIC", scope: "LINK", type: "UNICAST" };
    await this.#ask(`add the route "${range}" to table ${table}`, (options) =>
      this.#socket.newRoute(
        data,
        { dst: bytes, oif: ifindex, table },
        { ...options, flags: CREATE | REPLACE },
      ),
    );
  }

  async addRule(from: string, table: number, priority: number): Promise<void> {
    const { data, attributes } = ruleOf(from, table, priority);
    await this.#askOr(["EEXIST"], `add the rule "from ${from} lookup ${table}"`, (options) =>
      this.#socket.newRule(data, attributes, { ...options, flags: CREATE | EXCLUSIVE }),
    );
  }

  async deleteRule(from: string, table: number, priority: number): Promise<boolean> {
    const { data, attributes } = ruleOf(from, table, priority);
    const done = await this.#askOr(
      ["ENOENT", "EAFNOSUPPORT"],
      `delete the rule "from ${from} lookup ${table}"`,
      (options) => this.#socket.delRule(data, attributes, options),
    );
    return done !== undefined;
  }

  close(): void {
    this.#socket.socket.close();
  }

  async #oneLink(question: Buffer, what: string): Promise<Link | undefined> {
    const found = await this.#askOr(["ENODEV"], `look up ${what}`, (options) =>
      this.#getLinks(question, options),
    );
    return found?.[0];
  }

  async #getLinks(question: Buffer, options: { timeout: number; flags?: number }): Promise<readonly Link[]> {
    const [messages] = await this.#socket.socket.request(GET_LINK, question, options);
    return messages.flatMap(({ type, data }) => (type === NEW_LINK ? (linkIn(data) ?? []) : []));
  }

  async #ask<T>(what: string, request: (options: { timeout: number }) => Promise<T>): Promise<T> {
    for (let tries = 1; ; tries++) {
      try {
        return await request({ timeout: TIMEOUT_MS });
      } catch (error) {
        const reason = errnoOf(error);
        if (!PASSING.has(reason) || tries === TRIES) throw refused(what, reason, error);
      }
    }
  }

  /** Undefined where the kernel refuses with one of `expected`. */
  async #askOr<T>(
    expected: readonly string[],
    what: string,
    request: (options: { timeout: number }) => Promise<T>,
  ): Promise<T | undefined> {
    try {
      return await this.#ask(what, request);
    } catch (error) {
      if (error instanceof DatapathError && expected.includes(errnoOf(error.cause))) return undefined;
      throw error;
    }
  }
}

/** Told where somebody else's change crossed ours; the next try is likely to go through. */
const PASSING: ReadonlySet<string> = new Set([
  "EINTR",
  "EBUSY",
  "EAGAIN",
  "Multipart message not terminated properly",
]);
const NO_WAY = [
  "ENETUNREACH",
  "EHOSTUNREACH",
  "EINVAL",
  "ENODEV",
  "EACCES",
  "EAFNOSUPPORT",
  "ENETDOWN",
  "EADDRNOTAVAIL",
];

const CODES: Readonly<Record<string, DatapathErrorCode>> = {
  EPERM: "no-privilege",
  EOPNOTSUPP: "no-kernel-support",
  EEXIST: "rejected",
  ENODEV: "rejected",
};

/** The package's errors have no code, only this text. */
function errnoOf(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  return message.replace("Request rejected: ", "");
}

function refused(what: string, reason: string, cause: unknown): DatapathError {
  const code = reason === "Timeout has been reached" ? "timeout" : (CODES[reason] ?? "failed");
  const remedy = code === "no-privilege" ? "; this needs CAP_NET_ADMIN: run it as root" : "";
  return new DatapathError(code, `Cannot ${what}: the kernel refused with ${reason}${remedy}`, cause);
}

function rangeBytes(range: string): AddressBytes & { readonly length: number } {
  const [address = "", length = ""] = range.split("/");
  return { ...addressBytes(address), length: Number(length) };
}

function ruleOf(from: string, table: number, priority: number): { data: rt.Rule; attributes: rt.RuleAttrs } {
  const { family, bytes } = addressBytes(from);
  return {
    data: { family, srcLen: bytes.length * 8, action: "toTbl" },
    attributes: { src: bytes, table, priority },
  };
}
