import type { Socket } from "node:net";
import { describe, expect, it } from "vitest";
import type { Question } from "../../../src/agent/proxy/answer.ts";
import { isCacheable } from "../../../src/agent/proxy/documents.ts";
import type { Timed } from "../../../src/agent/proxy/flight-context.ts";
import { AnswerHead } from "../../../src/agent/proxy/http/answer-head.ts";
import { KeptAnswers } from "../../../src/agent/proxy/kept-answers.ts";
import { StandInNova } from "../../support/nova.ts";
import { ask, instanceOf, RawGuest, SECRET, startLab, tenureOf, until } from "./lab.ts";
import { RawNova } from "./raw-nova.ts";

const HOSTNAME = "/latest/meta-data/hostname";

describe("requests that ask the same at the same time", () => {
  it("share one request to nova within an instance, and only there", async () => {
    await using lab = await startLab();
    lab.nova.fault = () => ({ kind: "slow", ms: 100 });
    const asked = [1, 1, 1, 1, 2, 2, 2].map((guest) => ask(lab, guest, "/openstack/latest/meta_data.json"));
    const bodies = (await Promise.all(asked)).map(({ text }) => JSON.parse(text).uuid);
    expect(bodies).toEqual([1, 1, 1, 1, 2, 2, 2].map((guest) => tenureOf(guest).instanceId));
    expect(lab.nova.requests).toHaveLength(2);
    expect(lab.proxy.status().counters).toMatchObject({ coalesced: 5 });
  });

  it("do not share across other headers, other methods or bodies", async () => {
    await using lab = await startLab();
    lab.nova.fault = () => ({ kind: "slow", ms: 100 });
    await Promise.all([
      ask(lab, 1, HOSTNAME),
      ask(lab, 1, HOSTNAME, { headers: { Accept: "application/json" } }),
      ask(lab, 1, HOSTNAME, { method: "HEAD" }),
      ask(lab, 1, HOSTNAME, { method: "POST", body: "x" }),
      ask(lab, 1, HOSTNAME, { method: "POST", body: "x" }),
    ]);
    expect(lab.nova.requests).toHaveLength(5);
  });

  it("see a password that was posted meanwhile", async () => {
    await using lab = await startLab();
    const path = "/openstack/latest/password";
    lab.nova.fault = (method, _path, count) =>
      method === "GET" && count === 1 ? { kind: "slow", ms: 300 } : undefined;
    const first = ask(lab, 1, path);
    await until(() => lab.nova.requests.length === 1);
    await ask(lab, 1, path, { method: "POST", body: "pw" });
    expect((await ask(lab, 1, path)).text).toBe("pw");
    expect((await first).text).toBe("");
  });

  it("go on when the one that began has gone", async () => {
    await using lab = await startLab();
    lab.nova.fault = () => ({ kind: "slow", ms: 200 });
    const raw = await RawGuest.connect(lab, 1);
    raw.send(`GET ${HOSTNAME} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`);
    await until(() => lab.nova.requests.length === 1);
    const second = ask(lab, 1, HOSTNAME);
    await until(() => lab.proxy.status().inFlight === 2);
    raw.socket.resetAndDestroy();
    expect((await second).text).toBe("guest-1");
    expect(lab.nova.requests).toHaveLength(1);
  });
});

describe("a question that nova has lost", () => {
  it("fails whoever has waited for it, and nobody who comes after", async () => {
    await using lab = await startLab({ holdMs: 2_000 });
    lab.nova.fault = (_method, _path, count) => (count === 1 ? { kind: "hang" } : undefined);
    const first = ask(lab, 1, HOSTNAME);
    await until(() => lab.nova.requests.length === 1);
    await new Promise((resolve) => setTimeout(resolve, 300));
    const second = ask(lab, 1, HOSTNAME);
    expect((await first).status).toBe(504);
    expect((await ask(lab, 1, HOSTNAME)).text).toBe("guest-1");
    expect((await second).status).toBe(504);
  });
});

