import { createServer, type Server, type Socket } from "node:net";
import type { Logger } from "../log.ts";
import type { Tenure, TenureLookup } from "../ports/tenure.ts";
import { Complaints } from "./complaints.ts";
import { Connection, type Register } from "./connection.ts";
import { Connections, leastDeserving } from "./connections.ts";
import { FairGate } from "./fair-gate.ts";
import type { FlightContext, Timed } from "./flight-context.ts";
import { Guest } from "./guest.ts";
import { type Desk, GuestRequest } from "./guest-request.ts";
import type { BodyListener, Fault } from "./http/conversation.ts";
import type { Reply } from "./http/reply.ts";
import { type RequestHead, RequestParsers } from "./http/request-parser.ts";
import { addressOf, FAULTS, SERVER_OPTIONS, startListening } from "./listener.ts";
import { removeFrom } from "./lists.ts";
import { Outbox } from "./outbox.ts";
import { Pace } from "./pace.ts";
import type { PortShare } from "./port-share.ts";
import type { LastRequest, ListenAddress, Proxy as MetadataProxy, ProxyStatus } from "./proxy.ts";
import { requestId } from "./recent.ts";
import { refusalOf } from "./refusal.ts";
import type { ProxySettings } from "./settings.ts";
import { Shares } from "./shares.ts";
import { Upstream } from "./upstream/upstream.ts";

export interface ProxyOptions {
  readonly tenures: TenureLookup;
  readonly settings: ProxySettings;
  readonly log: Logger;
  /** Milliseconds; whose answer stands still for longer, because it is not read, loses its connection. */
  readonly stuckMs?: number;
}

/** @throws {ProxyError} `bad-settings` for a nova URL or a TLS file that cannot be used, `unknown-node` for another Node. */
export function createProxy(options: ProxyOptions): MetadataProxy {
  return new HttpProxy(options);
}

/** The proxy: HTTP/1 as node:http reads it towards the guests, undici and a leaner line towards nova. */
class HttpProxy implements MetadataProxy, Desk, Register {
  readonly context: Live<FlightContext>;
  version = 0;
  isDraining = false;
  readonly held = new Set<GuestRequest>();
  readonly pace = new Pace();
  readonly outbox = new Outbox();
  readonly #tenures: TenureLookup;
  readonly #log: Logger;
  readonly #complaints: Complaints;
  readonly #gate = new FairGate();
  readonly #timed = new Set<Timed>();
  #listeners: readonly { readonly server: Server; readonly wanted: ListenAddress; readonly bound: string }[] =
    [];
  readonly #connections = new Connections();
  readonly #parsers = new RequestParsers();
  readonly #shares = new Shares();
  readonly #guests = new WeakMap<Tenure, Guest>();
  readonly #counters: Record<string, number> = {};
  readonly #byClass: [number, number, number, number, number] = [0, 0, 0, 0, 0];
  readonly #stuckMs: number;
  readonly #stopWatching: () => void;
  readonly #ticker: NodeJS.Timeout;
  #serial = 0;
  #swept = 0;
  #tickedAt = performance.now();

  constructor({ tenures, settings, log, stuckMs = STUCK_MS }: ProxyOptions) {
    this.#tenures = tenures;
    this.#stuckMs = stuckMs;
    this.#log = log;
    this.#complaints = new Complaints(log);
    this.context = {
      settings,
      upstream: new Upstream(settings, log, this.outbox),
      gate: this.#gate,
      complaints: this.#complaints,
      timed: this.#timed,
    };
    this.#stopWatching = tenures.onChange(() => this.#tableChanged());
    this.#ticker = setInterval(() => this.#tickInTime(performance.now()), TICK_MS);
  }

  get inSync(): boolean {
    return this.#tenures.inSync;
  }

