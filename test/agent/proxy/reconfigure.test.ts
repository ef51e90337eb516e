import { createHmac } from "node:crypto";
import type { Socket } from "node:net";
import { describe, expect, it } from "vitest";
import { Secret } from "../../../src/config/secret.ts";
import { type Lab, RawGuest, rawExchange, SECRET, startLab, until } from "./lab.ts";
import { RawNova } from "./raw-nova.ts";

const GET = "GET /openstack/latest/user_data HTTP/1.1\r\nHost: x\r\n\r\n";
const ok = (body: string) => `HTTP/1.1 200 OK\r\nContent-Length: ${body.length}\r\n\r\n${body}`;

async function labOf(novas: readonly RawNova[], over: { holdMs: number }): Promise<Lab> {
  const lab = await startLab(over);
  lab.proxy.reconfigure({ ...lab.settings, novaUrls: novas.map(({ url }) => url) });
  return lab;
}

describe("a question that hangs at a nova that is no longer configured", () => {
  it("is asked at the new one, and none that comes after the change waits for it", async () => {
    await using old = await RawNova.start(() => undefined);
    await using good = await RawNova.start((socket) => socket.write(ok("good")));
    await using lab = await labOf([old], { holdMs: 5_000 });
    const waiting = await RawGuest.connect(lab, 1);
    waiting.send(GET);
    await until(() => old.requests.length === 1);
    lab.proxy.reconfigure({ ...lab.settings, novaUrls: [good.url] });
    const later = await rawExchange(lab, 1, GET);
    expect(later.text).toMatch(/good$/);
    expect(waiting.statuses).toEqual([]);
    await until(() => waiting.text.endsWith("good"));
    expect(old.requests).toHaveLength(1);
    waiting.close();
  });

  it("is asked at another in time where that one was one of two", async () => {
    const hung = new Set<string>();
    const answer = (name: string) => (socket: Socket) => {
      if (!hung.has(name)) socket.write(ok(name));
    };
    await using a = await RawNova.start(answer("a"));
    await using b = await RawNova.start(answer("b"));
    await using lab = await labOf([a, b], { holdMs: 5_000 });
    const { text } = await rawExchange(lab, 1, GET);
    const [stays, goes, name] = text.endsWith("a") ? [b, a, "a"] : [a, b, "b"];
    hung.add(name);
    const waiting = await RawGuest.connect(lab, 1);
    waiting.send(GET);
    await until(() => goes.requests.length === 2);
    lab.proxy.reconfigure({ ...lab.settings, novaUrls: [stays.url] });
    await until(() => waiting.statuses.length === 1);
    expect(waiting.statuses).toEqual([200]);
    waiting.close();
  });

  it("is never asked twice where it is a POST", async () => {
    let carriedOut: (() => void) | undefined;
    await using old = await RawNova.start((socket) => {
      carriedOut = () => socket.write(ok("done"));
    });
    await using good = await RawNova.start((socket) => socket.write(ok("good")));
    await using lab = await labOf([old], { holdMs: 5_000 });
    const waiting = await RawGuest.connect(lab, 1);
    waiting.send("POST /openstack/latest/password HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx");
    await until(() => old.requests.length === 1);
    lab.proxy.reconfigure({ ...lab.settings, novaUrls: [good.url] });
    const past = performance.now() + 1_300;
    await until(() => performance.now() > past);
    carriedOut?.();
    await until(() => waiting.statuses.length === 1);
    expect(waiting.text).toMatch(/done$/);
    expect(good.requests).toEqual([]);
    waiting.close();
  });
});

describe("a question that was asked with the wrong secret", () => {
  it("is not shared by who asks the same after the secret was set right", async () => {
    const answers: (() => void)[] = [];
    await using nova = await RawNova.start((socket, request) => {
      const [, id = ""] = /X-Instance-ID: (\S+)/i.exec(request) ?? [];
      const isSigned = request.includes(createHmac("sha256", SECRET).update(id).digest("hex"));
      const answer = isSigned ? ok("yours") : "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno";
      answers.push(() => socket.write(answer));
    });
    await using lab = await labOf([nova], { holdMs: 5_000 });
    const settings = { ...lab.settings, novaUrls: [nova.url] };
    lab.proxy.reconfigure({ ...settings, sharedSecret: new Secret("wrong") });
    const before = await RawGuest.connect(lab, 1);
    before.send(GET);
    await until(() => answers.length === 1);
    lab.proxy.reconfigure(settings);
    const after = await RawGuest.connect(lab, 1);
    after.send(GET);
    await until(() => lab.proxy.status().inFlight === 2);
    await until(() => {
      const { coalesced = 0 } = lab.proxy.status().counters;
      return answers.length + coalesced === 2;
    });
    for (const answer of answers) answer();
    await until(() => after.statuses.length === 1);
    expect(after.statuses).toEqual([200]);
    for (const guest of [before, after]) guest.close();
  });
});
