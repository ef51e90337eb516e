import type { Config } from "../config/config.ts";
import { INTERFACE } from "../datapath/base-ruleset.ts";
import type { Datapath, Observed } from "../datapath/datapath.ts";
import { DatapathError } from "../datapath/error.ts";
import { METADATA_ADDRESS, METADATA_ADDRESS_V6, METADATA_TCP_PORT } from "../datapath/link-local.ts";
import type { LinkTable } from "../datapath/links.ts";
import type { Store } from "../nsdb/store.ts";
import type { Logger } from "./log.ts";
import { PortTable } from "./ports/port-table.ts";
import { type ProbeHost, type ProbeResult, probe } from "./probe.ts";
import { ProxyError } from "./proxy/error.ts";
import { createProxy } from "./proxy/http-proxy.ts";
import type { ListenAddress, Proxy as MetadataProxy } from "./proxy/proxy.ts";
import { Reconciler, type ReconcileStatus } from "./reconcile.ts";
import { Releases } from "./releases.ts";
import { proxySettings, reservedNumbers } from "./settings.ts";
import type { ComputePort, TopologySnapshot } from "./topology/model.ts";
import { Topology } from "./topology/topology.ts";

/** What one run of the service needs; all of it outlives the service. */
export interface ServiceParts {
  readonly store: Store;
  readonly hostId: string;
  readonly datapath: Datapath;
  /** Begins to follow the links when the service starts, unless it does already. */
  readonly links: LinkTable;
  readonly log: Logger;
}

/** Everything that exists only while `agent.openstack.metadata.enabled` is true. */
export interface Service {
  readonly table: PortTable;
  readonly proxy: MetadataProxy;
  readonly snapshot: TopologySnapshot;
  /** Ports that only a probe asked for. */
  readonly lent: ReadonlyMap<string, ComputePort>;
  reconcileStatus(): ReconcileStatus;
  reconfigure(config: Config): void;
  /** Sends a request through the real path for a port of the snapshot. */
  probe(port: ComputePort): Promise<ProbeResult>;
  /** Stops serving. The kernel is left as it is, so that a restarted agent adopts it. */
  stop(drainMs: number): Promise<void>;
}

/** How long a number rests: longer than any packet of its old holder can be on its way. @source RFC 9293 §3.4.1, MSL */
const QUARANTINE_MS = 120_000;

/** What finds changes that made no event: nothing should be left for it to find. */
const FULL_CHECK_MS = 60_000;

const PROBE_POLL_MS = 20;

/** So long that whoever starts us again does not give up on it. @source systemd DefaultStartLimitBurst: 5 starts within 10 s */
const [OBSERVE_TRIES, OBSERVE_RETRY_MS] = [8, 1_000];

const IPV4: ListenAddress = { host: METADATA_ADDRESS, tcpPort: METADATA_TCP_PORT };
const IPV6: ListenAddress = { host: `${METADATA_ADDRESS_V6}%${INTERFACE}`, tcpPort: METADATA_TCP_PORT };

const NOTHING_YET: TopologySnapshot = { inSync: false, ports: new Map(), problems: [], hostIsKnown: true };

/**
 * Starts to serve, in the order that leaves no guest without an answer: listen where an earlier run left the
 * interface, observe and adopt what else it left, then open the kernel for more. The NSDB is read meanwhile,
 * or, where guests are not heard yet, after that.
 *
 * @throws {DatapathError} If the kernel cannot be programmed at all.
 * @throws {ProxyError} If the metadata address or port is taken.
 */