  async listen(address: ListenAddress): Promise<void> {
    const server = createServer(SERVER_OPTIONS, (socket) => this.#connected(socket));
    const before = this.#listeners.filter(({ wanted }) => isSameAddress(wanted, address));
    for (const { server: old } of before) old.close();
    this.#listeners = this.#listeners.filter((listener) => !before.includes(listener));
    await startListening(server, address, this.#log);
    // Asked for now, because the address of an interface that is gone can no longer be told.
    const listener = { server, wanted: address, bound: addressOf(server) };
    this.#listeners = [...this.#listeners, listener];
  }

  reconfigure(settings: ProxySettings): void {
    const before = this.context.settings;
    if (needsNewUpstream(before, settings)) {
      const { upstream } = this.context;
      this.context.upstream = new Upstream(settings, this.#log, this.outbox, upstream);
      upstream.retire();
      for (const { lane } of upstream.endpoints) this.#gate.regroup(lane);
    }
    this.context.settings = settings;
  }

  async endTenure(tenure: Tenure): Promise<void> {
    const guest = this.guestOf(tenure);
    guest.ended = true;
    guest.forgetAnswers();
    this.context.upstream.forget(tenure.instanceId);
    const ending = this.#connections.list().filter((connection) => connection.belongsTo(tenure));
    await Promise.all(ending.map(({ socket }) => destroyed(socket)));
    this.#shares.ended(guest.share);
  }

  lastRequests(portId: string): readonly LastRequest[] {
    return this.#shares.find(portId)?.recent.list() ?? [];
  }

  status(): ProxyStatus {
    const [c1, c2, c3, c4, c5] = this.#byClass;
    return {
      listening: this.#listeners.filter(({ server }) => server.listening).map(({ bound }) => bound),
      connections: this.#connections.size,
      inFlight: this.#connections.inFlight,
      held: this.held.size,
      requests: this.#serial,
      responsesByClass: { "1xx": c1, "2xx": c2, "3xx": c3, "4xx": c4, "5xx": c5 },
      counters: { ...this.#counters },
      endpoints: this.context.upstream.status(),
    };
  }

  async close(drainMs: number): Promise<void> {
    this.isDraining = true;
    const closed = this.#listeners.map(
      ({ server }) => new Promise<void>((resolve) => server.close(() => resolve())),
    );
    const deadline = performance.now() + drainMs;
    while (this.#connections.inFlight > 0 && performance.now() < deadline) await oneTick();
    for (const { conversation } of this.#connections.list()) {
      if (performance.now() < deadline) conversation.leave();
      else conversation.cut();
    }
    const cut = setTimeout(() => this.#cutAll(), Math.max(0, deadline - performance.now()));
    await Promise.all(closed);
    clearTimeout(cut);
    clearInterval(this.#ticker);
    this.#stopWatching();
    this.context.upstream.retire();
  }

  tenureOf(peerAddress: string): Tenure | undefined {
    return this.#tenures.tenureOf(peerAddress);
  }

  guestOf(tenure: Tenure): Guest {
    let guest = this.#guests.get(tenure);
    if (guest === undefined) {
      guest = new Guest(tenure, this.shareOf(tenure.portId), this.#timed);
      this.#guests.set(tenure, guest);
    }
    this.#shares.revive(guest.share);
    return guest;
  }

  shareOf(name: string): PortShare {
    return this.#shares.of(name, this.context.settings.requestBurst);
  }

  requested(connection: Connection, head: RequestHead, reply: Reply): BodyListener | undefined {
    return new GuestRequest(this, connection, head, reply, ++this.#serial).receive(head);
  }

  /** What the parser refused: answered here, never seen by nova. */
  malformed({ pending, conversation, share }: Connection, fault: Fault): void {
    if (fault !== "connect") this.count("malformed");
    const { status, text } = FAULTS[fault];
    if (pending.at(-1)?.spoil(status, text) === true) return;
    const serial = ++this.#serial;
    // What it asked is not known: not a method, and not a path.
    share.recent.add(performance.now(), "?", "?", status, 0, serial);
    conversation.refuse(refusalOf(status, text, serial, "GET, HEAD, POST, PUT"));
  }

  left(share: PortShare): void {
    this.#shares.left(share);
  }

  roomMade(share: PortShare): void {
    this.#gate.makeUse(share);
  }

  closed(connection: Connection): void {
    this.#connections.delete(connection);
    this.left(connection.share);
  }

  settled(request: GuestRequest, status: number): void {
    const { connection, guest, method, path, startedAt, serial } = request;
    const now = performance.now();
    if (connection.pending.length === 0) connection.idleSince = now;
    const share = guest?.share ?? connection.share;
    const statusClass = Math.trunc(status / 100);
    if (statusClass >= 1) this.#byClass[(statusClass - 1) as 0]++;
    share.recent.add(now, method, path, status, now - startedAt, serial);
    if (share.delayed.length > 0) removeFrom(share.delayed, request);
    const isOurs404 = status === 404 && (guest === undefined || !guest.isServable);
    if (isOurs404 || (status >= 502 && status <= 504)) {
      this.#complaints.notServed(share, {
        status,
        requestId: requestId(serial),
        peer: connection.peerAddress,
      });
    }
  }

  count(what: string): void {
    this.#counters[what] = (this.#counters[what] ?? 0) + 1;
  }

  /** Whoever has not read its answer by now. */
  #cutAll(): void {
    for (const connection of this.#connections.list()) connection.cut();
  }

  #connected(socket: Socket): void {
    if (socket.remoteAddress === undefined) {
      // It was reset before it was accepted: whose it was cannot be told any more.
      socket.destroy();
      return;
    }
    const now = performance.now();
    const connection = new Connection(socket, this, this.#parsers, now);
    this.#connections.add(connection);
    if (connection.share.connections.length > MAX_CONNECTIONS_PER_PORT) this.#evict(connection.share);
    if (this.#connections.size > MAX_CONNECTIONS) this.#evict(this.#shares.largest());
  }

  #tableChanged(): void {
    this.version++;
    for (const request of [...this.held]) request.identify();
  }

  /** Where the process stood still, what came meanwhile is read before anybody is found to be silent or too late. */
  #tickInTime(now: number): void {
    const wasStill = now - this.#tickedAt > 3 * TICK_MS;
    this.#tickedAt = now;
    if (wasStill) setImmediate(() => this.#tick(performance.now()));
    else this.#tick(now);
  }

  #tick(now: number): void {
    this.context.upstream.tick(now);
    const connections = this.#connections.list();
    for (const { pending } of connections) {
      if (pending.length === 0) continue;
      for (const request of [...pending]) if (now > request.deadlineAt) request.expire();
    }
    for (const flight of this.#timed) if (now >= flight.dueAt) flight.due();
    // Some at a time: to look at a thousand at once would be felt by whoever asks just then.
    for (let left = Math.ceil(connections.length / SWEEP_TICKS); left > 0; left--) {
      const connection = connections[this.#swept++ % connections.length];
      if (connection !== undefined) this.#sweepConnection(connection, now);
    }
  }

  #sweepConnection(connection: Connection, now: number): void {
    const { pending, conversation, socket } = connection;
    const isIdle = pending.length === 0 && !conversation.isReading && now - connection.idleSince > IDLE_MS;
    if (connection.isStuck(now, this.#stuckMs)) socket.resetAndDestroy();
    else if (conversation.isLate(now)) conversation.tooLate();
    else if (conversation.hasLingered(now)) socket.destroy();
    else if (isIdle && socket.writableLength === 0) socket.destroySoon();
  }

  #evict(share: PortShare | undefined): void {
    this.count("evictedConnections");
    if (share !== undefined) leastDeserving(share)?.cut();
  }
}

/** What others only read. */
type Live<T> = { -readonly [Key in keyof T]: T[Key] };

/** Port 0 is another one each time. */
function isSameAddress(a: ListenAddress, b: ListenAddress): boolean {
  return a.host === b.host && a.tcpPort === b.tcpPort && a.tcpPort !== 0;
}

function needsNewUpstream(a: ProxySettings, b: ProxySettings): boolean {
  return JSON.stringify([a.novaUrls, a.tls]) !== JSON.stringify([b.novaUrls, b.tls]);
}

function destroyed(socket: Socket): Promise<void> {
  return new Promise((resolve) => {
    if (socket.closed) resolve();
    socket.once("close", () => resolve());
    // Not destroy(): what the kernel still holds for the one must not be sent again to the other.
    socket.resetAndDestroy();
  });
}

function oneTick(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 10));
}

const TICK_MS = 100;
/** In so many ticks every connection is looked at about once. */
const SWEEP_TICKS = 10;
const MAX_CONNECTIONS_PER_PORT = 1_024;
const MAX_CONNECTIONS = 8_192;
const IDLE_MS = 15_000;
/**
 * Long, for a guest that reads is not seen to until the kernel has room for a third of what it holds.
 *
 * @source measured: of a guest that reads 40 KB a second nothing is seen for more than 23 s
 */
const STUCK_MS = 60_000;
