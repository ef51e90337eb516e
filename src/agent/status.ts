import type { PortRow } from "./commands/ports.ts";
import type { LastRequest, ProxyStatus } from "./proxy/proxy.ts";
import type { TopologyProblem } from "./topology/model.ts";

/**
 * What the agent says of itself; `mn-metadata status --json` prints it as it is.
 *
 * - `idle`: `enabled` is false, nothing is plumbed.
 * - `starting`: before the first complete read of the NSDB; what an earlier run plumbed is served already.
 * - `serving`: kernel and NSDB agree.
 * - `degraded`: guests are served, and something needs an operator: see `attention`.
 */
export interface AgentStatus {
  readonly state: "idle" | "starting" | "serving" | "degraded";
  readonly version: string;
  readonly pid: number;
  readonly hostId: string;
  readonly nsdb: { readonly url: string; readonly session: string };
  readonly enabled: boolean;
  readonly inSync: boolean;
  readonly ports: { readonly served: number; readonly idle: number; readonly failing: number };
  /** Sentences, each something to look at; empty when all is well. */
  readonly attention: readonly string[];
  readonly problems: readonly TopologyProblem[];
  readonly proxy: ProxyStatus | undefined;
  readonly memoryBytes: number;
  readonly uptimeSeconds: number;
}

/** Everything that the agent and the kernel know of one port, for `mn-metadata explain`. */
export interface PortExplanation {
  readonly port: string;
  readonly bound: boolean;
  readonly interface: string | undefined;
  readonly served: readonly PortRow[];
  /** Why it is not served, if it is not. */
  readonly idle: string | undefined;
  readonly failing: string | undefined;
  /** Packets that the kernel took from the guest and gave to it, where it counts them. */
  readonly packets: { readonly fromGuest: number; readonly toGuest: number } | undefined;
  readonly lastRequests: readonly LastRequest[];
  readonly probe: { readonly ok: boolean; readonly sentence: string } | undefined;
  readonly verdict: string;
}

/** The status as a screen for a person. */
export function statusScreen(status: AgentStatus): string {
  const { ports, proxy } = status;
  const lines = [
    `mn-metadata ${status.version} is ${status.state.toUpperCase()} (pid ${status.pid}, up ${duration(status.uptimeSeconds)})`,
    `host      ${status.hostId}`,
    `nsdb      ${status.nsdb.url} (${status.nsdb.session})`,
    `enabled   ${status.enabled ? "yes" : "no: nothing is plumbed; mn-conf set 'agent.openstack.metadata.enabled : true' -t default"}`,
    `in sync   ${status.inSync ? "yes" : "no"}`,
    `ports     ${ports.served} served, ${ports.idle} not served, ${ports.failing} failing`,
  ];
  if (proxy !== undefined) {
    const { "2xx": ok, "4xx": refused, "5xx": failed } = proxy.responsesByClass;
    lines.push(
      `listening ${proxy.listening.join(", ") || "nowhere"}`,
      `requests  ${proxy.requests} (2xx ${ok}, 4xx ${refused}, 5xx ${failed}); in flight ${proxy.inFlight}, held ${proxy.held}`,
      ...proxy.endpoints.map(({ url, state, reason }) => `nova      ${url} ${state}${reason === undefined ? "" : `: ${reason}`}`),
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
