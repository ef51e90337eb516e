import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import type { Agent } from "../../src/agent/agent.ts";
import { explainCommand } from "../../src/agent/commands/explain.ts";
import { controlSocketPath, serveControl } from "../../src/agent/control.ts";
import { explain, type PortExplanation } from "../../src/agent/explain.ts";
import type { GlobalOptions } from "../../src/agent/options.ts";
import type { ProbeResult } from "../../src/agent/probe.ts";
import type { LastRequest } from "../../src/agent/proxy/proxy.ts";
import type { ComputePort } from "../../src/agent/topology/model.ts";
import type { HostFinding } from "../../src/datapath/datapath.ts";

const PORT: ComputePort = {
  portId: "11111111-1111-4111-8111-111111111111",
  interfaceName: "tap1",
  mac: "fa:16:3e:00:00:01",
  fixedAddresses: ["10.0.0.3", "fd00::3"],
  instanceId: "instance",
  projectId: "project",
};
const LAST = { at: Date.now(), method: "GET", path: "/", status: 200, durationMs: 1, requestId: "r" };
const SILENCED: HostFinding = { sentence: "The firewall drops it.", silencesGuests: true };
const OVER_IPV6: HostFinding = { sentence: "Over IPv6 it is dropped.", silencesGuests: false };

interface Host {
  readonly port?: Partial<ComputePort>;
  readonly packets?: number;
  readonly last?: readonly LastRequest[];
  readonly firewall?: readonly HostFinding[];
  readonly idle?: string;
  readonly probed?: ProbeResult;
}

/** As much of an agent as is asked; and how often it probed. */
function stage({ port: over = {}, packets = 0, last = [], firewall = [], idle, probed }: Host) {
  const port = { ...PORT, ...over };
  const probe = vi.fn(async () => probed ?? { ok: true, sentence: "it was answered" });
  const { portId, interfaceName } = port;
  const agent = {
    firewall,
    watchFirewall: async () => undefined,
    parts: {
      links: { get: () => ({ up: true }) },
      datapath: {
        observe: async () => ({ baseIntact: true, ports: [{ portId, interfaceName }] }),
        counters: async () => ({ packets, bytes: 0 }),
      },
    },
    service: {
      probe,
      lent: new Map(),
      snapshot: { ports: new Map([[portId, port]]), problems: [] },
      proxy: { lastRequests: () => last },
      table: { tenures: () => [], leaving: () => [] },
      reconcileStatus: () => ({
        inSync: true,
        idle: new Map(idle === undefined ? [] : [[portId, idle]]),
        failing: new Map(),
      }),
    },
  } as unknown as Agent; // What else it has is asked by nobody here.
  return { agent, probe };
}

async function explained(host: Host, isProbed = false): Promise<PortExplanation> {
  const [one] = await explain(stage(host).agent, "tap1", isProbed);
  if (one === undefined) throw new Error("nothing was explained");
  return one;
}

describe("`explain()`", () => {
  test("of a guest that nothing came from names both reasons, and what shows which it is", async () => {
    const { verdict } = await explained({});
    expect(verdict).toContain("has not asked yet");
    expect(verdict).toContain("its route to 169.254.169.254");
    expect(verdict).toContain("from another address than 10.0.0.3, which is dropped");
    expect(verdict).toContain("tcpdump -ni tap1 dst 169.254.169.254");
  });

  test("says the same where it asked an earlier agent, since it may have another address by now", async () => {
    const { verdict } = await explained({ packets: 7 });
    expect(verdict).toMatch(/since the agent started.*from another address than 10\.0\.0\.3/);
  });

  test("does not suspect the address of a guest that may have any", async () => {
    const { verdict } = await explained({ port: { fixedAddresses: ["fd00::3"], isIpv6Only: true } });
    expect(verdict).toContain("has not asked yet");
    expect(verdict).not.toContain("another address");
  });

  test("probes no port that Neutron names no instance for: nova could not know it", async () => {
    const { agent, probe } = stage({ port: { instanceId: "" } });
    const [one] = await explain(agent, "tap1", true);
    expect(probe).not.toHaveBeenCalled();
    expect(one?.probe).toMatchObject({ ok: false, sentence: expect.stringContaining("not sent") });
    expect(one?.verdict).toContain("device_id is empty");
  });

  test("takes the firewall for the reason where a probe has failed, and a probe that got through at its word", async () => {
    const failed = { firewall: [SILENCED], probed: { ok: false, sentence: "it timed out" } };
    expect((await explained(failed, true)).verdict).toContain("The firewall drops it.");
    expect((await explained({ firewall: [SILENCED], last: [LAST] }, true)).verdict).toMatch(/^Served: /);
  });
});

describe("`mn-metadata explain`", () => {
  let runFolder: string;
  let stop: (() => Promise<void>) | undefined;

  beforeEach(() => {
    runFolder = mkdtempSync(join(tmpdir(), "mn-explain-"));
    vi.spyOn(process.stdout, "write").mockReturnValue(true);
  });

  afterEach(async () => {
    vi.restoreAllMocks();
    await stop?.();
    rmSync(runFolder, { recursive: true, force: true });
  });

  test.each([
    [0, "is served", { last: [LAST] }],
    [0, "has not asked", {}],
    [0, "is served over IPv4", { last: [LAST], firewall: [OVER_IPV6] }],
    [1, "is kept out by the host's firewall", { firewall: [SILENCED] }],
    [1, "is kept out by it by now", { last: [LAST], firewall: [SILENCED] }],
    [1, "has an interface that is down", { idle: "it is down" }],
  ] as const)("ends with %i for a guest that %s", async (code, _, host) => {
    stop = await serveControl(controlSocketPath(runFolder), {
      "/explain": () => explain(stage(host).agent, "tap1", false),
    });
    const options = { runFolder } as GlobalOptions; // No other is looked at.
    expect(await explainCommand(options, "tap1", false, false)).toBe(code);
  });

  test.each([
    [0, { ok: true, sentence: "answered" }],
    [1, { ok: false, sentence: "timed out" }],
  ] as const)("ends with %i where a probe says %o", async (code, probed) => {
    stop = await serveControl(controlSocketPath(runFolder), {
      "/explain": () => explain(stage({ probed, last: [LAST] }).agent, "tap1", true),
    });
    const options = { runFolder } as GlobalOptions; // No other is looked at.
    expect(await explainCommand(options, "tap1", true, false)).toBe(code);
  });
});
