import { isIPv4, isIPv6 } from "node:net";
import { canonicalIpv6 } from "../datapath/fact.ts";
import { linkLocalOf, numberOf } from "../datapath/link-local.ts";
import type { Agent } from "./agent.ts";
import type { PortRow } from "./port-row.ts";
import type { ProbeResult } from "./probe.ts";
import type { LastRequest } from "./proxy/proxy.ts";
import type { Service } from "./service.ts";
import { portRows } from "./status.ts";
import type { ComputePort } from "./topology/model.ts";

/** Everything that the agent and the kernel know of one port, for `mn-metadata explain`. */
export interface PortExplanation {
  readonly port: string;
  readonly interface: string;
  /** What the kernel says of the interface. */
  readonly link: "missing" | "down" | "up";
  readonly instanceId: string;
  readonly addresses: readonly PortRow[];
  /** Whether the kernel holds all that the port needs, read back now. */
  readonly plumbed: boolean;
  /** Packets that the kernel took from the guest for us; undefined where it has no count. */
  readonly packetsFromGuest: number | undefined;
  /** The newest first. */
  readonly lastRequests: readonly LastRequest[];
  readonly probe: ProbeResult | undefined;
  /** Whether its guest can be answered at all, as far as is known; the verdict says why not. */
  readonly served: boolean;
  /** One sentence; behind it, what else an operator should know of the host. */
  readonly verdict: string;
}

/** Explains every port that `what` names: a port's UUID, an interface, a link-local address, a fixed address. */
export async function explain(
  agent: Agent,
  what: string,
  probe: boolean,
): Promise<readonly PortExplanation[]> {
  const { service } = agent;
  if (service === undefined) {
    throw new Error(
      agent.refusal ??
        "agent.openstack.metadata.enabled is false, so nothing is plumbed: mn-conf set 'agent.openstack.metadata.enabled : true' -t default",
    );
  }
  // It may have been closed a moment ago.
  await agent.watchFirewall();
  const rows = portRows(agent);
  const named = portIdsNamed(service, rows, what);
  if (named.length === 0) throw new Error(notNamed(agent, what));
  return Promise.all(named.map((portId) => explainPort(agent, service, rows, portId, probe)));
}

function portIdsNamed(service: Service, rows: readonly PortRow[], what: string): readonly string[] {
  const wanted = isIPv6(what) ? canonicalIpv6(what) : what.toLowerCase();
  const number = numberOf(what);
  const byRow = rows
    .filter((row) => number !== undefined && row.linkLocal === linkLocalOf(number))
    .map((row) => row.port);
  const byPort = [...service.snapshot.ports.values()]
    .filter(
      ({ portId, interfaceName, fixedAddresses }) =>
        portId === wanted || interfaceName === what || fixedAddresses.includes(wanted),
    )
    .map(({ portId }) => portId);
  return [...new Set([...byRow, ...byPort])];
}

function notNamed(agent: Agent, what: string): string {
  const about =
    agent.service?.snapshot.problems.filter(({ znode }) => znode.includes(what.toLowerCase())) ?? [];
  if (about.length > 0) {
    return about.map(({ znode, reason }) => `Cannot serve "${what}": ${znode}: ${reason}`).join("; ");
  }
  return `Cannot find "${what}": no port that the NSDB binds to this host (${agent.parts.hostId}) has that id, interface or address; mn-metadata port list shows those that are bound`;
}

async function explainPort(
  agent: Agent,
  service: Service,
  rows: readonly PortRow[],
  portId: string,
  probe: boolean,
): Promise<PortExplanation> {
  const port = service.snapshot.ports.get(portId);
  if (port === undefined) throw new Error(`Cannot explain port ${portId}: it was unbound just now`);
  const { datapath, links } = agent.parts;
  const link = links.get(port.interfaceName);
  const observed = await datapath.observe();
  const facts = {
    port: portId,
    interface: port.interfaceName,
    link: link === undefined ? ("missing" as const) : link.up ? ("up" as const) : ("down" as const),
    instanceId: port.instanceId,
    addresses: rows.filter((row) => row.port === portId),
    plumbed: observed.baseIntact && observed.ports.some((plumbing) => plumbing.portId === portId),
    packetsFromGuest: (await datapath.counters(portId))?.packets,
    lastRequests: service.proxy.lastRequests(portId),
    probe: !probe ? undefined : port.instanceId === "" ? NOT_PROBED : await service.probe(port),
  };
  const others = agent.firewall.filter(({ silencesGuests }) => !silencesGuests);
  const sentences = others.map(({ sentence }) => sentence);
  const { served, verdict } = verdictOf(facts, port, service, agent);
  return { ...facts, served, verdict: [verdict, ...sentences].join(" ") };
}

/** It would be held for as long as an instance may take to be named, and end in 404. */
const NOT_PROBED: ProbeResult = {
  ok: false,
  sentence: "not sent: Neutron names no instance for the port (device_id is empty)",
};

type Facts = Omit<PortExplanation, "verdict" | "served">;
type Verdict = Pick<PortExplanation, "verdict" | "served">;

function verdictOf(facts: Facts, port: ComputePort, service: Service, agent: Agent): Verdict {
  const { idle, failing, broken, inSync } = service.reconcileStatus();
  const [last] = facts.lastRequests;
  const no = (verdict: string): Verdict => ({ served: false, verdict });
  const yes = (verdict: string): Verdict => ({ served: true, verdict });
  const notServed = idle.get(facts.port) ?? failing.get(facts.port) ?? broken;
  if (notServed !== undefined) return no(`Not served: ${notServed}.`);
  if (!facts.plumbed) {
    return no(
      inSync
        ? "Not served: the kernel lost its plumbing; it is being repaired."
        : "Not served yet: the agent is still starting.",
    );
  }
  // A probe that got through knows better than what is read from rules.
  const firewall = agent.firewall.find(({ silencesGuests }) => silencesGuests);
  if (firewall !== undefined && facts.probe?.ok !== true)
    return no(`Plumbed, but the host's firewall stands in the way: ${firewall.sentence}`);
  if (facts.instanceId === "") {
    return yes(
      "Plumbed, but Neutron names no instance for the port (device_id is empty), so requests end in 404.",
    );
  }
  if (facts.probe !== undefined && !facts.probe.ok)
    return no(`Plumbed, but a probe failed: ${facts.probe.sentence}.`);
  if (last !== undefined) {
    const seconds = Math.round((Date.now() - last.at) / 1_000);
    const outcome = last.status < 400 ? "well" : `with status ${last.status} (request ${last.requestId})`;
    return yes(`Served: its last request, ${last.method} ${last.path} ${seconds} s ago, ended ${outcome}.`);
  }
  return yes(
    facts.packetsFromGuest === 0
      ? `Plumbed, but nothing of the guest's has come to the proxy yet: ${reasonsForSilence(port)}`
      : `Plumbed and ready, but nothing has come since the agent started: ${reasonsForSilence(port)}`,
  );
}

/** What was dropped is counted for all ports together, so only the wire can tell. */
function reasonsForSilence({ interfaceName, fixedAddresses, isIpv6Only }: ComputePort): string {
  const route = "it has not asked yet (if it should have, look at its route to 169.254.169.254)";
  const wire = `On this host, tcpdump -ni ${interfaceName} dst 169.254.169.254 shows what it sends.`;
  const known = fixedAddresses.filter(isIPv4);
  if (isIpv6Only === true || known.length === 0) return `${route}. ${wire}`;
  return `either ${route}, or it asks from another address than ${known.join(", ")}, which is dropped (counted in nft list chain netdev mn_metadata to_proxy4). ${wire}`;
}
