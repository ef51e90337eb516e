import { modelPath } from "../nsdb/paths.ts";
import type { Agent } from "./agent.ts";
import type { PortRow } from "./port-row.ts";
import type { Tenure } from "./ports/tenure.ts";
import type { ProxyStatus } from "./proxy/proxy.ts";
import type { TopologyProblem } from "./topology/model.ts";

/**
 * What the agent says of itself; `mn-metadata status --json` prints it as it is.
 *
 * - `idle`: `enabled` is false, nothing is plumbed.
 * - `starting`: before the first complete read of the NSDB; what an earlier run plumbed is served already.
 * - `serving`: kernel and NSDB agree.
 * - `degraded`: something needs an operator: see `attention`, which also says what becomes of guests.
 */
export interface AgentStatus {
  readonly state: "idle" | "starting" | "serving" | "degraded";
  readonly version: string;
  readonly pid: number;
  readonly hostId: string;
  /** False when the NSDB has no `Host` object of that id, so that no port is bound here. */
  readonly hostIsKnown: boolean;
  readonly nsdb: { readonly url: string; readonly session: string };
  /** Null before the configuration has been read. */
  readonly enabled: boolean | null;
  readonly inSync: boolean;
  readonly ports: { readonly served: number; readonly idle: number; readonly failing: number };
  /** Sentences, each something to look at; empty when all is well. */
  readonly attention: readonly string[];
  readonly problems: readonly TopologyProblem[];
  readonly proxy: ProxyStatus | undefined;
  readonly memoryBytes: number;
  readonly uptimeSeconds: number;
}

/** The status now. */
export function agentStatus(agent: Agent): AgentStatus {
  const { parts, service, config } = agent;
  const reconcile = service?.reconcileStatus();
  const attention = attentionOf(agent);
  const enabled = config?.enabled ?? null;
  const inSync = reconcile?.inSync ?? false;
  const isUnwell = attention.length > 0 || agent.refusal !== undefined;
  return {
    state: enabled === false ? "idle" : isUnwell ? "degraded" : inSync ? "serving" : "starting",
    version: parts.version,
    pid: process.pid,
    hostId: parts.hostId,
    hostIsKnown: service?.snapshot.hostIsKnown ?? true,
    nsdb: { url: parts.store.url, session: parts.store.session },
    enabled,
    inSync,
    ports: {
      served: servedTenures(service).length,
      idle: reconcile?.idle.size ?? 0,
      failing: reconcile?.failing.size ?? 0,
    },
    attention,
    problems: service?.snapshot.problems ?? [],
    proxy: service?.proxy.status(),
    memoryBytes: process.memoryUsage.rss(),
    uptimeSeconds: (Date.now() - agent.startedAt) / 1_000,
  };
}

function attentionOf({
  parts,
  service,
  configProblems,
  refusal,
  nsdbLoss,
  nsdbIsAway,
  meanwhile,
  firewall,
}: Agent): readonly string[] {
  const reconcile = service?.reconcileStatus();
  const hostObject = modelPath("Host", parts.hostId);
  const ofHost = service?.snapshot.problems.filter(({ znode }) => znode === hostObject) ?? [];
  return [
    ...(refusal === undefined ? [] : [refusal]),
    ...configProblems.map(({ sentence }) => sentence),
    ...(nsdbLoss === undefined ? [] : [`the NSDB cannot be reached (${nsdbLoss}): ${meanwhile}`]),
    ...(nsdbIsAway === undefined ? [] : [`the NSDB cannot be read: ${meanwhile}. ${nsdbIsAway}`]),
    ...ofHost.map(({ znode, reason }) => `"${znode}" cannot be used, so ports stay as they were: ${reason}`),
    ...(reconcile?.broken === undefined
      ? []
      : [`the kernel could not be brought in line: ${reconcile.broken}`]),
    ...[...(reconcile?.failing ?? [])].map(
      ([port, reason]) => `port ${port} could not be plumbed: ${reason}`,
    ),
    ...novaIsAway(service),
    ...firewall.map(({ sentence }) => sentence),
  ];
}

function novaIsAway(service: Agent["service"]): readonly string[] {
  const endpoints = service?.proxy.status().endpoints ?? [];
  if (endpoints.length === 0 || endpoints.some(({ state }) => state !== "ejected")) return [];
  const reasons = endpoints.map(({ url, reason }) => `${url}: ${reason ?? "no answer"}`).join("; ");
  return [`nova cannot be reached, so guests wait and then get 503 (${reasons})`];
}

/** The addresses that are served now, one row each. */
export function portRows({ service }: Agent): readonly PortRow[] {
  return servedTenures(service).map((tenure) => ({
    port: tenure.portId,
    interface: tenure.interfaceName,
    fixedAddress: tenure.fixedAddress,
    linkLocal: tenure.linkLocal,
    instanceId: tenure.instanceId,
    projectId: tenure.projectId,
    mac: service?.snapshot.ports.get(tenure.portId)?.mac ?? null,
  }));
}

function servedTenures(service: Agent["service"]): readonly Tenure[] {
  if (service === undefined) return [];
  const { failing } = service.reconcileStatus();
  const leaving = new Set(service.table.leaving());
  return service.table
    .tenures()
    .filter(
      (tenure) => !leaving.has(tenure) && !failing.has(tenure.portId) && !service.lent.has(tenure.portId),
    );
}

const ENABLED: Readonly<Record<string, string>> = {
  true: "yes",
  false: "no: nothing is plumbed; mn-conf set 'agent.openstack.metadata.enabled : true' -t default",
  null: "not known yet: the configuration has not been read",
};

/** The status as a screen for a person. */
export function statusScreen(status: AgentStatus): string {
  const { ports, proxy } = status;
  const lines = [
    `mn-metadata ${status.version} is ${status.state.toUpperCase()} (pid ${status.pid}, up ${duration(status.uptimeSeconds)})`,
    `host      ${status.hostId}${status.hostIsKnown ? "" : " (not in the NSDB: no port is bound here yet)"}`,
    `nsdb      ${status.nsdb.url} (${status.nsdb.session})`,
    `enabled   ${ENABLED[String(status.enabled)]}`,
    `in sync   ${status.inSync ? "yes" : "no"}`,
    `ports     ${ports.served} served, ${ports.idle} not served, ${ports.failing} failing`,
  ];
  if (proxy !== undefined) {
    const { "2xx": ok, "4xx": refused, "5xx": failed } = proxy.responsesByClass;
    lines.push(
      `listening ${proxy.listening.join(", ") || "nowhere"}`,
      `requests  ${proxy.requests} (2xx ${ok}, 4xx ${refused}, 5xx ${failed}); in flight ${proxy.inFlight}, held ${proxy.held}`,
      ...proxy.endpoints.map(
        ({ url, state, reason }) => `nova      ${url} ${state}${reason === undefined ? "" : `: ${reason}`}`,
      ),
    );
  }
  lines.push(...status.problems.map(({ znode, reason }) => `skipped   ${znode}: ${reason}`));
  lines.push(...status.attention.map((sentence) => `ATTENTION ${sentence}`));
  return `${lines.join("\n")}\n`;
}

function duration(seconds: number): string {
  if (seconds < 120) return `${Math.floor(seconds)} s`;
  if (seconds < 7_200) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 172_800) return `${Math.floor(seconds / 3_600)} h`;
  return `${Math.floor(seconds / 86_400)} days`;
}
