import { describe, expect, it } from "vitest";
import { createProxy } from "../../../src/agent/proxy/http-proxy.ts";
import {
  ask,
  FakeLog,
  FakeTenures,
  RawGuest,
  rawExchange,
  settingsFor,
  startLab,
  tenureOf,
  until,
} from "./lab.ts";

const HOSTNAME = "/latest/meta-data/hostname";

describe("a guest that is not known yet", () => {
  it("is held, and served as soon as its port is known", async () => {
    await using lab = await startLab();
    lab.tenures.remove(1);
    const asked = ask(lab, 1, HOSTNAME);
    await until(() => lab.proxy.status().held === 1);
    lab.tenures.set(1);
    expect((await asked).text).toBe("guest-1");
  });

  it("gets 503 and Retry-After while the ports have not been read, 404 once they have", async () => {
    await using lab = await startLab({ holdMs: 200 });
    lab.tenures.inSync = false;
    const early = await ask(lab, 99, HOSTNAME);
    expect(early.status).toBe(503);
    expect(early.headers["retry-after"]).toBe("1");
    expect(early.text).toMatch(/^503 the ports of this host are not known yet \(request \w+\)\n$/);
    lab.tenures.syncNow();
    expect((await ask(lab, 99, HOSTNAME)).status).toBe(404);
    expect(lab.nova.requests).toEqual([]);
  });

  it("is held while its port has no instance, then gets 404 and a line for the operator", async () => {
    await using lab = await startLab({ holdMs: 300 });
    lab.tenures.set(1, { instanceId: "" });
    const refused = await ask(lab, 1, HOSTNAME);
    expect(refused.status).toBe(404);
    expect(lab.log.lines).toMatchObject([
      { level: "warn", fields: { portId: tenureOf(1).portId, status: 404 } },
    ]);
    const asked = ask(lab, 1, HOSTNAME);
    await until(() => lab.proxy.status().held === 1);
    lab.tenures.set(1);
    expect((await asked).text).toBe("guest-1");
  });

  it("is not waited for longer because it asks for a document that nova is slow with", async () => {
    await using lab = await startLab({ holdMs: 300, slowDocumentMs: 20_000 });
    const slow = "/openstack/latest/vendor_data2.json";
    const began = performance.now();
    expect((await ask(lab, 99, slow)).status).toBe(404);
    lab.proxy.reconfigure({ ...lab.settings, novaUrls: ["http://127.0.0.1:9"] });
    expect((await ask(lab, 1, slow)).status).toBe(503);
    expect(performance.now() - began).toBeLessThan(10_000);
  });

  it("is not sent under a record that holds a line break", async () => {
    await using lab = await startLab({ holdMs: 100 });
    lab.tenures.set(1, { instanceId: "a\r\nX-Tenant-ID: evil" });
    lab.tenures.set(2, { projectId: "b\n" });
    expect((await ask(lab, 1, HOSTNAME)).status).toBe(404);
    expect((await ask(lab, 2, HOSTNAME)).status).toBe(404);
    expect(lab.nova.requests).toEqual([]);
  });
});

describe("endTenure()", () => {
  it("cuts the guest's connections, and no byte of an answer on its way reaches anybody", async () => {
    await using lab = await startLab();
    lab.nova.fault = () => ({ kind: "slow", ms: 150 });
    const old = await RawGuest.connect(lab, 1);
    old.send(`GET ${HOSTNAME} HTTP/1.1\r\nHost: x\r\n\r\n`);
    await until(() => lab.nova.requests.length === 1);
    const tenure = lab.tenures.tenureOf("127.0.0.1");
    if (tenure === undefined) throw new Error("guest 1 has no tenure");
    await lab.proxy.endTenure(tenure);
    lab.tenures.remove(1);
    await until(() => old.state !== "open");
    expect(old.received.length).toBe(0);
    expect(lab.proxy.status()).toMatchObject({ connections: 0, inFlight: 0 });
    lab.tenures.set(1, {
      portId: tenureOf(2).portId,
      instanceId: tenureOf(2).instanceId,
      projectId: tenureOf(2).projectId,
    });
    expect((await ask(lab, 1, HOSTNAME)).text).toBe("guest-2");
  });

  it("leaves the other guests' connections alone", async () => {
    await using lab = await startLab();
    const other = await RawGuest.connect(lab, 2);
    await lab.proxy.endTenure(lab.tenures.set(1));
    other.send(`GET ${HOSTNAME} HTTP/1.1\r\nHost: x\r\n\r\n`);
    await until(() => other.text.endsWith("guest-2"));
    other.close();
  });
});