describe("the micro-cache", () => {
  it("is off at 0 and gives an answer again for its time otherwise", async () => {
    await using lab = await startLab();
    await ask(lab, 1, HOSTNAME);
    await ask(lab, 1, HOSTNAME);
    expect(lab.nova.requests).toHaveLength(2);
    lab.proxy.reconfigure({ ...lab.settings, cacheTtlMs: 300 });
    for (let i = 0; i < 5; i++) expect((await ask(lab, 1, HOSTNAME)).text).toBe("guest-1");
    expect(lab.nova.requests).toHaveLength(3);
    expect((await ask(lab, 2, HOSTNAME)).text).toBe("guest-2");
    const past = performance.now() + 320;
    await until(() => performance.now() > past);
    await ask(lab, 1, HOSTNAME);
    expect(lab.nova.requests).toHaveLength(5);
  });

  it("forgets at any change of the port, and when the guest writes", async () => {
    await using lab = await startLab({ cacheTtlMs: 15_000 });
    await ask(lab, 1, HOSTNAME);
    const { instanceId, projectId } = tenureOf(4);
    lab.tenures.set(1, { instanceId, projectId });
    expect((await ask(lab, 1, HOSTNAME)).text).toBe("guest-4");
    await ask(lab, 1, "/openstack/latest/password", { method: "POST", body: "x" });
    await ask(lab, 1, HOSTNAME);
    expect(lab.nova.requests.filter(({ path }) => path === HOSTNAME)).toHaveLength(3);
  });

  it("keeps nothing that was asked for before a write was carried out", async () => {
    let value = "old";
    let carryOut: (() => void) | undefined;
    const landing: (() => void)[] = [];
    const say = (socket: Socket, text: string) =>
      socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${text.length}\r\n\r\n${text}`);
    await using nova = await RawNova.start((socket, request) => {
      if (request.startsWith("POST")) {
        carryOut = () => {
          value = "new";
          say(socket, "done");
        };
      } else if (value === "old") landing.push(() => say(socket, "old"));
      else say(socket, value);
    });
    await using lab = await startLab({ cacheTtlMs: 15_000 });
    lab.proxy.reconfigure({ ...lab.settings, novaUrls: [nova.url] });
    const before = ask(lab, 1, HOSTNAME);
    await until(() => landing.length === 1);
    const posted = ask(lab, 1, HOSTNAME, { method: "POST", body: "x" });
    await until(() => carryOut !== undefined);
    const meanwhile = ask(lab, 1, HOSTNAME);
    await until(() => landing.length === 2);
    carryOut?.();
    await posted;
    expect((await ask(lab, 1, HOSTNAME)).text).toBe("new");
    for (const land of landing) land();
    expect((await Promise.all([before, meanwhile])).map(({ text }) => text)).toEqual(["old", "old"]);
    expect((await ask(lab, 1, HOSTNAME)).text).toBe("new");
  });

  it("keeps nothing for longer than it may be given again", async () => {
    const timed = new Set<Timed>();
    const answers = new KeptAnswers(timed);
    const question = (path: string): Question => {
      return { method: "GET", path, headers: [], headerLines: "", body: undefined, isSafe: true };
    };
    const answer = { head: new AnswerHead(200, "OK", []), body: "x" };
    answers.keep(question("/a"), answer, 0, 20);
    answers.keep(question("/b"), answer, 0, 60_000);
    expect([...timed]).toEqual([answers]);
    await until(() => performance.now() > answers.dueAt);
    answers.due();
    expect(answers.get(question("/a"), 0)).toBeUndefined();
    expect(answers.get(question("/b"), performance.now())).toBe(answer);
    expect(answers.dueAt).toBeGreaterThan(performance.now() + 50_000);
    answers.forget();
    expect(timed.size).toBe(0);
    answers.keep(question("/c"), answer, 1, 1);
    await until(() => performance.now() > answers.dueAt);
    answers.due();
    expect([answers.get(question("/c"), 0), timed.size]).toEqual([undefined, 0]);
  });

  it("follows its time when that is shortened, and nova when that is another", async () => {
    const other = await StandInNova.start({
      secret: SECRET,
      instances: [{ ...instanceOf(1), hostname: "new" }],
    });
    await using lab = await startLab({ cacheTtlMs: 15_000 });
    await ask(lab, 1, HOSTNAME);
    await ask(lab, 2, HOSTNAME);
    await new Promise((resolve) => setTimeout(resolve, 60));
    lab.proxy.reconfigure({ ...lab.settings, cacheTtlMs: 50 });
    await ask(lab, 1, HOSTNAME);
    expect(lab.nova.requests).toHaveLength(3);
    lab.proxy.reconfigure({ ...lab.settings, novaUrls: [other.url] });
    expect((await ask(lab, 1, HOSTNAME)).text).toBe("new");
    await other.close();
  });

  it("keeps no failure", async () => {
    await using lab = await startLab({ cacheTtlMs: 15_000 });
    lab.nova.fault = (_method, _path, count) => (count === 1 ? { kind: "status", status: 500 } : undefined);
    expect((await ask(lab, 1, HOSTNAME)).status).toBe(500);
    expect((await ask(lab, 1, HOSTNAME)).status).toBe(200);
  });

  it.each([
    "/openstack/latest/password",
    "/openstack/latest/%70assword",
    "/openstack/latest/vendor_data2.json",
    "/openstack//2018-08-27/meta_data.json?x",
    "/openstack/latest%2fmeta_data.json",
    "/openstack/%ff",
  ])("never keeps %s", (path) => {
    expect(isCacheable(path)).toBe(false);
  });
});
