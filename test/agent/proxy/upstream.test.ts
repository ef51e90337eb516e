import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, renameSync, rmSync } from "node:fs";
import { createServer as createHttpServer } from "node:http";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import type { ProxySettings } from "../../../src/agent/proxy/settings.ts";
import { Secret } from "../../../src/config/secret.ts";
import { StandInNova } from "../../support/nova.ts";
import { addressOf, ask, instanceOf, type Lab, RawGuest, SECRET, startLab, until } from "./lab.ts";
import { certificates } from "./raw-nova.ts";

const HOSTNAME = "/latest/meta-data/hostname";
const instances = [1, 2, 3, 4, 5, 6, 7, 8, 9].map((number) => instanceOf(number));

/**
 * So many that not even once in 10^17 runs all of them belong to one of two endpoints. Which one an instance belongs
 * to follows from the endpoint's URL, and that has another TCP port in every run.
 */
const MANY = Array.from({ length: 60 }, (_, index) => index + 1);
const manyInstances = MANY.map((number) => instanceOf(number));

async function startLabOfMany(over: Partial<ProxySettings> = {}): Promise<Lab> {
  const lab = await startLab(over, { instances: manyInstances });
  for (const guest of MANY) lab.tenures.set(guest);
  return lab;
}

describe("when nova fails", () => {
  it("holds a request while nova is away and answers it when nova is back", async () => {
    await using lab = await startLab({ holdMs: 5_000 });
    const { tcpPort } = lab.nova;
    await lab.nova.close();
    const asked = ask(lab, 1, HOSTNAME);
    await until(() => lab.proxy.status().endpoints[0]?.state === "ejected");
    const back = await StandInNova.start({ secret: SECRET, instances, tcpPort });
    expect((await asked).text).toBe("guest-1");
    await until(() =>
      lab.log.lines.some(({ level, message }) => level === "info" && /answers again/.test(message)),
    );
    await back.close();
  });

  it("answers what it holds, and what comes after, where the URL was wrong and is set right", async () => {
    await using lab = await startLab({ holdMs: 8_000 });
    lab.proxy.reconfigure({ ...lab.settings, novaUrls: ["http://127.0.0.1:9"] });
    const held = [1, 2].map((guest) => ask(lab, guest, HOSTNAME));
    await until(() => lab.proxy.status().inFlight === 2);
    lab.proxy.reconfigure(lab.settings);
    const began = performance.now();
    expect((await ask(lab, 1, HOSTNAME)).text).toBe("guest-1");
    expect((await Promise.all(held)).map(({ text }) => text)).toEqual(["guest-1", "guest-2"]);
    expect(performance.now() - began).toBeLessThan(5_000);
  });

  it("gives 503 and Retry-After when nova stays away", async () => {
    await using lab = await startLab({ holdMs: 400 });
    await lab.nova.close();
    const reply = await ask(lab, 1, HOSTNAME);
    expect(reply.status).toBe(503);
    expect(reply.headers["retry-after"]).toBe("1");
    expect(lab.log.lines.filter(({ level }) => level === "warn")).toHaveLength(2);
  });

  it("gives 504 when nova is slower than the deadline, and slow documents have their own", async () => {
    await using lab = await startLab({ holdMs: 300, slowDocumentMs: 3_000 });
    lab.nova.fault = () => ({ kind: "slow", ms: 800 });
    const [slow, vendor] = await Promise.all([
      ask(lab, 1, HOSTNAME),
      ask(lab, 1, "/openstack/latest/vendor_data2.json"),
    ]);
    expect(slow.status).toBe(504);
    expect(vendor.status).toBe(200);
  });

  it("retries a safe request that was reset before the first byte", async () => {
    await using lab = await startLab();
    lab.nova.fault = (_method, _path, count) => (count <= 3 ? { kind: "reset" } : undefined);
    expect((await ask(lab, 1, HOSTNAME)).text).toBe("guest-1");
    expect(lab.nova.requests).toHaveLength(4);
    expect(lab.proxy.status().endpoints[0]?.state).toBe("healthy");
  });

  it("goes elsewhere with what is safe when a nova takes everything and says nothing", async () => {
    const silent = createServer((socket) => socket.on("error", () => undefined));
    const questions: Socket[] = [];
    silent.on("connection", (socket) => questions.push(socket.resume()));
    await new Promise<void>((resolve) => silent.listen(0, "127.0.0.1", resolve));
    const address = silent.address();
    const silentUrl = `http://127.0.0.1:${typeof address === "object" ? address?.port : ""}`;
    await using lab = await startLabOfMany({ holdMs: 4_000 });
    lab.proxy.reconfigure({ ...lab.settings, novaUrls: [lab.nova.url, silentUrl] });
    const began = performance.now();
    const replies = await Promise.all(MANY.map((guest) => ask(lab, guest, HOSTNAME)));
    expect(replies.map(({ text }) => text)).toEqual(MANY.map((n) => `guest-${n}`));
    expect(performance.now() - began).toBeLessThan(3_000);
    expect(lab.proxy.status().endpoints[1]).toMatchObject({ state: "ejected", url: silentUrl });
    expect(lab.nova.requests).toHaveLength(MANY.length);
    for (const socket of questions) socket.destroy();
    silent.close();
  });

  it("asks again what sits in a stopped process of a nova that answers all others", async () => {
    await using lab = await startLab({ holdMs: 2_000 });
    // The first three reach a process of nova that answers nothing.
    let stuck = 0;
    lab.nova.fault = (_method, path) =>
      path === HOSTNAME && stuck++ < 3 ? { kind: "slow", ms: 60_000 } : undefined;
    const held = Promise.all([1, 2, 3].map((guest) => ask(lab, guest, HOSTNAME)));
    await until(() => stuck === 3);
    const others = Array.from({ length: 70 }, (_, n) =>
      ask(lab, 4 + (n % 6), `/latest/meta-data/instance-id?${n}`),
    );
    expect((await Promise.all(others)).map(({ status }) => status)).toEqual(others.map(() => 200));
    expect((await held).map(({ text }) => text)).toEqual(["guest-1", "guest-2", "guest-3"]);
    expect(stuck).toBe(6);
    expect(lab.log.lines.filter(({ message }) => /leaves requests unanswered/.test(message))).toHaveLength(1);
    expect(lab.proxy.status().endpoints[0]?.state).toBe("healthy");
  });

  it("asks nothing again of a nova that is slow for all, and no password twice", async () => {
    await using lab = await startLab({ holdMs: 600 });
    lab.nova.fault = () => ({ kind: "slow", ms: 5_000 });
    const statuses = Promise.all(
      Array.from({ length: 80 }, (_, n) => ask(lab, 1 + (n % 9), `/latest/meta-data/instance-id?${n}`)),
    );
    // Some have not had their turn by then.
    const told = new Set((await statuses).map(({ status }) => status));
    expect([...told].sort()).toEqual([503, 504]);
    expect(lab.nova.requests.length).toBeLessThanOrEqual(80);
    lab.nova.fault = (method) => (method === "POST" ? { kind: "slow", ms: 5_000 } : undefined);
    const before = lab.nova.requests.length;
    const posted = ask(lab, 1, "/openstack/latest/password", { method: "POST", body: "secret" });
    await until(() => lab.nova.requests.length === before + 1);
    await Promise.all(
      Array.from({ length: 80 }, (_, n) => ask(lab, 2, `/latest/meta-data/instance-id?${n}`)),
    );
    expect((await posted).status).toBe(504);
    expect(lab.nova.requests.filter(({ method }) => method === "POST")).toHaveLength(1);
  });

  it("stays with a nova that is too busy for GET / but answers guests", { timeout: 10_000 }, async () => {
    const busy = createHttpServer((req, res) => {
      if (req.url !== "/") res.end("busy");
    }).listen(0, "127.0.0.1");
    await once(busy, "listening");
    const { port } = busy.address() as AddressInfo;
    await using lab = await startLab();
    lab.proxy.reconfigure({ ...lab.settings, novaUrls: [`http://127.0.0.1:${port}`] });
    for (const began = performance.now(); performance.now() - began < 4_700; await sleep(100))
      expect((await ask(lab, 1, HOSTNAME)).text).toBe("busy");
    expect(lab.proxy.status().endpoints).toMatchObject([{ state: "healthy" }]);
    expect(lab.log.lines.filter(({ message }) => /nova cannot be reached/.test(message))).toEqual([]);
    busy.closeAllConnections();
    busy.close();
  });

  it.each([
    { kind: "empty" },
    { kind: "garbage", bytes: "HTTP/1.1 two hundred\r\n\r\n" },
    { kind: "truncate", by: "fin" },
    { kind: "status", status: 500 },
    { kind: "status", status: 403 },
    { kind: "hang" },
  ] as const)(
    "asks another nova where one answers GET / and documents with $kind",
    { timeout: 30_000 },
    async (fault) => {
      await using lab = await startLabOfMany({ holdMs: 9_000 });
      const other = await StandInNova.start({ secret: SECRET, instances: manyInstances });
      lab.proxy.reconfigure({ ...lab.settings, novaUrls: [lab.nova.url, other.url] });
      await until(() => lab.proxy.status().endpoints.every(({ state }) => state === "healthy"));
      lab.nova.fault = () => fault;
      const post = { method: "POST", body: "x" };
      // One guest after the other goes on asking, as guests do.
      const asked = MANY.map(async (guest, at) => {
        await sleep(at * 50);
        return ask(lab, guest, HOSTNAME);
      });
      const replies = await Promise.all(asked);
      expect(replies.filter(({ status }) => status !== 200)).toEqual([]);
      expect(lab.nova.requests.length).toBeGreaterThan(0);
      if (fault.kind === "hang") {
        expect(lab.proxy.status().endpoints[0]).toMatchObject({
          reason: expect.stringMatching(/no documents|nothing heard/),
        });
        lab.nova.requests.length = 0;
        expect(await Promise.all(MANY.map((guest) => ask(lab, guest, "/latest/meta-data/")))).toHaveLength(
          60,
        );
        expect(lab.nova.requests).toEqual([]);
      } else {
        for (const guest of MANY)
          await ask(lab, guest, "/openstack/latest/password", post).catch(() => undefined);
        const posts = [...lab.nova.requests, ...other.requests].filter(({ method }) => method === "POST");
        expect(posts).toHaveLength(MANY.length);
      }
      await other.close();
    },
  );

  it("leaves a slow nova its requests as long as it answers GET /", async () => {
    await using lab = await startLab({ holdMs: 4_000 });
    const other = await StandInNova.start({ secret: SECRET, instances });
    lab.nova.fault = () => ({ kind: "slow", ms: 1_500 });
    other.fault = lab.nova.fault;
    lab.proxy.reconfigure({ ...lab.settings, novaUrls: [lab.nova.url, other.url] });
    const replies = await Promise.all([1, 2, 3, 4].map((guest) => ask(lab, guest, HOSTNAME)));
    expect(replies.every(({ status }) => status === 200)).toBe(true);
    expect(lab.nova.requests.length + other.requests.length).toBe(4);
    await other.close();
  });

  it("never sends a POST twice", async () => {
    await using lab = await startLab();
    await ask(lab, 1, HOSTNAME);
    for (const kind of ["reset", "empty"] as const) {
      lab.nova.requests.length = 0;
      lab.nova.fault = () => ({ kind });
      const reply = await ask(lab, 1, "/openstack/latest/password", { method: "POST", body: "x" });
      expect(reply.status).toBe(502);
      expect(lab.nova.requests).toHaveLength(1);
    }
  });

  it("takes an empty reply as this request's failure: asked once more, then 502, no outage", async () => {
    await using lab = await startLab({}, { framing: "fin" });
    await until(() => lab.proxy.status().endpoints[0]?.state === "healthy");
    lab.nova.fault = (_method, path) => (path.endsWith("/x") ? { kind: "empty" } : undefined);
    for (let i = 0; i < 20; i++) expect((await ask(lab, 1, "/latest/user-data/x")).status).toBe(502);
    expect(lab.nova.requests.filter(({ path }) => path.endsWith("/x"))).toHaveLength(40);
    expect(lab.proxy.status().endpoints[0]?.state).toBe("healthy");
    expect((await ask(lab, 2, HOSTNAME)).text).toBe("guest-2");
    expect(lab.log.lines.filter(({ message }) => /one request/.test(message))).toHaveLength(1);
  });

  it("asks again over a new connection when a kept one has gone stale", async () => {
    await using lab = await startLab();
    for (let i = 0; i < 10; i++) {
      lab.nova.fault = () => undefined;
      expect((await ask(lab, 1, HOSTNAME)).status).toBe(200);
      // Nova's answer to whatever comes next over a used connection is a FIN, as at its idle time-out.
      const before = lab.nova.connections;
      lab.nova.fault = () => (lab.nova.connections === before ? { kind: "empty" } : undefined);
      expect((await ask(lab, 1, HOSTNAME)).status).toBe(200);
    }
  });

  it.each(["fin", "rst"] as const)(
    "shows an answer that nova cuts (%s) as a broken connection",
    async (by) => {
      await using lab = await startLab();
      lab.nova.fault = () => ({ kind: "truncate", by });
      await expect(ask(lab, 1, "/latest/meta-data/")).rejects.toThrow(/ECONNRESET|hang up/);
      lab.nova.fault = (_method, _path, count) => (count === 1 ? { kind: "truncate", by } : undefined);
      expect((await ask(lab, 1, HOSTNAME)).text).toBe("guest-1");
    },
  );

  it("resets the guest when a large answer breaks off halfway", async () => {
    await using lab = await startLab();
    const userData = Buffer.alloc(4_000_000, "a");
    lab.nova.add(instanceOf(1, userData));
    lab.nova.fault = () => ({ kind: "truncate", by: "rst" });
    const raw = await RawGuest.connect(lab, 1);
    raw.send("GET /latest/user-data HTTP/1.1\r\nHost: x\r\n\r\n");
    await until(() => raw.state !== "open");
    expect(raw.state).toBe("rst");
  });

  const garbage: Readonly<Record<string, string>> = {
    "no HTTP": "not http\r\n\r\n",
    "two lengths": "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
    "length and chunked":
      "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a length that is none": "HTTP/1.1 200 OK\r\nContent-Length: 0x5\r\n\r\nhello",
    "NUL in a header": "HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n",
    "a folded header": "HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n",
    "a blank before the colon": "HTTP/1.1 200 OK\r\nX : a\r\n\r\n",
    "a giant header": `HTTP/1.1 200 OK\r\nX: ${"a".repeat(70_000)}\r\n\r\n`,
    "a switch of protocols": "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
  };
  it.each(Object.entries(garbage))("answers 502 to %s, with and without a body", async (_name, bytes) => {
    await using lab = await startLab();
    lab.nova.fault = () => ({ kind: "garbage", bytes });
    expect((await ask(lab, 1, HOSTNAME)).status).toBe(502);
    expect((await ask(lab, 1, HOSTNAME, { method: "POST", body: "x" })).status).toBe(502);
  });

  it("retries a safe request on nova's 503 and passes the 503 on when it stays", async () => {
    await using lab = await startLab({ holdMs: 500 });
    lab.nova.fault = (_method, _path, count) => (count <= 2 ? { kind: "status", status: 503 } : undefined);
    expect((await ask(lab, 1, HOSTNAME)).text).toBe("guest-1");
    lab.nova.fault = () => ({ kind: "status", status: 503, body: Buffer.from("nova's own") });
    expect((await ask(lab, 2, HOSTNAME)).text).toBe("nova's own");
  });

  it("stops asking nova when the guest has gone", async () => {
    await using lab = await startLab();
    lab.nova.fault = () => ({ kind: "hang" });
    const raw = await RawGuest.connect(lab, 1);
    raw.send(`GET ${HOSTNAME} HTTP/1.1\r\nHost: x\r\n\r\n`);
    await until(() => lab.nova.requests.length === 1);
    raw.socket.resetAndDestroy();
    await until(() => lab.proxy.status().inFlight === 0);
  });
});

