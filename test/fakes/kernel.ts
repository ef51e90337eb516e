import { DatapathError } from "../../src/datapath/error.ts";
import type { Link } from "../../src/datapath/link.ts";
import { ABSENT, type NfTables } from "../../src/datapath/nf-tables.ts";
import type { Nft } from "../../src/datapath/nft-process.ts";
import type { HostAddress, RouteAnswer, Rtnetlink } from "../../src/datapath/rtnetlink-socket.ts";
import { scriptOf } from "../../src/datapath/script.ts";

/** How one call goes wrong: nothing was done, or it was done and nobody heard. */
export type Fault = "before" | "after";

interface FakeChain {
  readonly device: string | undefined;
  readonly hook: string | undefined;
  readonly policy: string | undefined;
  readonly rules: string[];
}

interface FakeTable {
  readonly handle: number;
  readonly maps: Map<string, { readonly kind: string; readonly elements: Map<string, string> }>;
  readonly chains: Map<string, FakeChain>;
}

/**
 * A kernel with our three edges, in memory: links, addresses, routes, rules, and nf_tables with its transactions,
 * as far as the datapath asks for them. It can fail once at any call, and prints itself.
 */
export class FakeKernel {
  readonly links = new Map<number, Link>();
  readonly nft: Nft;
  readonly nfTables: NfTables;
  readonly rtnetlink: Rtnetlink;
  readonly #addresses = new Map<string, number>();
  readonly #routes = new Map<string, number>();
  readonly #rules = new Set<string>();
  #tables = new Map<string, FakeTable>();
  #generation = 1;
  #lastIndex = 1;
  #lastHandle = 0;
  #failAt: { readonly call: number; readonly fault: Fault } | undefined;
  /** What `ip addr` would show beside ours. */
  hostAddresses: readonly HostAddress[] = [];
  /** Calls of all edges since the start. */
  calls = 0;

  constructor() {
    this.nft = this.#makeNft();
    this.nfTables = this.#makeNfTables();
    this.rtnetlink = this.#makeRtnetlink();
  }

  /** The call of that number, counted from now, fails; the next ones do not. */
  failOnce(call: number, fault: Fault): void {
    this.#failAt = { call: this.calls + call, fault };
  }

