import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { askAgent, controlSocketPath } from "../../src/agent/control.ts";
import type { PortRow } from "../../src/agent/port-row.ts";
import type { AgentStatus } from "../../src/agent/status.ts";
import { NsdbError } from "../../src/nsdb/error.ts";
import { parseNsdbUrl } from "../../src/nsdb/nsdb-url.ts";
import { openStore } from "../../src/nsdb/open-store.ts";
import type { Store } from "../../src/nsdb/store.ts";
import { AgentProcess } from "./agent.ts";
import { Crowd, instanceOf, memberOf, nowMs } from "./crowd.ts";
import { run } from "./guests.ts";
import { hostText, MidonetWriter } from "./midonet.ts";
import { StandInNova } from "./nova.ts";
import { startEnsemble, type ZookeeperEnsemble, type ZookeeperServer } from "./zookeeper.ts";

export const HOST_ID = "4f2e3d4c-5b6a-4798-8897-a6b5c4d3e2f1";
const SECRET = "ensemble";

export interface EnsembleHostOptions {
  /** Guests that are bound from the first to the last moment. */
  readonly guests: number;
  /** The servers' unit of time. */
  readonly tickMs: number;
  /** Where servers and nova listen; it must be there. */
  readonly address?: string;
}

/** How long the agent took for one change of its own ports that was made while something else went wrong. */
export interface Lag {
  /** From the end of the fault, for the agent: the change was written, and the NSDB back where it was lost. */
  readonly ms: number;
  /** From the beginning of the fault until the agent lost its session; undefined where it never did. */
  readonly noticedMs: number | undefined;
  /** How long it had none. */
  readonly lostMs: number;
}

/**
 * A whole agent with guests on an ensemble of three. Beside the guests that are always bound there are two that take
 * turns: each {@link change} binds one of them and unbinds the other.
 */
export class EnsembleHost {
  readonly ensemble: ZookeeperEnsemble;
  readonly store: Store;
  readonly nova: StandInNova;
  readonly crowd: Crowd;
  /** Not running at first. */
  agent: AgentProcess;
  readonly nsdb: string;
  readonly #hostIdFile: string;
  readonly runFolder: string;
  readonly guests: readonly number[];
  readonly #folder: string;
  #turn = 0;

