import { execFileSync } from "node:child_process";
import { connect } from "node:net";
import { describe, expect, it } from "vitest";
import { ask, RawGuest, startLab, until } from "./lab.ts";

const HOSTNAME = "/latest/meta-data/hostname";
const GET = `GET ${HOSTNAME} HTTP/1.1\r\nHost: x\r\n\r\n`;

describe("many guests and bad guests", () => {
  it("are all answered: a thousand connections at once, none refused", async () => {
    await using lab = await startLab({ holdMs: 8_000 });
    lab.nova.fault = () => ({ kind: "slow", ms: 50 });
    const replies = await Promise.all(
      Array.from({ length: 1_000 }, (_, i) => ask(lab, 1 + (i % 9), `${HOSTNAME}?${i % 50}`)),
    );
    expect(replies.filter(({ status }) => status === 200)).toHaveLength(1_000);
  });

  it("find a backlog of 4096, or what the kernel allows", async () => {
    await using lab = await startLab();
    const listing = execFileSync("ss", ["-ltnH", `sport = :${lab.tcpPort}`], { encoding: "utf8" });
    const somaxconn = Number(execFileSync("sysctl", ["-n", "net.core.somaxconn"], { encoding: "utf8" }));
    expect(Number(listing.trim().split(/\s+/)[2])).toBe(Math.min(4_096, somaxconn));
  });

  it("do not stop a neighbour with 1,100 half-sent requests, and make room for their own newest", async () => {
    await using lab = await startLab();
    const halves = await Promise.all(Array.from({ length: 1_100 }, () => RawGuest.connect(lab, 1)));
    for (const half of halves) half.send("GET / HTTP/1.1\r\nHost: x\r\nX-A: ");
    expect((await ask(lab, 2, HOSTNAME)).text).toBe("guest-2");
    expect((await ask(lab, 1, HOSTNAME)).text).toBe("guest-1");
    expect(lab.proxy.status().connections).toBeLessThanOrEqual(1_025);
    expect(lab.nova.requests).toHaveLength(2);
    for (const half of halves) half.close();
  });

  it("lose a connection whose head does not come within ten seconds", { timeout: 20_000 }, async () => {
    await using lab = await startLab();
    const [silent, slow] = [await RawGuest.connect(lab, 1), await RawGuest.connect(lab, 1)];
    const drip = setInterval(() => slow.send("X-A: 1\r\n"), 300);
    slow.send("GET / HTTP/1.1\r\nHost: x\r\n");
    await until(() => slow.state !== "open" && silent.state !== "open", 15_000);
    clearInterval(drip);
    expect(slow.statuses).toEqual([408]);
    expect(lab.nova.requests).toEqual([]);
  });

  it("get 408 for a body that does not come", async () => {
    await using lab = await startLab({ holdMs: 300 });
    const raw = await RawGuest.connect(lab, 1);
    raw.send("POST /openstack HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc");
    await until(() => raw.state !== "open");
    expect(raw.statuses).toEqual([408]);
    expect(lab.nova.requests).toEqual([]);
  });

  it("take turns: a guest with 200 slow requests does not make a neighbour wait for them", async () => {
    await using lab = await startLab({ holdMs: 20_000 });
    lab.nova.fault = (_method, path) => (path.includes("slow") ? { kind: "slow", ms: 100 } : undefined);
    const crowd = Array.from({ length: 200 }, (_, i) => ask(lab, 1, `/latest/slow?${i}`));
    await until(() => lab.nova.requests.length >= 16);
    let others = 0;
    for (let i = 0; i < 10; i++) {
      expect((await ask(lab, 2, HOSTNAME)).status).toBe(200);
      others = lab.nova.requests.filter(({ path }) => path.includes("slow")).length;
    }
    expect(others).toBeLessThan(200);
    expect((await Promise.all(crowd)).every(({ status }) => status === 404)).toBe(true);
  });

  it("that ask and hang up have no more at nova at a time than who waits, over connections that stay", async () => {
    await using lab = await startLab({ holdMs: 20_000 });
    const askedMs: number[] = [];
    lab.nova.fault = (_method, path) => {
      if (!path.includes("slow")) return undefined;
      askedMs.push(performance.now());
      return { kind: "slow", ms: 1_000 };
    };
    for (let i = 0; i < 64; i++) {
      const raw = await RawGuest.connect(lab, 1);
      raw.send(`GET /latest/slow?${i} HTTP/1.1\r\nHost: x\r\n\r\n`);
      await until(() => lab.proxy.status().inFlight === 1);
      raw.socket.resetAndDestroy();
      await until(() => lab.proxy.status().connections === 0);
    }
    expect(lab.nova.requests.length).toBeLessThanOrEqual(48);
    // A timer may fire a little early.
    const atATime = askedMs.map((at) => askedMs.filter((other) => other <= at && at - other < 990).length);
    expect(Math.max(...atATime)).toBe(16);
    expect(lab.nova.connections).toBeLessThanOrEqual(17);
    expect((await ask(lab, 1, HOSTNAME)).text).toBe("guest-1");
    expect((await ask(lab, 2, HOSTNAME)).text).toBe("guest-2");
  });

  it("that ask and hang up get their places at nova back when nova never answers", async () => {
    await using lab = await startLab({ holdMs: 700 });
    lab.nova.fault = (_method, path) => (path.includes("hang") ? { kind: "hang" } : undefined);
    for (let i = 0; i < 16; i++) {
      const raw = await RawGuest.connect(lab, 1);
      raw.send(`GET /latest/hang?${i} HTTP/1.1\r\nHost: x\r\n\r\n`);
      await until(() => lab.nova.requests.length === i + 1);
      raw.socket.resetAndDestroy();
    }
    expect((await ask(lab, 1, HOSTNAME)).text).toBe("guest-1");
  });

  it("are held to their rate while others ask, and let any boot through", async () => {
    await using lab = await startLab({ requestsPerSecond: 20, requestBurst: 30, holdMs: 5_000 });
    await ask(lab, 2, HOSTNAME);
    const boot = await Promise.all(Array.from({ length: 30 }, (_, i) => ask(lab, 1, `${HOSTNAME}?${i}`)));
    expect(boot.every(({ status }) => status === 200)).toBe(true);
    lab.nova.fault = () => ({ kind: "slow", ms: 20 });
    const start = performance.now();
    const asked: Promise<unknown>[] = [];
    const neighbour = setInterval(() => asked.push(ask(lab, 2, HOSTNAME)), 200);
    await Promise.all(Array.from({ length: 20 }, (_, i) => ask(lab, 1, `${HOSTNAME}?${i}`)));
    clearInterval(neighbour);
    await Promise.all(asked);
    expect(performance.now() - start).toBeGreaterThan(500);
    expect(lab.proxy.status().counters["delayed"]).toBeGreaterThan(0);
    expect(lab.log.lines.filter(({ message }) => /more than its share/.test(message))).toHaveLength(1);
  });

  it("are never held for asking one thing after another, nor for more than half of hold_time", async () => {
    await using lab = await startLab({ requestsPerSecond: 1, requestBurst: 1, holdMs: 1_000 });
    lab.nova.fault = () => ({ kind: "slow", ms: 20 });
    for (let i = 0; i < 10; i++) {
      await Promise.all([ask(lab, 1, `${HOSTNAME}?${i}`), ask(lab, 2, HOSTNAME)]);
    }
    expect(lab.proxy.status().counters["delayed"]).toBeUndefined();
    const crowd = Array.from({ length: 100 }, (_, i) => ask(lab, 1, `${HOSTNAME}?crowd${i}`));
    expect((await Promise.all(crowd)).filter(({ status }) => status === 200)).toHaveLength(100);
    expect(lab.proxy.status().counters["delayed"]).toBeGreaterThan(50);
  });

  it("have all there is while they are alone", async () => {
    await using lab = await startLab({ requestsPerSecond: 1, requestBurst: 1 });
    const replies = await Promise.all(Array.from({ length: 50 }, (_, i) => ask(lab, 1, `${HOSTNAME}?${i}`)));
    expect(replies.every(({ status }) => status === 200)).toBe(true);
    expect(lab.proxy.status().counters["delayed"]).toBeUndefined();
  });

  it("that say CONNECT and are gone before the answer harm nobody", async () => {
    await using lab = await startLab();
    const raws = await Promise.all(Array.from({ length: 50 }, () => RawGuest.connect(lab, 1)));
    for (const raw of raws) {
      raw.send("CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n");
      raw.socket.resetAndDestroy();
    }
    await until(() => lab.proxy.status().connections === 0);
    const polite = await RawGuest.connect(lab, 1);
    polite.send("CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n");
    await until(() => polite.state !== "open");
    expect(polite.statuses).toEqual([405]);
  });

  it("that are gone before they are accepted are nobody", async () => {
    await using lab = await startLab();
    const gone = Array.from({ length: 200 }, () => {
      const socket = connect({ host: "127.0.0.1", port: lab.tcpPort, localAddress: "127.0.0.1" });
      socket.on("connect", () => socket.write(GET, () => socket.resetAndDestroy()));
      return new Promise((resolve) => socket.on("error", () => undefined).on("close", resolve));
    });
    await Promise.all(gone);
    await until(() => lab.proxy.status().connections === 0 && lab.proxy.status().inFlight === 0);
    expect(lab.log.lines).toEqual([]);
  });

  it("cannot pile up requests by pipelining", async () => {
    await using lab = await startLab();
    lab.nova.fault = () => ({ kind: "hang" });
    const raw = await RawGuest.connect(lab, 1);
    raw.send(GET.repeat(5_000));
    await until(() => raw.state !== "open");
    await until(() => lab.proxy.status().inFlight === 0);
    await until(() => lab.proxy.status().connections === 0);
  });

  it("that do not read lose their connection, and hold nothing of nova's", async () => {
    await using lab = await startLab({ holdMs: 400 }, {}, { stuckMs: 2_000 });
    lab.nova.fault = () => ({ kind: "status", status: 200, body: Buffer.alloc(30_000_000, "a") });
    const raw = await RawGuest.connect(lab, 1);
    raw.socket.pause();
    raw.send(GET);
    await until(() => lab.nova.requests.length === 1);
    await until(() => lab.proxy.status().inFlight === 0, 20_000);
    expect(process.memoryUsage().arrayBuffers).toBeLessThan(120_000_000);
    raw.close();
  });

  it("leave no memory behind with a flood of malformed requests", { timeout: 60_000 }, async () => {
    await using lab = await startLab();
    const bad = [
      "\0\0\0\0\r\n\r\n",
      "GET / HTTP/1.1\r\nA\r\n\r\n",
      `GET /${"a".repeat(40_000)} HTTP/1.1\r\n`,
      "GET x HTTP/1.1\r\nHost: x\r\n\r\n",
    ];
    const flood = async (times: number): Promise<void> => {
      for (let i = 0; i < times; i += 50) {
        const raws = await Promise.all(Array.from({ length: 50 }, () => RawGuest.connect(lab, 1)));
        for (const [k, raw] of raws.entries()) raw.send(bad[k % bad.length] ?? "");
        await until(() => raws.every(({ statuses, state }) => statuses.length > 0 || state !== "open"));
        for (const raw of raws) raw.close();
      }
    };
    const heap = (): number => {
      globalThis.gc?.();
      return process.memoryUsage().heapUsed;
    };
    await flood(1_000);
    const before = heap();
    await flood(4_000);
    await until(() => lab.proxy.status().connections === 0);
    expect(heap() - before).toBeLessThan(30_000_000);
    expect(lab.proxy.status()).toMatchObject({ inFlight: 0, held: 0 });
    expect(lab.log.lines).toEqual([]);
    expect((await ask(lab, 2, HOSTNAME)).text).toBe("guest-2");
  });
});