describe("several endpoints", () => {
  it("keep an instance at one of them and spread the instances", async () => {
    const other = await StandInNova.start({ secret: SECRET, instances: manyInstances });
    await using lab = await startLabOfMany();
    lab.proxy.reconfigure({ ...lab.settings, novaUrls: [lab.nova.url, other.url] });
    const servedBy = new Map<number, Set<string>>();
    for (let round = 0; round < 3; round++) {
      for (const guest of MANY) {
        const before = lab.nova.requests.length;
        await ask(lab, guest, HOSTNAME);
        const who = lab.nova.requests.length > before ? "one" : "other";
        servedBy.set(guest, (servedBy.get(guest) ?? new Set()).add(who));
      }
    }
    expect([...servedBy.values()].map((set) => set.size)).toEqual(MANY.map(() => 1));
    const ofOne = [...servedBy.values()].filter((set) => set.has("one")).length;
    expect(Math.abs(ofOne - (MANY.length - ofOne))).toBeLessThanOrEqual(2);
    await other.close();
  });

  it("have as many instances each, also after others have left", async () => {
    const other = await StandInNova.start({ secret: SECRET, instances: manyInstances });
    await using lab = await startLabOfMany();
    lab.proxy.reconfigure({ ...lab.settings, novaUrls: [lab.nova.url, other.url] });
    const askedOne = async (guests: readonly number[]) => {
      const asked: number[] = [];
      for (const guest of guests) {
        const before = lab.nova.requests.length;
        await ask(lab, guest, HOSTNAME);
        if (lab.nova.requests.length > before) asked.push(guest);
      }
      return asked;
    };
    const [early, late] = [MANY.slice(0, 30), MANY.slice(30)];
    const ofOne = await askedOne(early);
    // Of the first half all leave that belonged to one endpoint; who comes then makes up for it.
    for (const guest of ofOne) {
      const tenure = lab.tenures.tenureOf(addressOf(guest));
      if (tenure !== undefined) await lab.proxy.endTenure(tenure);
      lab.tenures.remove(guest);
    }
    const laterOfOne = await askedOne(late);
    const ofOther = early.length - ofOne.length + late.length - laterOfOne.length;
    expect(Math.abs(laterOfOne.length - ofOther)).toBeLessThanOrEqual(2);
    await other.close();
  });

  it("fail over at once when one is refused, and come back when it is well", async () => {
    const other = await StandInNova.start({ secret: SECRET, instances });
    await using lab = await startLabOfMany();
    lab.proxy.reconfigure({ ...lab.settings, novaUrls: [lab.nova.url, other.url] });
    const { tcpPort } = other;
    await other.close();
    const start = performance.now();
    for (const guest of MANY) expect((await ask(lab, guest, HOSTNAME)).status).toBe(200);
    expect(performance.now() - start).toBeLessThan(1_000);
    await until(() => lab.proxy.status().endpoints[1]?.state === "ejected");
    expect(lab.proxy.status().endpoints[1]?.reason).toMatch(/ECONNREFUSED/);
    const back = await StandInNova.start({ secret: SECRET, instances, tcpPort });
    await until(() => lab.proxy.status().endpoints[1]?.state === "healthy");
    await back.close();
  });

  it("pass over one whose health check fails", async () => {
    const other = await StandInNova.start({ secret: SECRET, instances });
    other.isUnwell = true;
    await using lab = await startLab();
    lab.proxy.reconfigure({ ...lab.settings, novaUrls: [other.url, lab.nova.url] });
    await until(() => lab.proxy.status().endpoints[0]?.state === "ejected");
    for (let guest = 1; guest <= 9; guest++) expect((await ask(lab, guest, HOSTNAME)).status).toBe(200);
    expect(other.requests).toEqual([]);
    await other.close();
  });

  it("move on soon from one that swallows connections", async () => {
    await using lab = await startLab();
    const { blackhole, stop } = await swallowing();
    lab.proxy.reconfigure({ ...lab.settings, novaUrls: [blackhole, lab.nova.url] });
    for (let guest = 1; guest <= 9; guest++) {
      const start = performance.now();
      expect((await ask(lab, guest, HOSTNAME)).status).toBe(200);
      expect(performance.now() - start).toBeLessThan(2_500);
    }
    stop();
  });

  it("are not slow where none of them lets anybody in: 503, to be tried again", async () => {
    await using lab = await startLab({ holdMs: 600 });
    const { blackhole, stop } = await swallowing();
    lab.proxy.reconfigure({ ...lab.settings, novaUrls: [blackhole], holdMs: 600 });
    const replies = await Promise.all([1, 2, 3].map((guest) => ask(lab, guest, HOSTNAME)));
    expect(replies.map(({ status, headers }) => [status, headers["retry-after"]])).toEqual(
      [1, 2, 3].map(() => [503, "1"]),
    );
    stop();
  });
});

