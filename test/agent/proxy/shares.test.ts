import { describe, expect, it } from "vitest";
import { RecentRequests } from "../../../src/agent/proxy/recent.ts";
import { Shares } from "../../../src/agent/proxy/shares.ts";
import { ask, startLab, tenureOf } from "./lab.ts";

const HOSTNAME = "/latest/meta-data/hostname";
const portOf = (n: number) => tenureOf(n).portId;

describe("what is known of a port", () => {
  it("stays when its tenure ends, and goes when many others have ended after it", () => {
    const shares = new Shares();
    const first = shares.of(portOf(1), 1);
    shares.ended(first);
    expect(shares.find(portOf(1))).toBe(first);
    for (let n = 2; n <= 300; n++) shares.ended(shares.of(portOf(n), 1));
    expect(shares.find(portOf(1))).toBeUndefined();
    expect(shares.find(portOf(300))).toBeDefined();
  });

  it("stays where it has another tenure and is used", () => {
    const shares = new Shares();
    const used = shares.of(portOf(1), 1);
    shares.ended(used);
    shares.revive(used);
    const late = shares.of(portOf(2), 1);
    shares.ended(late);
    for (let n = 3; n <= 300; n++) shares.ended(shares.of(portOf(n), 1));
    expect(shares.find(portOf(1))).toBe(used);
    expect(shares.find(portOf(2))).toBeUndefined();
    shares.revive(late);
    expect(shares.find(portOf(2))).toBe(late);
  });

  it("goes with its last connection where no port is known of an address", () => {
    const shares = new Shares();
    const [address, port] = [shares.of("169.254.0.9", 1), shares.of(portOf(1), 1)];
    shares.left(address);
    shares.left(port);
    expect([shares.find("169.254.0.9"), shares.find(portOf(1))]).toEqual([undefined, port]);
  });

  it("is found again when the port's address changes while it asks", async () => {
    await using lab = await startLab();
    const before = lab.tenures.set(1);
    expect((await ask(lab, 1, HOSTNAME)).status).toBe(200);
    await lab.proxy.endTenure(before);
    lab.tenures.set(1);
    expect((await ask(lab, 1, HOSTNAME)).status).toBe(200);
    expect(lab.proxy.lastRequests(portOf(1)).map(({ status }) => status)).toEqual([200, 200]);
  });
});

describe("what a port asked last", () => {
  it("is kept short, whatever it asked", () => {
    const recent = new RecentRequests();
    recent.add(0, "GET", `/${"p".repeat(30_000)}?q`, 404, 1, 1);
    recent.add(0, "GET", "/short?q", 200, 1, 2);
    const [short, long] = recent.list();
    expect(short?.path).toBe("/short");
    expect(long?.path).toMatch(/^\/p{255}…$/);
  });
});
