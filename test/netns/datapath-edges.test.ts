import { execFile } from "node:child_process";
import { afterEach, describe, expect, test } from "vitest";
import { DatapathError } from "../../src/datapath/error.ts";
import { NftProcess } from "../../src/datapath/nft-process.ts";
import { RtnetlinkSocket } from "../../src/datapath/rtnetlink-socket.ts";
import { must, run } from "../support/namespace.ts";

afterEach(async () => {
  await must("nft", "flush", "ruleset");
  await run("ip", "link", "del", "edge0");
});

function codeOf(promise: Promise<unknown>): Promise<string> {
  return promise.then(
    () => "no error",
    (error: unknown) => (error instanceof DatapathError ? `${error.code}: ${error.message}` : String(error)),
  );
}

describe("`NftProcess`", () => {
  test("says how to get nft where there is none", async () => {
    const nft = new NftProcess({ command: "nft-that-is-not-there" });
    expect(await codeOf(nft.apply([]))).toBe(
      'no-nft: Cannot run "nft-that-is-not-there": it is not installed. Install it: apt-get install nftables',
    );
  });

  test("says that it needs root where it lacks the privilege", async () => {
    const script = `
      import("./src/datapath/nft-process.ts").then(async ({ NftProcess }) => {
        const nft = new NftProcess();
        for (const ask of [() => nft.apply(["add table inet edge"]), () => nft.generation()]) {
          const error = await ask().catch((error) => error);
          process.stdout.write(error.code + ": " + error.message + "\\n");
        }
        process.exit(0);
      })`;
    const words = [
      "--bounding-set=-net_admin",
      "--inh-caps=-net_admin",
      process.execPath,
      "--import",
      "tsx",
      "-e",
      script,
    ];
    const said = await new Promise<string>((resolve) => {
      execFile("setpriv", words, (_, stdout, stderr) => resolve(stdout + stderr));
    });
    const lines = said.trim().split("\n");
    expect(lines).toHaveLength(2);
    for (const line of lines) expect(line).toMatch(/^no-privilege: .*CAP_NET_ADMIN: run it as root$/);
  });

  test("refuses a transaction as a whole, with nft's words", async () => {
    const nft = new NftProcess();
    const said = await codeOf(nft.apply(["add table inet edge", "delete table inet never"]));
    expect(said).toMatch(/^rejected: Cannot change the ruleset: the kernel refused \(line 2:.*No such file/);
    expect(await nft.listTable("inet", "edge")).toBeUndefined();
  });

  test("`generation()` moves by one for each transaction, anybody's, and for nothing else", async () => {
    const nft = new NftProcess();
    const first = await nft.generation();
    expect(await nft.generation()).toBe(first);
    await nft.apply(["add table inet edge", "add chain inet edge a", "add chain inet edge b"]);
    expect(await nft.generation()).toBe(first + 1);
    await must("nft", "add", "table", "ip", "other");
    expect(await nft.generation()).toBe(first + 2);
    nft.close();
  });
});

describe("`RtnetlinkSocket`", () => {
  test("makes a veth pair, sets it up and takes it away", async () => {
    const rtnetlink = new RtnetlinkSocket();
    await rtnetlink.addVeth("edge0", "edge1", "02:00:00:00:00:05");
    const made = await rtnetlink.linkNamed("edge0");
    expect(made).toMatchObject({ name: "edge0", up: false, linkKind: "veth", mac: "02:00:00:00:00:05" });
    const ifindex = made?.ifindex ?? 0;
    await rtnetlink.setUp(ifindex, { noArp: true });
    expect(await rtnetlink.linkAt(ifindex)).toMatchObject({ up: true, noArp: true });
    expect(await codeOf(rtnetlink.addVeth("edge0", "edge2", "02:00:00:00:00:05"))).toMatch(
      /^rejected: .*EEXIST/,
    );
    await rtnetlink.deleteLink(ifindex);
    expect(await rtnetlink.linkNamed("edge1")).toBeUndefined();
    rtnetlink.close();
  });

  test("makes a rule once and says whether there was one to take away", async () => {
    const rtnetlink = new RtnetlinkSocket();
    for (const from of ["192.0.2.1", "2001:db8::1"]) {
      await rtnetlink.addRule(from, 9_000, 9_000);
      await rtnetlink.addRule(from, 9_000, 9_000);
      expect(await rtnetlink.deleteRule(from, 9_000, 9_000)).toBe(true);
      expect(await rtnetlink.deleteRule(from, 9_000, 9_000)).toBe(false);
    }
    rtnetlink.close();
  });
});
