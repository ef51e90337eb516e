import type { Socket } from "node:net";
import { describe, expect, it } from "vitest";
import { ask, RawGuest, rawExchange, settingsFor, startLab, until } from "./lab.ts";
import { RawNova } from "./raw-nova.ts";

const HOSTNAME = "/latest/meta-data/hostname";
const get = (path: string, more = "") => `GET ${path} HTTP/1.1\r\nHost: x\r\n${more}\r\n`;
const PASSWORD = "POST /openstack/latest/password HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc";

describe("behind the last answer of a connection", () => {
  it("no POST is carried out, since nobody would hear its answer", async () => {
    await using lab = await startLab();
    lab.nova.fault = (_method, path) => (path === "/slow" ? { kind: "slow", ms: 200 } : undefined);
    const other = await RawGuest.connect(lab, 2);
    other.send(get("/slow"));
    const raw = await RawGuest.connect(lab, 1);
    await until(() => lab.nova.requests.length === 1 && lab.proxy.status().connections === 2);
    const closed = lab.proxy.close(3_000);
    raw.send(get("/slow") + PASSWORD);
    await closed;
    await until(() => raw.state !== "open");
    expect(raw.statuses).toEqual([404]);
    expect(lab.nova.requests.map(({ method }) => method)).toEqual(["GET", "GET"]);
    other.close();
    raw.close();
  });
});

describe("an answer that is whole", () => {
  it("reaches the guest although the next one is cut in the same turn", async () => {
    const cut = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nzz\r\n";
    let first: Socket | undefined;
    let second: Socket | undefined;
    let tries = 0;
    await using nova = await RawNova.start((socket, request) => {
      if (request.startsWith("GET /a")) first = socket;
      else if (++tries === 1) socket.end(cut);
      else second = socket;
      if (first === undefined || second === undefined) return;
      first.write("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfirst");
      second.end(cut);
    });
    await using lab = await startLab();
    lab.proxy.reconfigure(settingsFor([nova.url]));
    const raw = await RawGuest.connect(lab, 1);
    raw.send(get("/a") + get("/b"));
    await until(() => raw.state !== "open");
    expect(raw.text).toMatch(/first$/);
    raw.close();
  });
});

describe("a guest that does not read for a while", () => {
  const BODY = Buffer.alloc(250_000, 97);

  it("is refused nothing for that, whenever it asked", async () => {
    await using lab = await startLab({ holdMs: 3_000 });
    lab.nova.fault = (_method, path) =>
      path === HOSTNAME ? undefined : { kind: "status", status: 200, body: BODY };
    const raws = await Promise.all(Array.from({ length: 6 }, () => RawGuest.connect(lab, 1)));
    for (const [at, raw] of raws.entries()) {
      raw.socket.pause();
      raw.send(Array.from({ length: 60 }, (_, n) => get(`/${at}/${n}`)).join(""));
    }
    let seen = -1;
    while (lab.nova.requests.length !== seen) {
      seen = lab.nova.requests.length;
      await new Promise((resolve) => setTimeout(resolve, 300));
    }
    expect(seen).toBeLessThan(360);
    const late = await RawGuest.connect(lab, 1);
    late.send(get(HOSTNAME));
    await new Promise((resolve) => setTimeout(resolve, 4_500));
    expect(late.statuses).toEqual([]);
    for (const raw of raws) raw.close();
    await until(() => late.statuses.length > 0, 20_000);
    expect(late.text).toMatch(/guest-1$/);
    late.close();
  });

  it("has read everything when it has, also behind a farewell", async () => {
    await using lab = await startLab({ holdMs: 1_000 });
    lab.nova.fault = (_method, path) =>
      path === HOSTNAME ? undefined : { kind: "status", status: 200, body: BODY };
    const raws = await Promise.all(Array.from({ length: 90 }, () => RawGuest.connect(lab, 1)));
    for (const [at, raw] of raws.entries()) raw.send(get(`/${at}`, "Connection: close\r\n"));
    await until(() => raws.every(({ state }) => state !== "open"), 20_000);
    expect(raws.filter(({ received }) => received.length > BODY.length)).toHaveLength(90);
    expect((await ask(lab, 1, HOSTNAME)).text).toBe("guest-1");
    for (const raw of raws) raw.close();
  });
});

describe("a request of RTSP, which node's parser reads as well", () => {
  it.each(["PLAY", "SETUP", "DESCRIBE", "ANNOUNCE", "TEARDOWN"])(
    "is no request: %s ends in 400, and nova is none the worse",
    async (method) => {
      await using lab = await startLab();
      expect((await ask(lab, 2, HOSTNAME)).status).toBe(200);
      const before = lab.log.lines.length;
      const { statuses } = await rawExchange(lab, 1, `${method} ${HOSTNAME} RTSP/1.1\r\nHost: x\r\n\r\n`);
      expect(statuses).toEqual([400]);
      expect(lab.proxy.status().endpoints).toMatchObject([{ state: "healthy" }]);
      expect(lab.nova.requests).toHaveLength(1);
      expect(lab.log.lines.slice(before).filter(({ level }) => level === "warn")).toEqual([]);
    },
  );
});
