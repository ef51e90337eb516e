import { DatapathError } from "./error.ts";
import type { Link } from "./link.ts";
import { IpMonitor, type LinkHint, type LinkMonitor } from "./link-monitor.ts";
import { type Rtnetlink, RtnetlinkSocket } from "./rtnetlink-socket.ts";

/** Beyond so many changed links one list of all is cheaper than asking for each. @source measured: 0.2 ms a link, 2,003 in 50 ms */
const ASK_EACH = 200;
/** Events come in bunches of a few for one plug. */
const COALESCE_MS = 4;
const RESYNC_MS = 60_000;
const RETRY_MS = 500;
/**
 * After an overrun the kernel drops events without a further word until its queue has been emptied, so one
 * report stands for all that is lost until events are rare again.
 *
 * @source linux net/netlink/af_netlink.c, NETLINK_S_CONGESTED
 */
const SETTLE_MS = 500;

/**
 * The links of this network namespace, now. Events are hints: each changed link is asked for, and one that a
 * list does not show is gone only when the kernel, asked for it alone, says so.
 */
export class LinkTable {
  readonly #rtnetlink: Pick<Rtnetlink, "links" | "linkAt" | "close">;
  readonly #monitor: LinkMonitor | undefined;
  readonly #byIndex = new Map<number, Link>();
  #byName = new Map<string, Link>();
  readonly #listeners = new Set<() => void>();
  #dirty = new Set<number>();
  #listAll = false;
  #work: Promise<void> | undefined;
  #timer: NodeJS.Timeout | undefined;
  #settling: NodeJS.Timeout | undefined;
  #lastHint = 0;
  #hasChanged = false;
  #isComplete = false;
  #closed = false;

  /** Prefer {@link LinkTable.watch}. */
  constructor(rtnetlink: Pick<Rtnetlink, "links" | "linkAt" | "close">, monitor?: LinkMonitor) {
    this.#rtnetlink = rtnetlink;
    this.#monitor = monitor;
  }

  /** Follows the links from now on; complete when it resolves. @throws {DatapathError} */
  static async watch(): Promise<LinkTable> {
    const table = new LinkTable(new RtnetlinkSocket(), new IpMonitor());
    await table.start();
    return table;
  }

  /** The links once, for a command. @throws {DatapathError} */
  static async list(): Promise<LinkTable> {
    const table = new LinkTable(new RtnetlinkSocket());
    await table.start();
    await table.close();
    return table;
  }

  /** @throws {DatapathError} */
  async start(): Promise<void> {
    await this.#monitor?.start((hint) => this.#heard(hint));
    await this.#readAll();
    this.#tell();
    this.#isComplete = true;
    // What was heard meanwhile may be newer than what was listed.
    this.#begin();
    this.#resyncLater();
  }

  /** True once every link has been listed. */
  get isComplete(): boolean {
    return this.#isComplete;
  }

  get(name: string): Link | undefined {
    return this.#byName.get(name);
  }

  all(): readonly Link[] {
    return [...this.#byName.values()];
  }

  /** Calls back after each change of what {@link get} would say. Returns the way to stop. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => {
      this.#listeners.delete(listener);
    };
  }

  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#timer);
    clearTimeout(this.#settling);
    this.#monitor?.close();
    await this.#work;
    this.#rtnetlink.close();
  }

  #heard(hint: LinkHint): void {
    this.#lastHint = performance.now();
    if (hint.kind === "missed") {
      this.#listAll = true;
      this.#settle();
    } else {
      for (const ifindex of hint.ifindexes) this.#dirty.add(ifindex);
    }
    this.#begin();
  }

  /** Lists all again and again until nothing was heard for a while before. */
  #settle(): void {
    if (this.#closed) return;
    this.#settling ??= setTimeout(() => {
      this.#settling = undefined;
      if (performance.now() - this.#lastHint < SETTLE_MS) this.#settle();
      this.#listAll = true;
      this.#begin();
    }, SETTLE_MS).unref();
  }

  #begin(): void {
    if (this.#closed || !this.#isComplete || (!this.#listAll && this.#dirty.size === 0)) return;
    this.#work ??= this.#catchUp().finally(() => {
      this.#work = undefined;
      this.#begin();
    });
  }

  async #catchUp(): Promise<void> {
    await new Promise((resolve) => setTimeout(resolve, COALESCE_MS));
    const dirty = this.#dirty;
    const listAll = this.#listAll || dirty.size > ASK_EACH;
    this.#dirty = new Set();
    this.#listAll = false;
    try {
      if (listAll) await this.#readAll();
      else await this.#readEach(dirty);
    } catch (error) {
      if (!(error instanceof DatapathError)) throw error;
      // What was not read is still to be read; the kernel may be short of memory for a moment.
      this.#listAll = true;
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    } finally {
      this.#tell();
    }
  }

  async #readEach(ifindexes: Iterable<number>): Promise<void> {
    for (const ifindex of ifindexes) this.#put(ifindex, await this.#rtnetlink.linkAt(ifindex));
  }

  async #readAll(): Promise<void> {
    const listed = await this.#rtnetlink.links();
    for (const link of listed) this.#put(link.ifindex, link);
    const seen = new Set(listed.map(({ ifindex }) => ifindex));
    await this.#readEach([...this.#byIndex.keys()].filter((ifindex) => !seen.has(ifindex)));
  }

  #put(ifindex: number, link: Link | undefined): void {
    const known = this.#byIndex.get(ifindex);
    if (link === undefined) this.#byIndex.delete(ifindex);
    else this.#byIndex.set(ifindex, link);
    const isSame = known?.name === link?.name && known?.up === link?.up && known?.mac === link?.mac;
    if (!isSame) this.#hasChanged = true;
  }

  /** A name may have gone to another link, so names follow from the indexes: the newest has it. */
  #tell(): void {
    if (!this.#hasChanged) return;
    this.#hasChanged = false;
    const links = [...this.#byIndex.values()].sort((a, b) => a.ifindex - b.ifindex);
    this.#byName = new Map(links.map((link) => [link.name, link]));
    for (const listener of this.#listeners) listener();
  }

  /** Catches what no event told; a list of all that is short takes nothing away. */
  #resyncLater(): void {
    if (this.#monitor === undefined || this.#closed) return;
    this.#timer = setTimeout(() => {
      this.#listAll = true;
      this.#begin();
      this.#resyncLater();
    }, RESYNC_MS).unref();
  }
}
