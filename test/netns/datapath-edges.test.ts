import { execFile } from "node:child_process";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { baseScript } from "../../src/datapath/base-ruleset.ts";
import { fitsBatch } from "../../src/datapath/batch.ts";
import { DatapathError } from "../../src/datapath/error.ts";
import { factsOf, waysOutAround } from "../../src/datapath/fact.ts";
import { NfTablesSocket } from "../../src/datapath/nf-tables.ts";
import { NftProcess } from "../../src/datapath/nft-process.ts";
import type { Identity, Plumbing } from "../../src/datapath/plumbing.ts";
import { RtnetlinkSocket } from "../../src/datapath/rtnetlink-socket.ts";
import { scriptOf } from "../../src/datapath/script.ts";
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
      const { NftProcess } = await import("./src/datapath/nft-process.ts");
      const { NfTablesSocket } = await import("./src/datapath/nf-tables.ts");
      {
        const [nft, nfTables] = [new NftProcess(), new NfTablesSocket()];
        for (const ask of [() => nft.apply(["add table inet edge"]), () => nfTables.generation()]) {
          const error = await ask().catch((error) => error);
          process.stdout.write(error.code + ": " + error.message + "\\n");
        }
        process.exit(0);
      }`;
    const words = [
      "--bounding-set=-net_admin",
      "--inh-caps=-net_admin",
      process.execPath,
      "--import",
      "tsx",
      "--input-type=module",
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
});

describe("`NfTablesSocket`", () => {
  const nft = new NftProcess();
  let nfTables: NfTablesSocket;

  beforeEach(() => {
    nfTables = new NfTablesSocket();
  });

  afterEach(() => {
    nfTables.close();
  });

  test("`generation()` moves by one for each transaction, anybody's, and for nothing else", async () => {
    const first = await nfTables.generation();
    expect(await nfTables.generation()).toBe(first);
    await nft.apply(["add table inet edge", "add chain inet edge a", "add chain inet edge b"]);
    expect(await nfTables.generation()).toBe(first + 1);
    await must("nft", "add", "table", "ip", "other");
    expect(await nfTables.generation()).toBe(first + 2);
  });

  describe("`change()`", () => {
    const listing = async () => (await must("nft", "-a", "list", "ruleset")).replaceAll(/ # handle \d+/g, "");
    const plumbing = (index: number, ...identities: readonly Identity[]): Plumbing => ({
      portId: `7d9a6f1c-0000-4000-8000-00000000000${index}`,
      interfaceName: `edge${index}`,
      ifindex: 70_000 + index,
      mac: "fa:16:3e:0a:0b:0c",
      identities,
    });
    const ports: readonly (readonly [string, Plumbing])[] = [
      ["one IPv4 address", plumbing(0, { number: 1, fixedAddress: "10.0.0.1" })],
      [
        "the highest number, and both families",
        plumbing(
          0,
          { number: 65_533, fixedAddress: "203.0.113.255" },
          { number: 43_518, fixedAddress: "2001:db8::ffff:1" },
        ),
      ],
      [
        "many addresses",
        plumbing(
          0,
          ...Array.from({ length: 60 }, (_, at) => ({
            number: 300 + at,
            fixedAddress: at % 2 === 0 ? `10.9.8.${at}` : `fd00:${at}::7`,
          })),
        ),
      ],
    ];

    beforeEach(async () => {
      await must("ip", "link", "add", "edge0", "type", "veth", "peer", "name", "mn-metadata-p");
      await nft.apply(baseScript());
    });

    for (const [what, port] of ports) {
      test(`makes what nft makes, to the letter, and takes it away: ${what}`, async () => {
        const facts = [...factsOf(port), ...waysOutAround(port.ifindex)];
        const empty = await listing();
        await nft.apply(scriptOf([], facts));
        const byNft = await listing();
        await nft.apply(scriptOf(facts, []));
        expect(await listing()).toBe(empty);
        expect(fitsBatch([], facts)).toBe(true);
        expect(await nfTables.change([], facts)).toBe(true);
        expect(await listing()).toBe(byNft);
        expect(byNft).toContain(port.portId);
        expect(await nfTables.change(facts, facts)).toBe(true);
        expect(await listing()).toBe(byNft);
        expect(await nfTables.change(facts, [])).toBe(true);
        expect(await listing()).toBe(empty);
      });
    }

    test("refuses as a whole what cannot be, moves no generation, and goes on", async () => {
      const [good, bad] = [ports[0]?.[1], plumbing(0, { number: 9, fixedAddress: "10.0.0.9" })];
      if (good === undefined) throw new Error("There is no port to try");
      const before = await nfTables.generation();
      expect(await nfTables.change(factsOf(bad), factsOf(good))).toBe(false);
      expect(await nfTables.change(factsOf(good), [])).toBe(false);
      expect(await nfTables.generation()).toBe(before);
      expect(await nfTables.change([], factsOf(good))).toBe(true);
      expect(await nfTables.generation()).toBe(before + 1);
      await must("nft", "flush", "ruleset");
      expect(await nfTables.change([], factsOf(good))).toBe(false);
    });

    test("lets the event loop go on while somebody else's transaction holds nf_tables", async () => {
      const facts = factsOf(ports[0]?.[1] ?? plumbing(0));
      const elements = Array.from(
        { length: 150_000 },
        (_, at) => `10.${at >> 16}.${(at >> 8) & 255}.${at & 255}`,
      );
      const load = `add table inet edge\nadd set inet edge s { type ipv4_addr; }\nadd element inet edge s { ${elements.join(", ")} }`;
      let longestMs = 0;
      let longestChangeMs = 0;
      let last = performance.now();
      const ticker = setInterval(() => {
        const now = performance.now();
        longestMs = Math.max(longestMs, now - last);
        last = now;
      }, 5);
      // Only where a change had to wait does it say anything that the event loop had not to.
      for (let tries = 0; longestChangeMs <= 100 && tries < 5; tries++) {
        let isLoaded = false;
        const loaded = nft.apply([load]).finally(() => {
          isLoaded = true;
        });
        while (!isLoaded) {
          const began = performance.now();
          expect(await nfTables.change([], facts)).toBe(true);
          expect(await nfTables.change(facts, [])).toBe(true);
          longestChangeMs = Math.max(longestChangeMs, performance.now() - began);
          await new Promise((resolve) => setTimeout(resolve, 5));
        }
        await loaded;
        await nft.apply(["delete table inet edge"]);
      }
      clearInterval(ticker);
      expect(longestChangeMs).toBeGreaterThan(100);
      expect(longestMs).toBeLessThan(longestChangeMs / 2);
    });

    test("a chain that went with its device can still be taken away", async () => {
      const facts = factsOf(ports[0]?.[1] ?? plumbing(0));
      expect(await nfTables.change([], facts)).toBe(true);
      await must("ip", "link", "del", "edge0");
      expect(await nfTables.change(facts, [])).toBe(true);
    });

    test("what is too much at once is nft's", () => {
      const many = Array.from({ length: 9 }, (_, at) =>
        plumbing(at, { number: at + 1, fixedAddress: `10.0.0.${at}` }),
      );
      expect(fitsBatch([], many.flatMap(factsOf))).toBe(false);
      expect(fitsBatch([], many.slice(0, 8).flatMap(factsOf))).toBe(true);
      expect(fitsBatch(waysOutAround(1), waysOutAround(1))).toBe(false);
    });
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

  test("lists the IPv4 addresses of the host", async () => {
    const rtnetlink = new RtnetlinkSocket();
    await must("ip", "link", "add", "edge0", "type", "veth", "peer", "name", "edge1");
    await must("ip", "addr", "add", "169.254.9.1/30", "dev", "edge0");
    await must("ip", "addr", "add", "192.0.2.1", "peer", "192.0.2.2/32", "dev", "edge0");
    const addresses = await rtnetlink.ipv4Addresses();
    expect(addresses).toContainEqual({ address: "169.254.9.1", prefixLength: 30 });
    expect(addresses).toContainEqual({ address: "192.0.2.1", prefixLength: 32 });
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