describe("a connection whose address became another port's", () => {
  it("is destroyed instead of answered, also without endTenure()", async () => {
    await using lab = await startLab();
    lab.nova.fault = () => ({ kind: "slow", ms: 100 });
    const old = await RawGuest.connect(lab, 1);
    old.send(`GET ${HOSTNAME} HTTP/1.1\r\nHost: x\r\n\r\n`);
    await until(() => lab.nova.requests.length === 1);
    lab.tenures.set(1, {
      portId: tenureOf(3).portId,
      instanceId: tenureOf(3).instanceId,
      projectId: tenureOf(3).projectId,
    });
    await until(() => old.state !== "open");
    expect(old.received.length).toBe(0);
  });
});

describe("listen()", () => {
  it("names who may hold the address", async () => {
    await using lab = await startLab();
    const listening = lab.proxy.listen({ host: "127.0.0.1", tcpPort: lab.tcpPort });
    await expect(listening).rejects.toMatchObject({
      code: "address-in-use",
      message: expect.stringMatching(/midolman.*Neutron metadata agent.*ss -ltnp/s),
    });
  });

  it("says when no interface has the address", async () => {
    await using lab = await startLab();
    await expect(lab.proxy.listen({ host: "203.0.113.1", tcpPort: 0 })).rejects.toMatchObject({
      code: "address-not-available",
    });
  });

  it("listens on IPv6 beside IPv4", async () => {
    await using lab = await startLab();
    await lab.proxy.listen({ host: "::1", tcpPort: 0 });
    expect(lab.proxy.status().listening).toEqual([
      `127.0.0.1:${lab.tcpPort}`,
      expect.stringMatching(/^\[::1\]:\d+$/),
    ]);
  });

  it("refuses a nova URL that is none", () => {
    const options = { tenures: new FakeTenures(), log: new FakeLog() };
    for (const url of ["nova:8775", "ftp://x", ""]) {
      expect(() => createProxy({ ...options, settings: settingsFor([url]) })).toThrow(/nova_metadata_url/);
    }
  });
});

describe("close()", () => {
  it("lets what is in flight end and takes nothing new", async () => {
    const lab = await startLab();
    lab.nova.fault = () => ({ kind: "slow", ms: 200 });
    const asked = ask(lab, 1, HOSTNAME);
    await until(() => lab.nova.requests.length === 1);
    await lab.proxy.close(2_000);
    expect((await asked).text).toBe("guest-1");
    await expect(ask(lab, 1, HOSTNAME)).rejects.toThrow(/ECONNREFUSED/);
    await lab.nova.close();
  });

  it("does not wait longer than it may for guests that do not read", async () => {
    const lab = await startLab();
    const body = Buffer.alloc(250_000, "a");
    lab.nova.fault = () => ({ kind: "status", status: 200, body });
    const raw = await RawGuest.connect(lab, 1);
    raw.socket.pause();
    for (let at = 0; at < 40; at++) raw.send(`GET /big?${at} HTTP/1.1\r\nHost: x\r\n\r\n`);
    await until(() => lab.nova.requests.length >= 20);
    await until(() => lab.proxy.status().inFlight === 0);
    const began = performance.now();
    await lab.proxy.close(500);
    expect(performance.now() - began).toBeLessThan(5_000);
    raw.close();
    await lab.nova.close();
  });
});

