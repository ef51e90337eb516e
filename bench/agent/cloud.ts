import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { askAgent, controlSocketPath } from "../../src/agent/control.ts";
import type { PortRow } from "../../src/agent/port-row.ts";
import type { AgentStatus } from "../../src/agent/status.ts";
import { parseNsdbUrl } from "../../src/nsdb/nsdb-url.ts";
import { openStore } from "../../src/nsdb/open-store.ts";
import type { Store } from "../../src/nsdb/store.ts";
import { AgentProcess } from "../../test/support/agent.ts";
import { Crowd, instanceOf, nowMs } from "../../test/support/crowd.ts";
import { MidonetWriter } from "../../test/support/midonet.ts";
import { StandInNova } from "../../test/support/nova.ts";
import { startZookeeper } from "../../test/support/zookeeper.ts";

const HOST_ID = "3f2e3d4c-5b6a-4798-8897-a6b5c4d3e2f1";
const SECRET = "scale";

/** All that stands around the agent: a real ZooKeeper, guests on taps, a stand-in nova. */
export class Cloud {
  readonly store: TimedStore;
  readonly midonet: MidonetWriter;
  readonly nova: StandInNova;
  readonly crowd: Crowd;
  readonly agent: AgentProcess;
  readonly #runFolder: string;
  readonly #stop: readonly (() => unknown)[];

  private constructor(
    parts: Pick<Cloud, "store" | "midonet" | "nova" | "crowd" | "agent">,
    runFolder: string,
    stop: readonly (() => unknown)[],
  ) {
    this.store = parts.store;
    this.midonet = parts.midonet;
    this.nova = parts.nova;
    this.crowd = parts.crowd;
    this.agent = parts.agent;
    this.#runFolder = runFolder;
    this.#stop = stop;
  }

  /** `taps` guests are plugged in, none is bound. */
  static async build(taps: number, talking: readonly number[]): Promise<Cloud> {
    const folder = mkdtempSync(join(tmpdir(), "mn-scale-"));
    // Its own default: with little, it stops the world ever longer for the changes of a large host object that it keeps.
    const zookeeper = await startZookeeper({ heapMiB: 1_000 });
    const nsdb = `zk://${zookeeper.address}/midonet`;
    const store = timed(await openStore(parseNsdbUrl(nsdb)));
    const nova = await StandInNova.start({
      secret: SECRET,
      instances: Array.from({ length: taps }, (_, n) => instanceOf(n)),
    });
    const midonet = new MidonetWriter(store, HOST_ID);
    await midonet.setKeys({ enabled: true, novaUrl: nova.url, secret: SECRET });
    const crowd = await Crowd.plug(taps, talking);
    const hostIdFile = join(folder, "host-id");
    writeFileSync(hostIdFile, `host_uuid=${HOST_ID}\n`);
    const runFolder = join(folder, "run");
    const agent = new AgentProcess({ nsdb, hostIdFile, runFolder });
    return new Cloud({ store, midonet, nova, crowd, agent }, runFolder, [
      () => agent.stop("SIGKILL"),
      () => crowd.unplug(),
      () => nova.close(),
      () => store.close(),
      () => zookeeper.cleanUp(),
      () => rmSync(folder, { recursive: true, force: true }),
    ]);
  }

  async tearDown(): Promise<void> {
    for (const step of this.#stop) await step();
  }

  status(): Promise<AgentStatus> {
    return askAgent(controlSocketPath(this.#runFolder), "/status");
  }

  async linkLocals(): Promise<ReadonlyMap<string, string>> {
    const rows = await askAgent<PortRow[]>(controlSocketPath(this.#runFolder), "/ports");
    return new Map(rows.map(({ port, linkLocal }) => [port, linkLocal]));
  }

  /** Waits until the agent is in sync and serves so many addresses. @returns When it was seen. */
  async serving(count: number, withinMs = 60_000): Promise<number> {
    const deadline = nowMs() + withinMs;
    while (nowMs() < deadline) {
      const status = await this.status().catch(() => undefined);
      if (status?.inSync === true && status.ports.served === count) return nowMs();
      await sleep(10);
    }
    throw new Error(
      `the agent does not serve ${count} addresses; its log:\n${this.agent.log.slice(-20).join("\n")}`,
    );
  }

  /** Waits for a line of the agent's log about a port, written from now on. @returns When it was seen. */
  async logs(text: string, portId: string): Promise<number> {
    const from = this.agent.log.length;
    const deadline = nowMs() + 20_000;
    while (nowMs() < deadline) {
      if (this.agent.log.slice(from).some((line) => line.includes(text) && line.includes(portId)))
        return nowMs();
      await sleep(1);
    }
    throw new Error(`the agent does not log "${text}" for ${portId}`);
  }
}

/** A store that remembers when its last write began. */
export interface TimedStore extends Store {
  lastWriteBeganMs: number;
  /** When the server's word came that it was written. */
  lastWriteEndedMs: number;
}

function timed(store: Store): TimedStore {
  const wrapped: TimedStore = {
    lastWriteBeganMs: 0,
    lastWriteEndedMs: 0,
    url: store.url,
    get session() {
      return store.session;
    },
    get: (path, onChange) => store.get(path, onChange),
    children: (path, onChange) => store.children(path, onChange),
    write: async (ops) => {
      wrapped.lastWriteBeganMs = nowMs();
      await store.write(ops);
      wrapped.lastWriteEndedMs = nowMs();
    },
    onSession: (listener) => store.onSession(listener),
    close: () => store.close(),
  };
  return wrapped;
}
