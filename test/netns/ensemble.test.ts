import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { memberOf, nowMs } from "../support/crowd.ts";
import { EnsembleHost } from "../support/ensemble-host.ts";
import { expireSession } from "../support/expire-session.ts";
import { run } from "../support/guests.ts";
import type { ZookeeperServer } from "../support/zookeeper.ts";

const GUESTS = 10;
const ASK_EVERY_MS = 50;
/** From the session's return, or the write where it was not lost. */
const LAG_MS = 2_000;

describe("an agent on an ensemble of three, while ten guests ask", () => {
  let host: EnsembleHost;
  let before: ReadonlyMap<string, string>;

  beforeAll(async () => {
    await run("npm", "run", "--silent", "build");
    host = await EnsembleHost.build({ guests: GUESTS, tickMs: 200 });
    await host.startAt(host.nsdb);
    before = await host.served();
  });
  afterAll(() => host?.tearDown());

  beforeEach(() => {
    host.crowd.poll(host.guests, ASK_EVERY_MS);
    return async () => {
      // However soon it was over: the guests ask on for a while.
      await sleep(10 * ASK_EVERY_MS);
      const attempts = await host.crowd.stopPolling();
      expect(attempts.filter(({ outcome }) => outcome !== "own")).toEqual([]);
      expect(attempts.length).toBeGreaterThan(GUESTS * 5);
      const after = await host.served();
      const moved = host.guests.filter((n) => linkLocalOf(after, n) !== linkLocalOf(before, n));
      expect(moved).toEqual([]);
      expect((await host.status()).attention).toEqual([]);
    };
  });

  async function restart(...servers: ZookeeperServer[]): Promise<void> {
    for (const server of servers) server.launch();
    for (const server of servers) await server.serving();
  }

  test("serves on, and is exact, when the leader is killed", async () => {
    const leader = await host.ensemble.leader();
    const faultMs = nowMs();
    await leader.kill();
    const lag = await host.change(faultMs);
    expect(lag.ms).toBeLessThan(LAG_MS);
    await restart(leader);
  });

  test("serves on, and is exact, when the server that it is on is killed", async () => {
    const { server } = await host.session();
    const faultMs = nowMs();
    await server.kill();
    const lag = await host.change(faultMs);
    expect(lag.lostMs).toBeGreaterThan(0);
    expect(lag.ms).toBeLessThan(LAG_MS);
    await restart(server);
  });

  test("serves on, and is exact, when its session has expired", async () => {
    const { server, sessionId } = await host.session();
    const faultMs = nowMs();
    const known = host.agent.log.length;
    await expireSession(server, sessionId);
    await expect.poll(() => host.agent.log.slice(known).join("\n")).toContain("the NSDB is back");
    const lag = await host.change(faultMs);
    expect(lag.lostMs).toBeGreaterThan(0);
    expect(lag.ms).toBeLessThan(LAG_MS);
  });

  test("serves on, and is exact, when the server that it is on never answers again", async () => {
    const { server } = await host.session();
    const faultMs = nowMs();
    const known = host.agent.log.length;
    server.stop();
    await expect.poll(() => host.agent.log.slice(known).join("\n")).toContain("the NSDB is back");
    const lag = await host.change(faultMs);
    expect(lag.lostMs).toBeGreaterThan(0);
    expect(lag.ms).toBeLessThan(LAG_MS);
    server.cont();
    await server.serving();
  });

  test("serves on while two of three are away, says so, and is exact when they are back", async () => {
    const down = host.ensemble.servers.slice(0, 2);
    const faultMs = nowMs();
    for (const server of down) await server.kill();
    await expect
      .poll(async () => (await host.status()).attention)
      .toEqual([
        expect.stringMatching(/the NSDB cannot be reached \(127\.0\.0\.1:\d+: .+\): guests are served/),
      ]);
    const changed = host.change(faultMs);
    expect((await host.served()).size).toBe(GUESTS + 1);
    await restart(...down);
    expect((await changed).ms).toBeLessThan(LAG_MS);
    expect(await host.agent.command("plan")).toMatch(/^# nothing to do/);
  });
});

function linkLocalOf(served: ReadonlyMap<string, string>, n: number): string | undefined {
  return served.get(memberOf(n).portId);
}