describe("other kinds of endpoint", () => {
  it("may be unix sockets", async () => {
    const folder = mkdtempSync(join(tmpdir(), "mn-nova-"));
    await using lab = await startLab({}, { socketPath: join(folder, "nova.sock") });
    expect(lab.nova.url).toMatch(/^unix:\//);
    expect((await ask(lab, 1, HOSTNAME)).text).toBe("guest-1");
    rmSync(folder, { recursive: true });
  });

  it("may be https, verified against a CA, with a client certificate and a server name", async () => {
    const folder = mkdtempSync(join(tmpdir(), "mn-tls-"));
    const pem = certificates(folder);
    const tls = { key: pem.key, cert: pem.cert, ca: pem.cert, requestCert: true, rejectUnauthorized: true };
    const nova = await StandInNova.start({ secret: SECRET, instances, tls });
    await using lab = await startLab({ holdMs: 700 });
    const trusted = {
      caFile: join(folder, "cert.pem"),
      certFile: join(folder, "cert.pem"),
      keyFile: join(folder, "key.pem"),
      serverName: "nova.example",
    };
    lab.proxy.reconfigure({ ...lab.settings, novaUrls: [nova.url], tls: trusted });
    expect((await ask(lab, 1, HOSTNAME)).text).toBe("guest-1");
    lab.proxy.reconfigure({
      ...lab.settings,
      novaUrls: [nova.url],
      tls: { ...trusted, serverName: "other.example" },
    });
    expect((await ask(lab, 1, HOSTNAME)).status).toBe(503);
    expect(lab.proxy.status().endpoints[0]?.reason).toMatch(/altnames|ERR_TLS/);
    expect(() =>
      lab.proxy.reconfigure({
        ...lab.settings,
        novaUrls: [nova.url],
        tls: { ...trusted, caFile: "/none.pem" },
      }),
    ).toThrow(/\/none\.pem/);
    await nova.close();
    rmSync(folder, { recursive: true });
  });

  it("may renew their certificates in place", async () => {
    const folder = mkdtempSync(join(tmpdir(), "mn-tls-"));
    const before = await StandInNova.start({ secret: SECRET, instances, tls: certificates(folder) });
    const { tcpPort } = before;
    await using lab = await startLab({ holdMs: 3_000 });
    const caFile = join(folder, "cert.pem");
    const tls = { caFile, certFile: undefined, keyFile: undefined, serverName: "nova.example" };
    lab.proxy.reconfigure({ ...lab.settings, novaUrls: [before.url], tls });
    expect((await ask(lab, 1, HOSTNAME)).text).toBe("guest-1");
    await before.close();
    rmSync(caFile);
    const renewed = mkdtempSync(join(tmpdir(), "mn-tls-"));
    const after = await StandInNova.start({ secret: SECRET, instances, tls: certificates(renewed), tcpPort });
    const asked = ask(lab, 1, HOSTNAME);
    await until(() => lab.log.lines.some(({ message }) => /TLS files from before/.test(message)));
    renameSync(join(renewed, "cert.pem"), caFile);
    expect((await asked).text).toBe("guest-1");
    await after.close();
    for (const one of [folder, renewed]) rmSync(one, { recursive: true });
  });
});

describe("the shared secret", () => {
  it("may be ahead of nova's: the previous one is tried, and remembered", async () => {
    await using lab = await startLab();
    const rotating = { sharedSecret: new Secret("new"), previousSharedSecret: new Secret(SECRET) };
    lab.proxy.reconfigure({ ...lab.settings, ...rotating });
    expect((await ask(lab, 1, "/openstack/latest/password", { method: "POST", body: "pw" })).status).toBe(
      200,
    );
    expect(lab.nova.requests.map(({ status }) => status)).toEqual([403, 200]);
    await ask(lab, 2, HOSTNAME);
    expect(lab.nova.requests).toHaveLength(3);
    lab.nova.secret = "new";
    expect((await ask(lab, 3, HOSTNAME)).status).toBe(200);
    await ask(lab, 4, HOSTNAME);
    expect(lab.nova.requests.map(({ status }) => status)).toEqual([403, 200, 200, 403, 200, 200]);
    expect(lab.log.lines.filter(({ level }) => level === "error")).toEqual([]);
  });

  it("that differs is told to the operator once, with the key's name", async () => {
    await using lab = await startLab();
    lab.proxy.reconfigure({ ...lab.settings, sharedSecret: new Secret("wrong") });
    for (let i = 0; i < 5; i++) expect((await ask(lab, 1, HOSTNAME)).status).toBe(403);
    const errors = lab.log.lines.filter(({ level }) => level === "error");
    expect(errors).toHaveLength(1);
    expect(errors[0]?.message).toMatch(
      /^the shared secrets differ: .*agent\.openstack\.metadata\.shared_secret/,
    );
    expect(JSON.stringify(lab.log.lines)).not.toMatch(/wrong|[0-9a-f]{64}/);
  });
});

/** A listener whose backlog is full, so that further connections get no answer at all. */
async function swallowing(): Promise<{ blackhole: string; stop: () => void }> {
  const script = `import socket,time
s=socket.socket(); s.bind(("127.0.0.1",0)); s.listen(0); print(s.getsockname()[1],flush=True); time.sleep(60)`;
  const child = spawn("python3", ["-c", script], { stdio: ["ignore", "pipe", "inherit"] });
  const tcpPort = await new Promise<number>((resolve) =>
    child.stdout.once("data", (d) => resolve(Number(d))),
  );
  const fillers = [1, 2, 3].map(() =>
    connect({ host: "127.0.0.1", port: tcpPort }).on("error", () => undefined),
  );
  await until(() => fillers.some((socket) => !socket.connecting));
  return {
    blackhole: `http://127.0.0.1:${tcpPort}`,
    stop: () => {
      for (const socket of fillers) socket.destroy();
      child.kill();
    },
  };
}