  plug(name: string): number {
    this.#lastIndex += 1;
    this.links.set(this.#lastIndex, {
      name,
      ifindex: this.#lastIndex,
      up: true,
      noArp: false,
      linkKind: "tun",
      mac: "fe:00:00:00:00:01",
      mtu: 1_500,
      master: 0,
      otherEnd: 0,
    });
    return this.#lastIndex;
  }

  /** As before Linux 6.16: its base chains go with it, and no generation tells. */
  unplug(name: string): void {
    for (const link of this.links.values()) if (link.name === name) this.#dropLink(link.ifindex);
  }

  flushRuleset(): void {
    this.#tables = new Map();
    this.#generation += 1;
  }

  replaceRule(family: string, chain: string, at: number, rule: string): void {
    this.#tables.get(`${family} mn_metadata`)?.chains.get(chain)?.rules.splice(at, 1, rule);
    this.#generation += 1;
  }

  toString(): string {
    const tables = [...this.#tables].flatMap(([name, { maps, chains }]) => [
      `table ${name}`,
      ...[...maps].flatMap(([map, { elements }]) =>
        [...elements].map(([key, data]) => `  ${map} ${key} : ${data}`),
      ),
      ...[...chains].flatMap(([chain, { device, rules }]) => [
        `  chain ${chain}${device === undefined ? "" : ` on ${device}`}`,
        ...rules.map((rule) => `    ${rule}`),
      ]),
    ]);
    const links = [...this.links.values()].map(
      (link) => `link ${link.ifindex} ${link.name} ${link.up ? "up" : "down"}`,
    );
    return [...links, ...[...this.#rules].map((rule) => `rule ${rule}`), ...tables].join("\n");
  }

  async #call<T>(work: () => T): Promise<T> {
    this.calls += 1;
    const fault = this.#failAt?.call === this.calls ? this.#failAt.fault : undefined;
    if (fault === "before") throw new DatapathError("failed", "Cannot do it: this call was told to fail");
    const result = work();
    if (fault === "after")
      throw new DatapathError("timeout", "Cannot tell: this call was told to lose its answer");
    return result;
  }

  #makeNft(): Nft {
    return {
      apply: (script) => this.#call(() => this.#apply(script)),
      listTable: (family, name) => this.#call(() => this.#list(`${family} ${name}`)),
      listChains: () => this.#call(() => []),
      printChain: () => this.#call(() => ""),
      listSet: () => this.#call(() => []),
      listChain: (family, table, name) =>
        this.#call(() =>
          (this.#list(`${family} ${table}`) ?? []).filter((object) =>
            JSON.stringify(object).includes(`"${name}"`),
          ),
        ),
    };
  }

  #makeNfTables(): NfTables {
    return {
      change: (deletes, adds) =>
        this.#call(() => {
          try {
            this.#apply(scriptOf(deletes, adds));
            return true;
          } catch {
            return false;
          }
        }),
      generation: () => this.#call(() => this.#generation),
      tableMark: (family, name) =>
        this.#call(() => {
          const table = this.#tables.get(`${family} ${name}`);
          return table === undefined ? ABSENT : `${table.handle} ${table.chains.size + table.maps.size}`;
        }),
      close: () => undefined,
    };
  }

  #apply(script: readonly string[]): void {
    const before = structuredClone(this.#tables);
    try {
      for (const line of script) this.#line(line);
      this.#generation += 1;
    } catch (error) {
      this.#tables = before;
      throw error;
    }
  }

  #line(line: string): void {
    const [, verb = "", what = "", family = "", table = "", rest = ""] =
      /^(add|delete) (\w+) (\w+) (\w+) ?(.*)$/.exec(line) ?? [];
    const key = `${family} ${table}`;
    if (what === "table") {
      if (verb === "add" && !this.#tables.has(key))
        this.#tables.set(key, { handle: ++this.#lastHandle, maps: new Map(), chains: new Map() });
      if (verb === "delete" && !this.#tables.delete(key)) refuse(line, "No such file or directory");
      return;
    }
    const inside = this.#tables.get(key) ?? refuse(line, "No such file or directory");
    const [, name = "", more = ""] = /^(\S+) ?(.*)$/.exec(rest) ?? [];
    if (what === "map" || what === "set") {
      if (!inside.maps.has(name)) inside.maps.set(name, { kind: what, elements: new Map() });
      const [, entries] = /elements = (\{ .* \}); \}$/.exec(more) ?? [];
      if (entries !== undefined) elements(inside, verb, name, entries, line);
    } else if (what === "chain") this.#chain(inside, verb, name, more, line);
    else if (what === "rule")
      (inside.chains.get(name) ?? refuse(line, "No such file or directory")).rules.push(more);
    else if (what === "element") elements(inside, verb, name, more, line);
    else refuse(line, "syntax error");
  }

  #chain(table: FakeTable, verb: string, name: string, more: string, line: string): void {
    if (verb === "delete") {
      if (!table.chains.delete(name)) refuse(line, "No such file or directory");
      return;
    }
    const statements = more.replace(/^\{ (.*); \}$/, "$1").split("; ");
    const [, device] = /device "([^"]+)"/.exec(statements[0] ?? "") ?? [];
    const isThere = [...this.links.values()].some((link) => link.name === device);
    if (device !== undefined && !isThere) refuse(line, "No such file or directory");
    const [, hook] = /hook (\w+) /.exec(statements[0] ?? "") ?? [];
    const policy = statements[1]?.replace(/^policy |;.*$/g, "");
    if (!table.chains.has(name)) table.chains.set(name, { device, hook, policy, rules: [] });
    // The first two are its hook and its policy.
    table.chains.get(name)?.rules.push(...statements.slice(2));
  }

  /** As nft 1.0.6 prints it: names for indexes that are there, no device for chains. */
  #list(key: string): readonly unknown[] | undefined {
    const table = this.#tables.get(key);
    if (table === undefined) return undefined;
    const [family] = key.split(" ");
    const chains = [...table.chains].map(([name, { hook, policy }]) => ({
      chain: { family, name, hook, policy },
    }));
    const rules = [...table.chains].flatMap(([chain, { rules }]) =>
      rules.map((rule) => {
        const [, comment] = /comment "([^"]+)"/.exec(rule) ?? [];
        const [, dev] = /fwd to "([^"]+)"/.exec(rule) ?? [];
        const words = rule.replace(/ comment ".*$/, "").split(" ");
        const expr = dev === undefined ? words.map((word) => ({ word: asNumber(word) })) : [{ fwd: { dev } }];
        return { rule: { family, chain, expr, ...(comment === undefined ? {} : { comment }) } };
      }),
    );
    const maps = [...table.maps].map(([name, { kind, elements }]) => ({
      [kind]: {
        family,
        name,
        ...(elements.size === 0 ? {} : { elem: [...elements].map((entry) => this.#listed(name, entry)) }),
      },
    }));
    return [{ metainfo: {} }, { table: { family } }, ...maps, ...chains, ...rules];
  }

  #listed(map: string, [key, data]: readonly [string, string]): unknown {
    const parts = key.split(" . ").map((part) => part.replaceAll('"', ""));
    const value = parts.length === 1 ? parts[0] : { concat: parts };
    const [, plain = "", comment] = /^(.*?)(?:#(.*))?$/.exec(data) ?? [];
    const left = comment === undefined ? value : { elem: { val: value, comment } };
    if (plain === "") return left;
    return [left, map === "interface" ? (this.links.get(Number(plain))?.name ?? plain) : plain];
  }

  #dropLink(ifindex: number): void {
    const link = this.links.get(ifindex);
    this.links.delete(ifindex);
    for (const owned of [this.#addresses, this.#routes]) {
      for (const [what, owner] of owned) if (owner === ifindex) owned.delete(what);
    }
    for (const { chains } of this.#tables.values()) {
      for (const [name, { device }] of chains) if (device === link?.name) chains.delete(name);
    }
  }

  #makeRtnetlink(): Rtnetlink {
    return {
      linkNamed: (name) => this.#call(() => [...this.links.values()].find((link) => link.name === name)),
      linkAt: (ifindex) => this.#call(() => this.links.get(ifindex)),
      links: () => this.#call(() => [...this.links.values()]),
      addVeth: (name, peer, mac) =>
        this.#call(() => {
          if ([...this.links.values()].some((link) => link.name === name || link.name === peer))
            refuse(name, "EEXIST");
          for (const [end, address] of [
            [peer, "02:00:00:00:00:01"],
            [name, mac],
          ] as const) {
            this.#lastIndex += 1;
            const ifindex = this.#lastIndex;
            this.links.set(ifindex, {
              name: end,
              ifindex,
              up: false,
              noArp: false,
              linkKind: "veth",
              mac: address,
              mtu: 1_500,
              master: 0,
              otherEnd: end === peer ? ifindex + 1 : ifindex - 1,
            });
          }
        }),
      setUp: (ifindex, { noArp, mac, mtu }) =>
        this.#call(() => {
          const link = this.links.get(ifindex) ?? refuse(`link ${ifindex}`, "ENODEV");
          this.links.set(ifindex, { ...link, up: true, noArp, mac: mac ?? link.mac, mtu: mtu ?? link.mtu });
        }),
      release: (ifindex) =>
        this.#call(() => {
          const link = this.links.get(ifindex) ?? refuse(`link ${ifindex}`, "ENODEV");
          this.links.set(ifindex, { ...link, master: 0 });
        }),
      deleteLink: (ifindex) =>
        this.#call(() => {
          if (!this.links.has(ifindex)) refuse(`link ${ifindex}`, "ENODEV");
          const pair = [...this.links.values()].filter((link) => link.linkKind === "veth");
          for (const end of pair) this.#dropLink(end.ifindex);
        }),
      ipv4Addresses: () => this.#call(() => this.hostAddresses),
      addAddress: (ifindex, address) =>
        this.#call(() => {
          this.#addresses.set(address, ifindex);
        }),
      routeTo: (destination, from) => this.#call(() => this.#routeTo(destination, from)),
      routeInMain: () => this.#call(() => undefined),
      addRoute: (range, ifindex, table) =>
        this.#call(() => {
          this.#routes.set(`${range.includes(":") ? 6 : 4} ${table}`, ifindex);
        }),
      addRule: (from, table, priority) =>
        this.#call(() => {
          this.#rules.add(`from ${from} lookup ${table} priority ${priority}`);
        }),
      deleteRule: (from, table, priority) =>
        this.#call(() => this.#rules.delete(`from ${from} lookup ${table} priority ${priority}`)),
      close: () => undefined,
    };
  }

  #routeTo(destination: string, from: string | undefined): RouteAnswer | undefined {
    const owner = this.#addresses.get(destination);
    if (owner !== undefined) return { isLocal: true, ifindex: 1, table: 255 };
    const rule = [...this.#rules].find((text) => text.startsWith(`from ${from} `));
    const [, table] = / lookup (\d+)/.exec(rule ?? "") ?? [];
    const ifindex = this.#routes.get(`${destination.includes(":") ? 6 : 4} ${table}`);
    return ifindex === undefined ? undefined : { isLocal: false, ifindex, table: Number(table) };
  }
}

function elements(table: FakeTable, verb: string, name: string, more: string, line: string): void {
  const { elements: held } = table.maps.get(name) ?? refuse(line, "No such file or directory");
  for (const entry of more.replace(/^\{ (.*) \}$/, "$1").split(", ")) {
    const [, left = "", right = ""] = /^(.*?)(?: : (.*))?$/.exec(entry) ?? [];
    const [, key = "", comment] = /^(.*?)(?: comment "([^"]+)")?$/.exec(left) ?? [];
    const data = comment === undefined ? right : `${right}#${comment}`;
    if (verb === "delete" && !held.delete(key)) refuse(line, "No such file or directory");
    if (verb === "add" && (held.get(key) ?? data) !== data) refuse(line, "File exists");
    if (verb === "add") held.set(key, data);
  }
}

function asNumber(word: string): string | number {
  return /^\d+$/.test(word) ? Number(word) : word;
}

function refuse(what: string, why: string): never {
  throw new DatapathError("rejected", `Cannot change the ruleset: the kernel refused (${what}: ${why})`);
}