  private constructor(
    parts: Pick<EnsembleHost, "ensemble" | "store" | "nova" | "crowd" | "nsdb" | "guests">,
    folder: string,
  ) {
    this.ensemble = parts.ensemble;
    this.store = parts.store;
    this.nova = parts.nova;
    this.crowd = parts.crowd;
    this.nsdb = parts.nsdb;
    this.guests = parts.guests;
    this.#folder = folder;
    this.#hostIdFile = join(folder, "host-id");
    this.runFolder = join(folder, "run");
    writeFileSync(this.#hostIdFile, `host_uuid=${HOST_ID}\n`);
    this.agent = this.#agentAt(this.nsdb);
  }

  /** Everything but the agent runs. */
  static async build({ guests: count, tickMs, address }: EnsembleHostOptions): Promise<EnsembleHost> {
    const host = address ?? "127.0.0.1";
    const ensemble = await startEnsemble({ tickMs, host });
    const nsdb = `zk://${ensemble.addresses}/midonet`;
    const all = Array.from({ length: count + 2 }, (_, n) => n);
    const guests = all.slice(0, count);
    const nova = await StandInNova.start({ secret: SECRET, host, instances: all.map(instanceOf) });
    // Patient: nothing has gone wrong yet, and a machine may be slow.
    const patient = await openStore(parseNsdbUrl(nsdb));
    const midonet = new MidonetWriter(patient, HOST_ID);
    await midonet.setKeys({ enabled: true, novaUrl: nova.url, secret: SECRET });
    await midonet.createAll(all.map(memberOf));
    await midonet.list([...guests, count].map(memberOf));
    await patient.close();
    // Its session is shorter than an agent's, so that a change is written before the agent has found another server.
    const store = await openStore(parseNsdbUrl(nsdb), { sessionTimeoutMs: 2 * tickMs });
    const crowd = await Crowd.plug(all.length, all);
    const folder = mkdtempSync(join(tmpdir(), "mn-ensemble-"));
    return new EnsembleHost({ ensemble, store, nova, crowd, nsdb, guests }, folder);
  }

  /** Stops the agent, and starts one that finds the servers elsewhere. */
  async startAt(nsdb: string): Promise<void> {
    await this.agent.stop();
    this.agent = this.#agentAt(nsdb);
    this.agent.start();
    await this.agent.serving(this.guests.length + 1);
  }

  async tearDown(): Promise<void> {
    await this.agent.stop();
    await this.agent.command("sweep");
    await this.crowd.unplug();
    await this.nova.close();
    for (const server of this.ensemble.servers) server.cont();
    await this.store.close();
    await this.ensemble.cleanUp();
    rmSync(this.#folder, { recursive: true, force: true });
  }

  status(): Promise<AgentStatus> {
    return askAgent(controlSocketPath(this.runFolder), "/status");
  }

  /** The ports that are served, with their link-local addresses. */
  async served(): Promise<ReadonlyMap<string, string>> {
    const rows = await askAgent<PortRow[]>(controlSocketPath(this.runFolder), "/ports");
    return new Map(rows.map(({ port, linkLocal }) => [port, linkLocal]));
  }

  /** The server that the agent is connected to, and its session. */
  async session(): Promise<{ readonly server: ZookeeperServer; readonly sessionId: string }> {
    const sockets = (await run("ss", "-tnpH", "state", "established")).split("\n");
    for (const server of this.ensemble.servers) {
      const line = sockets.find(
        (each) => each.includes(` ${server.address} `) && each.includes(`pid=${this.agent.pid},`),
      );
      const [, clientTcpPort] = /:(\d+)\s+\S+:\d+\s/.exec(line ?? "") ?? [];
      const sessionId = clientTcpPort && (await server.sessionOf(Number(clientTcpPort)));
      if (sessionId) return { server, sessionId };
    }
    throw new Error("the agent has no session");
  }

  /** Watches of all sessions. */
  async watches(): Promise<number> {
    const counts = await Promise.all(this.ensemble.servers.map((server) => server.watches()));
    return counts.reduce((sum, count) => sum + count, 0);
  }

  /**
   * Binds one of the two and unbinds the other, as soon as the servers take it, and waits until the agent serves
   * exactly that and the guest has its answer.
   *
   * @param faultMs When what went wrong began, as {@link nowMs}.
   */
  async change(faultMs: number, withinMs = 30_000): Promise<Lag> {
    const n = this.guests.length + (this.#turn === 0 ? 1 : 0);
    this.#turn = 1 - this.#turn;
    const portIds = [...this.guests, n].map((each) => memberOf(each).portId);
    await this.#write(hostText(HOST_ID, portIds));
    const writtenMs = nowMs();
    const deadline = writtenMs + withinMs;
    const wanted = portIds.sort().join();
    while ([...(await this.served()).keys()].sort().join() !== wanted) {
      if (nowMs() > deadline)
        throw new Error(
          `not served in ${withinMs} ms: ${n}; its log:\n${this.agent.log.slice(-20).join("\n")}`,
        );
      await sleep(10);
    }
    const rightMs = nowMs();
    await this.crowd.firstAnswer(n);
    const losses = lossesIn(this.agent.log).filter(({ backMs }) => backMs >= faultMs && backMs <= rightMs);
    const backMs = Math.max(0, ...losses.map((loss) => loss.backMs));
    return {
      ms: rightMs - Math.max(writtenMs, backMs),
      noticedMs: losses[0] && losses[0].lostMs - faultMs,
      lostMs: losses.reduce((sum, loss) => sum + loss.backMs - loss.lostMs, 0),
    };
  }

  #agentAt(nsdb: string): AgentProcess {
    return new AgentProcess({ nsdb, hostIdFile: this.#hostIdFile, runFolder: this.runFolder });
  }

  async #write(text: string): Promise<void> {
    const path = `/zoom/0/models/Host/${HOST_ID}`;
    for (;;) {
      try {
        const version = (await this.store.get(path))?.version ?? -1;
        await this.store.write([{ kind: "set", path, data: Buffer.from(text), version }]);
        return;
      } catch (error) {
        const passes = error instanceof NsdbError && (error.passesByItself || error.code === "bad-version");
        if (!passes) throw error;
      }
    }
  }
}

/** When the agent says that it lost the NSDB and had it back, as {@link nowMs}. */
function lossesIn(log: readonly string[]): readonly { readonly lostMs: number; readonly backMs: number }[] {
  const toNow = nowMs() - Date.now();
  const losses: { lostMs: number; backMs: number }[] = [];
  let lostMs: number | undefined;
  for (const line of log) {
    if (!line.includes("the NSDB is ")) continue;
    const atMs = Date.parse((JSON.parse(line) as { time: string }).time) + toNow;
    if (line.includes("is lost")) lostMs = atMs;
    else if (lostMs !== undefined) {
      losses.push({ lostMs, backMs: atMs });
      lostMs = undefined;
    }
  }
  return losses;
}