export async function startService(parts: ServiceParts, config: Config): Promise<Service> {
  const { store, hostId, datapath, links, log } = parts;
  const opened = new Releases();
  try {
    let reserved = reservedNumbers(config);
    const table = new PortTable({
      quarantineMs: QUARANTINE_MS,
      isReserved: (number) => reserved(number) || datapath.isHosts(number),
      now: () => performance.now(),
    });
    const proxy = createProxy({ tenures: table, settings: proxySettings(config), log });
    let drainMs = 0;
    opened.add(() => proxy.close(drainMs));
    // Where an earlier run left the interface, guests are heard now, and held until they are known. What keeps
    // them from it is told by the next try, when the interface is there for sure.
    const deaf: ListenAddress[] = [];
    for (const address of [IPV4, IPV6]) await proxy.listen(address).catch(() => deaf.push(address));
    const met = meetKernel({ datapath, table, proxy, log }, deaf);
    // What it fails with is told where it is waited for; nothing is closed under its feet.
    const isOver = met.catch(() => undefined);
    opened.add(() => isOver);
    if (!links.isComplete) await links.start();
    // Where there is no interface there is next to nothing to adopt, so guests are heard before the reading begins.
    if (deaf.includes(IPV4)) await met;

    let snapshot = NOTHING_YET;
    // Read from now on; acted on once what an earlier run left is adopted.
    let onSnapshot = (): void => undefined;
    const topology = new Topology(store, hostId, (next) => {
      tellProblems(snapshot, next, hostId, log);
      snapshot = next;
      onSnapshot();
    });
    opened.add(() => topology.close());

    await met;

    const lent = new Map<string, ComputePort>();
    const reconciler = new Reconciler({
      datapath,
      table,
      log,
      snapshot: () =>
        lent.size === 0 ? snapshot : { ...snapshot, ports: new Map([...snapshot.ports, ...lent]) },
      linkOf: (interfaceName) => links.get(interfaceName),
      linksAreComplete: () => links.isComplete,
      endTenure: (tenure) => proxy.endTenure(tenure),
      onRepair: () => listenIpv6(proxy, log),
    });
    opened.add(() => reconciler.stop());
    opened.add(links.onChange(() => reconciler.trigger()));
    opened.add(datapath.onDrift(() => reconciler.trigger()));

    onSnapshot = () => reconciler.trigger();
    onSnapshot();
    const fullCheck = setInterval(() => reconciler.trigger(), FULL_CHECK_MS);
    opened.add(() => clearInterval(fullCheck));

    const probeHost = probeHostOf(lent, reconciler);
    return {
      table,
      proxy,
      lent,
      probe: (port) => probe(port, probeHost),
      get snapshot() {
        return snapshot;
      },
      reconcileStatus: () => reconciler.status(),
      reconfigure: (next) => {
        reserved = reservedNumbers(next);
        proxy.reconfigure(proxySettings(next));
        reconciler.trigger();
      },
      stop: async (withinMs) => {
        drainMs = withinMs;
        await opened.close();
      },
    };
  } catch (error) {
    await opened.close();
    throw error;
  }
}

/** Adopts what an earlier run left in the kernel, and makes that guests are heard where they are not yet. */
async function meetKernel(
  { datapath, table, proxy, log }: Pick<ServiceParts, "datapath" | "log"> & Pick<Service, "table" | "proxy">,
  deaf: readonly ListenAddress[],
): Promise<void> {
  const { ports: adopted } = await observed(datapath, log);
  table.adopt(adopted);
  if (adopted.length > 0) log.info({ ports: adopted.length }, "ports of an earlier run adopted");
  if (deaf.length > 0) await datapath.sync([], "add-only");
  if (deaf.includes(IPV4)) await proxy.listen(IPV4);
  if (deaf.includes(IPV6)) await listenIpv6(proxy, log);
}

/**
 * What is in the kernel. Where the host cannot read it just now (it has no memory left for nft), it is asked again:
 * to end and be started anew gives up too soon, and to go on as if there were nothing moves every guest's address.
 */
async function observed(datapath: Datapath, log: Logger): Promise<Observed> {
  for (let tries = 1; ; tries++) {
    try {
      return await datapath.observe();
    } catch (error) {
      if (!(error instanceof DatapathError) || error.code !== "failed" || tries === OBSERVE_TRIES)
        throw error;
      log.warn({ error: error.message }, "what an earlier run left cannot be read; trying again");
      await new Promise((resolve) => setTimeout(resolve, OBSERVE_RETRY_MS));
    }
  }
}

/** Serves a probe's port beside those of the NSDB for as long as it is lent. */
function probeHostOf(lent: Map<string, ComputePort>, reconciler: Reconciler): ProbeHost {
  return {
    lend(port) {
      lent.set(port.portId, port);
      reconciler.trigger();
      return () => {
        lent.delete(port.portId);
        reconciler.trigger();
      };
    },
    async served(portId, withinMs) {
      const deadline = performance.now() + withinMs;
      let reason: string | undefined = "its interface was not seen";
      while (performance.now() < deadline) {
        await reconciler.idle();
        const { idle, failing, broken } = reconciler.status();
        reason = broken ?? failing.get(portId) ?? idle.get(portId);
        if (reason === undefined) return undefined;
        await new Promise((resolve) => setTimeout(resolve, PROBE_POLL_MS));
      }
      return reason;
    },
  };
}

/** A host that has IPv6 switched off serves without it. */
async function listenIpv6(proxy: MetadataProxy, log: Logger): Promise<void> {
  try {
    await proxy.listen(IPV6);
  } catch (error) {
    if (!(error instanceof ProxyError) || error.code !== "address-not-available") throw error;
    log.warn({ error: error.message }, "guests are served over IPv4 only: this host has no IPv6");
  }
}

/** One line for each object that cannot be used, when it becomes so. */
function tellProblems(before: TopologySnapshot, next: TopologySnapshot, hostId: string, log: Logger): void {
  const known = new Set(before.problems.map(({ znode, reason }) => `${znode} ${reason}`));
  for (const { znode, reason } of next.problems) {
    if (!known.has(`${znode} ${reason}`)) log.warn({ znode }, `object skipped: ${reason}`);
  }
  if (!next.hostIsKnown && (before.hostIsKnown || before === NOTHING_YET)) {
    log.warn(
      { host: hostId },
      "the NSDB has no Host object with this host's id: no port is bound here (yet)",
    );
  }
  if (next.inSync && !before.inSync) log.info({ ports: next.ports.size }, "the NSDB has been read whole");
}