describe("lastRequests()", () => {
  it("gives the last sixteen, the newest first, without the query", async () => {
    await using lab = await startLab();
    for (let i = 0; i < 20; i++) await ask(lab, 1, `/latest/meta-data/${i}?secret=1`);
    const last = lab.proxy.lastRequests(tenureOf(1).portId);
    expect(last.map(({ path }) => path)).toEqual(
      Array.from({ length: 16 }, (_, i) => `/latest/meta-data/${19 - i}`),
    );
    expect(last[0]).toMatchObject({
      method: "GET",
      status: 404,
      requestId: expect.stringMatching(/^\w{6}$/),
    });
  });
});

describe("IMDSv2", () => {
  const put = (guest: number, lab: { tcpPort: number }, headers: Record<string, string> = {}) =>
    ask(lab, guest, "/latest/api/token", {
      method: "PUT",
      headers: { "X-aws-ec2-metadata-token-ttl-seconds": "60", ...headers },
    });
  const withToken = (token: string) => ({ headers: { "X-aws-ec2-metadata-token": token } });

  it("gives a token that opens the guest's own metadata, and does not go to nova", async () => {
    await using lab = await startLab({ imdsv2: "required" });
    const { status, text, headers } = await put(1, lab);
    expect(status).toBe(200);
    expect(headers["x-aws-ec2-metadata-token-ttl-seconds"]).toBe("60");
    expect((await ask(lab, 1, HOSTNAME, withToken(text))).text).toBe("guest-1");
    expect(lab.nova.requests).toHaveLength(1);
    expect(lab.nova.requests[0]?.headers["x-aws-ec2-metadata-token"]).toBeUndefined();
    expect((await ask(lab, 2, HOSTNAME, withToken(text))).status).toBe(401);
    expect((await ask(lab, 1, HOSTNAME)).status).toBe(401);
  });

  it("lets requests without a token pass while optional, but not with a wrong one", async () => {
    await using lab = await startLab();
    expect((await ask(lab, 1, HOSTNAME)).status).toBe(200);
    expect((await ask(lab, 1, HOSTNAME, withToken("bm8="))).status).toBe(401);
    expect((await ask(lab, 1, HOSTNAME, withToken(""))).status).toBe(401);
  });

  it("refuses a token whose port now has another instance, and one that has ended", async () => {
    await using lab = await startLab();
    const { text: token } = await put(1, lab);
    const { text: short } = await put(2, lab, { "X-aws-ec2-metadata-token-ttl-seconds": "1" });
    lab.tenures.set(1, { instanceId: tenureOf(5).instanceId, projectId: tenureOf(5).projectId });
    expect((await ask(lab, 1, HOSTNAME, withToken(token))).status).toBe(401);
    expect((await ask(lab, 2, HOSTNAME, withToken(short))).status).toBe(200);
    const deadline = Date.now() + 1_000;
    await until(() => Date.now() > deadline);
    expect((await ask(lab, 2, HOSTNAME, withToken(short))).status).toBe(401);
  });

  it.each([
    [{ "X-aws-ec2-metadata-token-ttl-seconds": "0" }, 400],
    [{ "X-aws-ec2-metadata-token-ttl-seconds": "21601" }, 400],
    [{ "X-aws-ec2-metadata-token-ttl-seconds": "1e2" }, 400],
    [{ "X-Forwarded-For": "10.0.0.1" }, 403],
    [{ X_Forwarded_For: "10.0.0.1" }, 403],
  ])("answers a PUT with %j by %i", async (headers, status) => {
    await using lab = await startLab();
    expect((await put(1, lab, headers as Record<string, string>)).status).toBe(status);
  });

  it("answers a PUT without a time to live by 400, and other methods by 405", async () => {
    await using lab = await startLab();
    expect((await ask(lab, 1, "/latest/api/token", { method: "PUT" })).status).toBe(400);
    const get = await rawExchange(lab, 1, "GET /latest/api/token HTTP/1.1\r\nHost: x\r\n\r\n");
    expect(get.text).toMatch(/^HTTP\/1\.1 405 [\s\S]*\r\nAllow: PUT\r\n/);
  });
});
