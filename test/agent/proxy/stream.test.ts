import type { Socket } from "node:net";
import { describe, expect, it } from "vitest";
import { type Lab, RawGuest, rawExchange, startLab, until } from "./lab.ts";
import { RawNova } from "./raw-nova.ts";

async function labOf(nova: RawNova, holdMs: number): Promise<Lab> {
  const lab = await startLab({ holdMs });
  lab.proxy.reconfigure({ ...lab.settings, novaUrls: [nova.url] });
  return lab;
}

const get = (path: string) => `GET ${path} HTTP/1.1\r\nHost: x\r\n\r\n`;
const ok = (body: string) => `HTTP/1.1 200 OK\r\nContent-Length: ${body.length}\r\n\r\n${body}`;

describe("an answer that is read late", () => {
  it("keeps no other guest's question waiting on the line that it came over", async () => {
    const mid = "x".repeat(262_200);
    let slow: Socket | undefined;
    await using nova = await RawNova.start((socket, request) => {
      if (request.startsWith("GET /slow")) slow = socket;
      else socket.write(ok(request.startsWith("GET /mid") ? mid : "small"));
    });
    await using lab = await labOf(nova, 1_500);
    const late = await RawGuest.connect(lab, 1);
    late.send(get("/slow") + get("/mid"));
    await until(() => nova.requests.length === 2);
    const { proxy } = lab;
    for (let guest = 2; guest <= 4; guest++)
      expect((await rawExchange(lab, guest, get("/small"))).statuses).toEqual([200]);
    slow?.write(ok("slow"));
    await until(() => proxy.status().inFlight === 0);
    await until(() => late.text.endsWith(mid));
    expect(late.statuses).toEqual([200, 200]);
    late.close();
  });
});

describe("answers that go on and on", () => {
  /** Begins an answer that is too large to be held, and never ends it. */
  const drip = (socket: Socket): void => {
    socket.write(`HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n${"x".repeat(300_000)}`);
    const timer = setInterval(() => socket.write("x".repeat(1_000)), 200);
    socket.on("close", () => clearInterval(timer));
  };
  const answer = (socket: Socket, request: string): void => {
    if (request.startsWith("GET /drip")) drip(socket);
    else socket.write(ok("small"));
  };

  const askedBy = async (lab: Lab, guests: number): Promise<RawGuest[]> => {
    const asking: RawGuest[] = [];
    for (let guest = 1; guest <= guests; guest++) {
      for (let at = 0; at < 16; at++) {
        const raw = await RawGuest.connect(lab, guest);
        raw.send(get(`/drip?${at}`));
        asking.push(raw);
      }
    }
    return asking;
  };

  it("keep no other guest from nova", async () => {
    await using nova = await RawNova.start(answer);
    await using lab = await labOf(nova, 8_000);
    const asking = await askedBy(lab, 8);
    await until(() => nova.requests.length === 128);
    expect((await rawExchange(lab, 9, get("/small"))).statuses).toEqual([200]);
    expect(asking.map(({ state }) => state)).toEqual(asking.map(() => "open"));
    for (const raw of asking) raw.close();
  });

  it("are cut where there are more than are kept, the oldest of whoever has the most", async () => {
    await using nova = await RawNova.start(answer);
    await using lab = await labOf(nova, 8_000);
    const few = await RawGuest.connect(lab, 9);
    few.send(get("/drip"));
    await until(() => nova.requests.length === 1);
    lab.tenures.set(10);
    const many = await askedBy(lab, 8);
    const others: RawGuest[] = [];
    for (let at = 0; at < 16; at++) {
      const raw = await RawGuest.connect(lab, 10);
      raw.send(get(`/drip?${at}`));
      others.push(raw);
    }
    const cut = () => [...many, ...others].filter(({ state }) => state !== "open").length;
    await until(() => nova.requests.length === 145 && cut() === 17);
    expect((await rawExchange(lab, 9, get("/small"))).statuses).toEqual([200]);
    expect([few.state, cut()]).toEqual(["open", 17]);
    for (const raw of [few, ...many, ...others]) raw.close();
  });
});

describe("a question that gets no place at nova in time", () => {
  it("is told that it is not nova's doing", async () => {
    await using nova = await RawNova.start(() => undefined);
    await using lab = await labOf(nova, 500);
    const asking: RawGuest[] = [];
    for (let guest = 1; guest <= 8; guest++) {
      for (let at = 0; at < 16; at++) {
        const raw = await RawGuest.connect(lab, guest);
        raw.send(get(`/openstack/latest/vendor_data2.json?${at}`));
        asking.push(raw);
      }
    }
    await until(() => nova.requests.length === 128);
    const { text } = await rawExchange(lab, 9, get("/small"));
    expect(text).toMatch(/503 this agent has as much at nova as it may at the moment/);
    for (const raw of asking) raw.close();
  });
});
