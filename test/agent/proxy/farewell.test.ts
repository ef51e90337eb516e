import type { Socket } from "node:net";
import { describe, expect, it } from "vitest";
import { type Lab, RawGuest, settingsFor, startLab, until } from "./lab.ts";
import { RawNova } from "./raw-nova.ts";

const get = (path: string, more = "") => `GET ${path} HTTP/1.1\r\nHost: x\r\n${more}\r\n`;
const hostname = get("/latest/meta-data/hostname");
/** What is larger streams, and stays in flight until it is read. */
const HELD_WHOLE_BYTES = 256 * 1024;
const CLOSE = "Connection: close\r\n";

const novaGiving = (size: number): Promise<RawNova> =>
  RawNova.start((socket) =>
    socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${size}\r\n\r\n${"a".repeat(size)}`),
  );

/** Reads so many bytes a second. */
async function readSlowly(raw: RawGuest, bytesPerSecond: number, isEnough: () => boolean): Promise<void> {
  while (!isEnough() && raw.state === "open") {
    const chunk = raw.socket.read(Math.min(bytesPerSecond / 20, raw.socket.readableLength)) as Buffer | null;
    if (chunk === null) raw.socket.read(0);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** Waits until something has not changed for a while. */
async function untilStill(value: () => number, forMs: number): Promise<void> {
  let [seen, since] = [value(), performance.now()];
  await until(() => {
    if (value() !== seen) [seen, since] = [value(), performance.now()];
    return performance.now() - since > forMs;
  }, 30_000);
}

describe.concurrent("a guest that reads slowly", () => {
  it("is not too late with what we do not read from it", { timeout: 60_000 }, async () => {
    await using nova = await novaGiving(250_000);
    await using lab = await startLab();
    lab.proxy.reconfigure(settingsFor([nova.url], { holdMs: 20_000 }));
    const raw = await RawGuest.connect(lab, 1);
    raw.socket.pause();
    const all = Array.from({ length: 60 }, (_, at) => get(`/${at}`)).join("");
    raw.send(all.slice(0, -10));
    await until(() => lab.proxy.status().inFlight === 0 && nova.requests.length === 59);
    raw.send(all.slice(-10));
    const start = performance.now();
    await readSlowly(raw, 400_000, () => performance.now() - start > 12_000);
    raw.socket.resume();
    await until(() => raw.state !== "open" || raw.received.length > 60 * 250_000);
    expect(raw.statuses).toEqual(Array.from({ length: 60 }, () => 200));
    raw.close();
  });

  it("is not taken for one that reads nothing", { timeout: 60_000 }, async () => {
    await using nova = await novaGiving(20_000_000);
    await using lab = await startLab();
    lab.proxy.reconfigure(settingsFor([nova.url]));
    const raw = await RawGuest.connect(lab, 1);
    raw.socket.pause();
    raw.send(get("/a"));
    const start = performance.now();
    await readSlowly(raw, 40_000, () => performance.now() - start > 27_000);
    expect(raw.state).toBe("open");
    expect(lab.proxy.status().connections).toBe(1);
    raw.close();
  });

  it("is not too late with a body that we do not read from it either", async () => {
    await using nova = await novaGiving(250_000);
    await using lab = await startLab();
    lab.proxy.reconfigure(settingsFor([nova.url], { holdMs: 2_000 }));
    const raw = await RawGuest.connect(lab, 1);
    raw.socket.pause();
    const all = Array.from({ length: 50 }, (_, at) => get(`/${at}`)).join("");
    raw.send(`${all}POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhe`);
    await until(() => lab.proxy.status().inFlight === 1 && nova.requests.length === 50);
    raw.send("llo");
    const start = performance.now();
    await readSlowly(raw, 400_000, () => performance.now() - start > 3_500);
    raw.socket.resume();
    await until(() => raw.state !== "open" || raw.received.length > 51 * 250_000);
    expect(raw.statuses).toEqual(Array.from({ length: 51 }, () => 200));
    raw.close();
  });
});

describe.concurrent("a guest that reads nothing", () => {
  it("is asked no more for, until it reads", { timeout: 60_000 }, async () => {
    await using nova = await novaGiving(250_000);
    await using lab = await startLab();
    lab.proxy.reconfigure(settingsFor([nova.url], { holdMs: 6_000 }));
    const raws = await Promise.all(Array.from({ length: 6 }, () => RawGuest.connect(lab, 1)));
    for (const [k, raw] of raws.entries()) {
      raw.socket.pause();
      raw.send(Array.from({ length: 64 }, (_, at) => get(`/${k}/${at}`)).join(""));
    }
    await until(() => lab.proxy.status().inFlight > 0);
    // For longer than nova has: what waits for the guest to read is not refused.
    await untilStill(() => nova.requests.length, 7_000);
    expect(lab.proxy.status().inFlight).toBeGreaterThan(0);
    const asked = nova.requests.length;
    expect(asked).toBeLessThan(6 * 64);
    const neighbour = await RawGuest.connect(lab, 2);
    neighbour.send(get("/neighbour"));
    await until(() => neighbour.statuses.length === 1);
    expect(nova.requests).toHaveLength(asked + 1);
    const late = await RawGuest.connect(lab, 1);
    late.send(get("/late"));
    // Counted only: to keep 96 MB in the way of RawGuest takes longer than nova has.
    const counts = raws.map(() => 0);
    for (const [k, { socket }] of raws.entries()) {
      const count = (chunk: Buffer): unknown => (counts[k] = (counts[k] ?? 0) + chunk.length);
      socket.removeAllListeners("data").on("data", count).resume();
    }
    await until(() => counts.every((count) => count > 64 * 250_000), 30_000);
    await until(() => late.statuses.length === 1);
    for (const raw of [...raws, neighbour, late]) raw.close();
  });
});

describe.concurrent("the last answer of a connection", () => {
  it.each([
    ["one", 200_000, get("/a", CLOSE), "\r\n", 1],
    ["a large one", 4_000_000, get("/a", CLOSE), "\r\n", 1],
    ["one with an answer before it", 30_000, get("/a") + get("/b", CLOSE), hostname, 2],
    ["one after which much comes", 200_000, get("/a", CLOSE), "x".repeat(3_000_000), 1],
    ["one before a refusal", 200_000, `${get("/a")}no request\r\n\r\n`, "x".repeat(3_000_000), 1],
  ])("comes whole, whatever the guest still says: %s", async (_, size, asked, more, answers) => {
    await using nova = await novaGiving(size);
    await using lab = await startLab();
    lab.proxy.reconfigure(settingsFor([nova.url]));
    const raw = await RawGuest.connect(lab, 1);
    raw.socket.pause();
    raw.send(asked);
    await until(() => nova.requests.length === answers);
    await until(() => size > HELD_WHOLE_BYTES || lab.proxy.status().inFlight === 0);
    raw.send(more);
    // As long as it takes until a careless end would have thrown the answer away.
    await new Promise((resolve) => setTimeout(resolve, 200));
    raw.socket.resume();
    await until(() => raw.state !== "open");
    expect(raw.state).toBe("fin");
    expect(raw.text.match(/a{1000}/g)).toHaveLength((answers * size) / 1_000);
  });

  it("leaves no connection behind with a guest that stays", async () => {
    await using nova = await novaGiving(200_000);
    await using lab = await startLab();
    lab.proxy.reconfigure(settingsFor([nova.url]));
    const raw = await RawGuest.connect(lab, 1);
    raw.send(get("/a", CLOSE));
    await until(() => raw.state === "fin");
    expect(lab.proxy.status().connections).toBe(1);
    await until(() => lab.proxy.status().connections === 0);
  });

  it("is not waited for with requests behind it that get none", async () => {
    const asked: Socket[] = [];
    await using nova = await RawNova.start((socket) => asked.push(socket));
    await using lab = await startLab();
    lab.proxy.reconfigure(settingsFor([nova.url]));
    const raw = await RawGuest.connect(lab, 1);
    raw.send(get("/a"));
    await until(() => asked.length === 1);
    const closed = lab.proxy.close(10_000);
    raw.send(get("/b") + get("/c"));
    await until(() => asked.length === 3);
    for (const socket of asked.slice(0, 2)) socket.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    await until(() => raw.state !== "open");
    expect(raw.statuses).toEqual([200, 200]);
    expect(lab.proxy.status().inFlight).toBe(0);
    raw.close();
    await closed;
  });
});

describe.concurrent("an answer that tells no length and is cut", () => {
  const OTHER = "dddddddd-0000-4000-8000-000000000001";
  it.each<[string, (lab: Lab) => unknown]>([
    ["at the end of the drain", ({ proxy }) => proxy.close(100)],
    ["when the row becomes another port's", ({ tenures }) => tenures.set(1, { portId: OTHER })],
    ["when the row becomes another instance's", ({ tenures }) => tenures.set(1, { instanceId: OTHER })],
  ])("is never taken for the whole: %s", async (_, cut) => {
    let stream: Socket | undefined;
    await using nova = await RawNova.start((socket) => {
      stream = socket;
      socket.write(`HTTP/1.1 200 OK\r\n\r\n${"a".repeat(400_000)}`);
    });
    await using lab = await startLab();
    lab.proxy.reconfigure(settingsFor([nova.url], { holdMs: 20_000 }));
    const raw = await RawGuest.connect(lab, 1);
    raw.send("GET /a HTTP/1.0\r\n\r\n");
    await until(() => raw.received.length > 400_000);
    const before = raw.received.length;
    await cut(lab);
    stream?.end("b".repeat(1_000));
    await until(() => raw.state !== "open");
    expect(raw.state).toBe("rst");
    expect(raw.received.length).toBe(before);
  });
});

/** A guest that has asked for sixty documents and reads none of them. */
async function slowGuest(lab: Lab, nova: RawNova): Promise<RawGuest> {
  const slow = await RawGuest.connect(lab, 1);
  slow.socket.pause();
  slow.send(Array.from({ length: 60 }, (_, at) => get(`/${at}`)).join(""));
  await until(() => nova.requests.length === 60 && lab.proxy.status().inFlight === 0);
  return slow;
}

describe("the thousandth connection of a guest", () => {
  it("does not end those over which answers are going out", { timeout: 60_000 }, async () => {
    await using nova = await novaGiving(250_000);
    await using lab = await startLab();
    lab.proxy.reconfigure(settingsFor([nova.url], { holdMs: 20_000 }));
    const slow = await slowGuest(lab, nova);
    const others = await Promise.all(Array.from({ length: 1_030 }, () => RawGuest.connect(lab, 1)));
    await until(() => lab.proxy.status().counters["evictedConnections"] === 7);
    slow.socket.resume();
    await until(() => slow.state !== "open" || slow.received.length > 60 * 250_000, 20_000);
    expect(slow.statuses).toEqual(Array.from({ length: 60 }, () => 200));
    for (const raw of [slow, ...others]) raw.close();
  });

  it("ends the one that reads least where all others are asking, and where all are, itself", async () => {
    const asked: Socket[] = [];
    await using nova = await RawNova.start((socket, request) => {
      if (request.includes("/same")) asked.push(socket);
      else socket.write(`HTTP/1.1 200 OK\r\nContent-Length: 250000\r\n\r\n${"a".repeat(250_000)}`);
    });
    await using lab = await startLab();
    lab.proxy.reconfigure(settingsFor([nova.url], { holdMs: 20_000 }));
    const slow = await slowGuest(lab, nova);
    const raws = await Promise.all(Array.from({ length: 1_023 }, () => RawGuest.connect(lab, 1)));
    for (const raw of raws) raw.send(get("/same"));
    await until(() => lab.proxy.status().inFlight === 1_023);
    const last = await RawGuest.connect(lab, 1);
    last.send(get("/same"));
    await until(() => lab.proxy.status().counters["evictedConnections"] === 1);
    slow.socket.resume();
    await until(() => slow.state !== "open");
    expect(slow.received.length).toBeLessThan(60 * 250_000);
    await until(() => lab.proxy.status().inFlight === 1_024);
    const late = await RawGuest.connect(lab, 1);
    await until(() => late.state !== "open");
    for (const socket of asked) socket.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    await until(() => [last, ...raws].every(({ statuses }) => statuses.length === 1));
    expect(lab.proxy.status().connections).toBe(1_024);
    for (const raw of [last, ...raws]) raw.close();
  });
});

describe.concurrent("a connection that is kept", () => {
  it("is not idle while a request arrives over it", { timeout: 40_000 }, async () => {
    await using lab = await startLab();
    const raw = await RawGuest.connect(lab, 1);
    raw.send(hostname);
    await until(() => raw.statuses.length === 1);
    await new Promise((resolve) => setTimeout(resolve, 13_500));
    raw.send(hostname.slice(0, 40));
    await new Promise((resolve) => setTimeout(resolve, 3_500));
    raw.send(hostname.slice(40));
    await until(() => raw.state !== "open" || raw.statuses.length === 2);
    expect(raw.statuses).toEqual([200, 200]);
    raw.close();
  });
});
